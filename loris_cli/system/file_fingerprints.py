"""SHA-256 fingerprints of files, and cached records of their first load.

file -> SHA-256, computed once -> record in the cache -> comparison at later loads -> warning
"""

import hashlib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path

from loris_cli.config import cache_home
from loris_cli.errors import OutputError
from loris_cli.system.atomic_files import atomic_write


@dataclass(frozen=True, kw_only=True)
class FileFingerprint:
    """Current and recorded SHA-256 of a file."""

    path: Path
    sha256: str
    recorded_sha256: str = field(compare=False)
    """Recorded SHA-256; empty if there is no record."""
    is_recorded: bool = field(compare=False)
    """Whether size and modification time of the file match the record."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warning that the SHA-256 differs from the record; empty otherwise."""
        if self.recorded_sha256 in ("", self.sha256):
            return ()
        return (
            f"{self.path} has changed since it was first loaded:"
            f" its SHA-256 was {self.recorded_sha256[:12]}... and is now {self.sha256[:12]}...",
        )


def fingerprint_record_path(path: Path) -> Path:
    """Return the path of a file's fingerprint record."""
    digest = hashlib.sha256(str(path.resolve()).encode(errors="surrogateescape")).hexdigest()
    return cache_home() / "models" / f"{digest[:16]}.json"


def fingerprint_file(path: Path) -> FileFingerprint:
    """Return the fingerprint of a file; the file is only read if it differs from its record."""
    record, stat = _read_record(path), _stat_fields(path)
    is_recorded = stat.items() <= record.items()
    return FileFingerprint(
        path=path,
        sha256=str(record["sha256"]) if is_recorded else compute_sha256(path),
        recorded_sha256=record.get("sha256", ""),
        is_recorded=is_recorded,
    )


def record_fingerprint(fingerprint: FileFingerprint) -> None:
    """Save the fingerprint of a file. Write errors are ignored: the record only saves time."""
    path = fingerprint_record_path(fingerprint.path)
    record = {**_stat_fields(fingerprint.path), "sha256": fingerprint.sha256}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path, overwrite=True) as temporary_path:
            temporary_path.write_text(json.dumps(record), encoding="utf-8")
    except (OSError, OutputError):
        return


def read_recorded_sha256(path: Path) -> str | None:
    """Return the recorded SHA-256 of a file, which may be missing; None without a record."""
    return _read_record(path).get("sha256")


def compute_sha256(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _stat_fields(path: Path) -> dict[str, object]:
    stat = path.stat()
    return {"path": str(path.resolve()), "bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns}


def _read_record(path: Path) -> dict[str, str]:
    """Read the record of a file; empty if it is missing or invalid."""
    try:
        record = json.loads(fingerprint_record_path(path).read_text(encoding="utf-8"))
        is_valid = re.fullmatch("[0-9a-f]{64}", record["sha256"])
        return record if is_valid else {}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}
