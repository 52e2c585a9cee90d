"""What came of each video: a record beside the clips, from which the manifest is made.

video's bytes -> sha256 -> records/SHA.json

A record is written after all files that it tells of. So a run that is killed leaves no record
of a video it was at, and the next run does that video again and no other.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from loris_cli.errors import InputError
from loris_cli.system.atomic_files import atomic_write, printable_path

Record = dict[str, Any]
"""What came of one video, as JSON has it.

``schema``; ``source``: name, sha256, bytes; ``settings``: the digest and what was asked for;
``tools``: versions; ``status``: ``done``, or ``failed`` with ``error`` and ``hint``;
``rejected``: why it gives no clip at all; ``clips``: rows as the manifest will have them, each
with ``measures`` and ``rejected``.
"""

RECORD_SCHEMA = 1
RECORDS_FOLDER = "records"
MAX_RECORD_BYTES = 16 << 20
HASH_BLOCK_BYTES = 1 << 20
REMAKE_HINT = "make the data set again with this version of loris"


def hash_file(path: Path) -> tuple[str, int]:
    """sha256 and size of a file.

    Raises:
        InputError: it cannot be read.
    """
    digest, size = hashlib.sha256(), 0
    try:
        with path.open("rb") as file:
            while block := file.read(HASH_BLOCK_BYTES):
                digest.update(block)
                size += len(block)
    except OSError as error:
        raise InputError(
            f"{printable_path(path)} cannot be read: {error.strerror}", hint="check the path"
        ) from error
    return digest.hexdigest(), size


def record_path(data_dir: Path, sha256: str) -> Path:
    """Where the record of a video lies."""
    return data_dir / RECORDS_FOLDER / f"{sha256[:32]}.json"


def write_record(data_dir: Path, record: Record) -> None:
    """Write a record, whole or not at all."""
    path = record_path(data_dir, record["source"]["sha256"])
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path, overwrite=True) as part:
        part.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def read_record(path: Path) -> Record | None:
    """Read a record; None where there is none.

    Raises:
        InputError: it is damaged, or of another version.
    """
    try:
        if path.stat().st_size > MAX_RECORD_BYTES:
            raise InputError(
                f"{printable_path(path)} is too large to be a record", hint=REMAKE_HINT
            )
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{printable_path(path)} is not a record", hint="remove it") from error
    if not isinstance(record, dict) or record.get("schema") != RECORD_SCHEMA:
        raise InputError(
            f"{printable_path(path)} is not a record of schema {RECORD_SCHEMA}",
            hint=REMAKE_HINT,
        )
    if not isinstance(record.get("clips"), list) or not isinstance(record.get("source"), dict):
        raise InputError(f"{printable_path(path)} is not a record", hint="remove it")
    return record


def read_records(data_dir: Path) -> list[Record]:
    """All records of a data set, in the order of their sources' names.

    Raises:
        InputError: one is damaged.
    """
    found = [
        read_record(path) for path in sorted((data_dir / RECORDS_FOLDER).glob("[!.]*.json"))
    ]
    return sorted(
        (record for record in found if record is not None),
        key=lambda record: (str(record["source"].get("name")), record["source"]["sha256"]),
    )


def files_are_complete(data_dir: Path, record: Record) -> bool:
    """Whether all files that a record tells of are there, in full length."""
    return all(
        path.is_file() and path.stat().st_size == told["bytes"]
        for path, told in iterate_clip_files(data_dir, record["clips"])
    )


def iterate_clip_files(
    data_dir: Path, clips: Iterable[Record]
) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Files of clips, and the ``bytes`` and ``sha256`` told of each."""
    for clip in clips:
        for name, told in clip["files"].items():
            yield data_dir / name, told
