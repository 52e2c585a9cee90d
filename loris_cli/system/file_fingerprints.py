"""Files of weights that nobody here has seen: what each was when it was first loaded.

file -> SHA-256, reckoned once -> a note in the cache -> the same file ever after, or told of
"""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

from loris_cli.config import cache_home
from loris_cli.errors import OutputError
from loris_cli.system.atomic_files import atomic_write, printable_path


@dataclass(frozen=True, kw_only=True)
class FileFingerprint:
    """What a file is, and what it was when it was noted."""

    path: Path
    sha256: str
    recorded_sha256: str = field(compare=False)
    """Its SHA-256 at first; empty where it was never noted."""
    is_recorded: bool = field(compare=False)
    """Whether the note tells of the file as it is."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user should know of it."""
        if self.recorded_sha256 in ("", self.sha256):
            return ()
        return (
            f"{printable_path(self.path)} is another file than when it was first loaded:"
            f" its SHA-256 was {self.recorded_sha256[:12]}... and is {self.sha256[:12]}...",
        )


def fingerprint_record_path(path: Path) -> Path:
    """Where it is noted what a file was when it was first loaded."""
    place = hashlib.sha256(str(path.resolve()).encode(errors="surrogateescape")).hexdigest()
    return cache_home() / "models" / f"{place[:16]}.json"


def fingerprint_file(path: Path) -> FileFingerprint:
    """What a file is; it is only read where the note is of another size or time."""
    known = _read_record(fingerprint_record_path(path))
    noted = {key: known.get(key) for key in _stat_fields(path)} == _stat_fields(path)
    return FileFingerprint(
        path=path,
        sha256=str(known["sha256"]) if noted else compute_sha256(path),
        recorded_sha256=known.get("sha256", ""),
        is_recorded=noted,
    )


def record_fingerprint(fingerprint: FileFingerprint) -> None:
    """Note a file as it is. It only saves time: where there is no room all goes on."""
    place = fingerprint_record_path(fingerprint.path)
    told = {**_stat_fields(fingerprint.path), "sha256": fingerprint.sha256}
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(place, overwrite=True) as part:
            part.write_text(json.dumps(told), encoding="utf-8")
    except (OSError, OutputError):
        return


def read_recorded_sha256(path: Path) -> str | None:
    """What a file was at first, whether it is still there or not; None where nobody knows."""
    return _read_record(fingerprint_record_path(path)).get("sha256")


def compute_sha256(path: Path) -> str:
    """A file's SHA-256, 64 hex digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _stat_fields(path: Path) -> dict[str, object]:
    stat = path.stat()
    return {"path": str(path.resolve()), "bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns}


def _read_record(record_path: Path) -> dict[str, str]:
    """A note, or nothing where there is none, or none that can be read."""
    try:
        told = json.loads(record_path.read_text(encoding="utf-8"))
        digest = told["sha256"]
        return told if len(digest) == 64 and set(digest) <= set("0123456789abcdef") else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
