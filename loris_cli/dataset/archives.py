"""Safe unpacking of zip archives; volumes of a split archive are joined first.

x.z01 x.z02 ... x.zip -> one archive with a corrected directory -> members checked -> files

The directory of a split archive gives the volume of each member and its offset there; Python's
reader requires one file. Joining concatenates the volumes and rewrites the directory (PKWARE
APPNOTE 6.3, Sec. 4.3, 4.4 and 8).
"""

import re
import shutil
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from loris_cli.errors import InputError
from loris_cli.system.atomic_files import atomic_write, temporary_folder

END_RECORD = struct.Struct("<4s4H2LH")
END_RECORD_SIGNATURE = b"PK\x05\x06"
DIRECTORY_ENTRY = struct.Struct("<4s6H3L5H2L")
DIRECTORY_ENTRY_SIGNATURE = b"PK\x01\x02"
MAX_COMMENT_BYTES = 65_535
ZIP64_MARKER = 0xFFFF_FFFF
"""Marks a field whose value is in a zip64 extension."""

MAX_COMPRESSION_RATIO = 200
"""Audio and arrays shrink to a third; a member that expands more than this is a zip bomb."""
MAX_TOTAL_BYTES = 1 << 40
MAX_MEMBERS = 1_000_000
RETRY_HINT = "download it again, or unpack it yourself and give the folder"
TRUST_HINT = "do not trust this archive"
VOLUMES_HINT = "download all volumes into one folder"
JOIN_HINT = "join it first: zip -s 0 split.zip --out joined.zip"


def unpack_archive(archive: Path, destination: Path) -> int:
    """Unpack an archive; files that exist in full length are not written again.

    Args:
        archive: the ``.zip``, the last of the volumes if it has several.
        destination: a folder; nothing is written outside it.

    Returns:
        number of files in the archive.

    Raises:
        InputError: it is damaged, a zip bomb, lacks a volume, or a member's name leads out of
            the folder.
        OutputError: the disk is full.
    """
    try:
        with _single_file(archive) as path, zipfile.ZipFile(path) as opened:
            members = [info for info in opened.infolist() if not info.is_dir()]
            _check_sizes(members, archive)
            for info in members:
                _unpack_member(opened, info, _member_path(info, destination, archive))
            return len(members)
    except OSError as error:
        raise InputError(f"cannot read {archive}: {error.strerror}", hint=RETRY_HINT) from error
    except (zipfile.BadZipFile, zlib.error, EOFError, struct.error) as error:
        raise InputError(f"{archive} is damaged: {error}", hint=RETRY_HINT) from error
    except RuntimeError as error:  # encrypted, or `NotImplementedError`: a rare compression
        problem = f"{archive} is encrypted or its compression is not supported: {error}"
        raise InputError(problem, hint=RETRY_HINT) from error


def _check_sizes(members: list[zipfile.ZipInfo], archive: Path) -> None:
    total = sum(info.file_size for info in members)
    if len(members) > MAX_MEMBERS or total > MAX_TOTAL_BYTES:
        raise InputError(f"{archive} claims to hold {total / 2**30:.0f} GiB", hint=RETRY_HINT)
    for info in members:
        if info.file_size > MAX_COMPRESSION_RATIO * max(info.compress_size, 1) + 1024:
            raise InputError(
                f"{info.filename} in {archive} would unpack to"
                f" {info.file_size / max(info.compress_size, 1):.0f} times its size",
                hint=TRUST_HINT,
            )


def _member_path(info: zipfile.ZipInfo, destination: Path, archive: Path) -> Path:
    """Path of a member; it must lie inside the folder."""
    path = PurePosixPath(info.filename.replace("\\", "/"))
    is_link = (info.external_attr >> 16) & 0o170000 == 0o120000
    if path.is_absolute() or ".." in path.parts or ":" in path.parts[0] or is_link:
        raise InputError(f"{info.filename} in {archive} leaves the folder", hint=TRUST_HINT)
    return destination / path


def _unpack_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path) -> None:
    if target.is_file() and target.stat().st_size == info.file_size:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(target, overwrite=True) as temporary, archive.open(info) as member:
        with temporary.open("wb") as file:
            shutil.copyfileobj(member, file)


@contextmanager
def _single_file(archive: Path) -> Iterator[Path]:
    """The archive as one file: itself, or a temporary file of its joined volumes."""
    volumes = [*find_earlier_volumes(archive), archive]
    if len(volumes) == 1:
        yield archive
        return
    with temporary_folder(archive.parent) as folder:
        joined = folder / "joined.zip"
        _join_volumes(volumes, joined)
        yield joined


def find_earlier_volumes(archive: Path) -> list[Path]:
    """Return the other volumes of a split archive in their order: ``x.z01``, ``x.z02``, ...

    Raises:
        InputError: one in the middle is missing.
    """
    volumes = {
        int(path.suffix[2:]): path
        for path in archive.parent.glob("*")
        if path.stem == archive.stem and re.fullmatch(r"\.[zZ][0-9]+", path.suffix)
    }
    for number in range(1, len(volumes) + 1):
        if number not in volumes:
            raise InputError(f"{archive} lacks its volume .z{number:02d}", hint=VOLUMES_HINT)
    return [volumes[number] for number in sorted(volumes)]


def _join_volumes(volumes: list[Path], joined_path: Path) -> None:
    """Write volumes as one archive with a directory of offsets in it.

    Raises:
        InputError: volumes are missing, or it is a zip64 archive.
    """
    name, count = volumes[-1], len(volumes)
    with joined_path.open("w+b") as joined:
        starts = [0]
        for volume in volumes:
            with volume.open("rb") as file:
                shutil.copyfileobj(file, joined)
            starts.append(joined.tell())
        tail_start = max(0, starts[-1] - END_RECORD.size - MAX_COMMENT_BYTES)
        joined.seek(tail_start)
        tail = joined.read()
        end_start = tail.rfind(END_RECORD_SIGNATURE)
        if end_start < 0:
            raise zipfile.BadZipFile("the end of its directory is missing")
        end = list(END_RECORD.unpack_from(tail, end_start))
        _, disk, directory_disk, _, n_entries, size, offset, _ = end
        if disk != count - 1 or directory_disk >= count:
            raise InputError(f"{name} has {disk + 1} volumes, not {count}", hint=VOLUMES_HINT)
        if ZIP64_MARKER in (size, offset):
            raise InputError(f"{name} is a split zip64 archive", hint=JOIN_HINT)
        start = starts[directory_disk] + offset
        if start >= ZIP64_MARKER:
            raise InputError(f"{name} is larger than 4 GiB when joined", hint=JOIN_HINT)
        joined.seek(start)
        directory = bytearray(joined.read(size))
        _rewrite_offsets(directory, n_entries, starts)
        # The new directory is as long as the old one, and replaces it.
        joined.seek(start)
        joined.write(directory)
        end[1:4] = [0, 0, n_entries]
        end[6] = start
        joined.seek(tail_start + end_start)
        joined.write(END_RECORD.pack(*end))


def _rewrite_offsets(directory: bytearray, n_entries: int, volume_starts: list[int]) -> None:
    """Make the offset of every member relative to the start of the joined file."""
    position = 0
    for _ in range(n_entries):
        entry = list(DIRECTORY_ENTRY.unpack_from(directory, position))
        if entry[0] != DIRECTORY_ENTRY_SIGNATURE or entry[13] >= len(volume_starts) - 1:
            raise zipfile.BadZipFile("a directory entry is damaged")
        entry[16] += volume_starts[entry[13]]
        entry[13] = 0
        DIRECTORY_ENTRY.pack_into(directory, position, *entry)
        position += DIRECTORY_ENTRY.size + entry[10] + entry[11] + entry[12]
