"""Safe unpacking of zip archives; the volumes of a split archive are joined first.

x.z01 x.z02 ... x.zip -> one archive with a corrected directory -> members checked -> files

The central directory of a split archive stores the volume of each member and its offset in that
volume, but `zipfile` requires a single file. Joining concatenates the volumes and rewrites the
offsets (PKWARE APPNOTE 6.3, Sec. 4.3, 4.4 and 8).
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
"""Marks a field whose value is stored in a zip64 extension."""

MAX_COMPRESSION_RATIO = 200
"""Maximum ratio of unpacked to packed size. Audio and arrays compress to about a third of their
size; a member that exceeds this ratio is treated as a zip bomb."""
MAX_TOTAL_BYTES = 1 << 40
MAX_MEMBERS = 1_000_000
RETRY_HINT = "download it again, or unpack it manually and pass the folder"
TRUST_HINT = "the archive is unsafe; download it from a trusted source"
VOLUMES_HINT = "download all volumes into one folder"
JOIN_HINT = "join it first: zip -s 0 split.zip --out joined.zip"


def unpack_archive(archive: Path, destination: Path) -> int:
    """Unpack an archive; files that already exist with the right size are skipped.

    Args:
        archive: ``.zip`` file; for a split archive, its last volume.
        destination: target folder; nothing is written outside it.

    Returns:
        number of files in the archive.

    Raises:
        InputError: the archive is damaged, a zip bomb, lacks a volume, or has a member whose
            path is outside the target folder.
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
    except RuntimeError as error:  # includes NotImplementedError for unsupported compression
        problem = f"{archive} is encrypted or its compression is not supported: {error}"
        raise InputError(problem, hint=RETRY_HINT) from error


def _check_sizes(members: list[zipfile.ZipInfo], archive: Path) -> None:
    total = sum(info.file_size for info in members)
    if len(members) > MAX_MEMBERS or total > MAX_TOTAL_BYTES:
        raise InputError(
            f"{archive} has too many files or is too large: {total / 2**30:.0f} GiB unpacked",
            hint=RETRY_HINT,
        )
    for info in members:
        if info.file_size > MAX_COMPRESSION_RATIO * max(info.compress_size, 1) + 1024:
            raise InputError(
                f"{info.filename} in {archive} would unpack to"
                f" {info.file_size / max(info.compress_size, 1):.0f} times its packed size",
                hint=TRUST_HINT,
            )


def _member_path(info: zipfile.ZipInfo, destination: Path, archive: Path) -> Path:
    """Return the target path of a member; refuse links and paths outside the folder."""
    path = PurePosixPath(info.filename.replace("\\", "/"))
    is_link = (info.external_attr >> 16) & 0o170000 == 0o120000
    if path.is_absolute() or ".." in path.parts or ":" in path.parts[0] or is_link:
        raise InputError(
            f"{info.filename} in {archive} is a link or outside the target folder",
            hint=TRUST_HINT,
        )
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
    """Yield the path of the archive, or of a temporary file with its joined volumes."""
    volumes = [*find_earlier_volumes(archive), archive]
    if len(volumes) == 1:
        yield archive
        return
    with temporary_folder(archive.parent) as folder:
        joined = folder / "joined.zip"
        _join_volumes(volumes, joined)
        yield joined


def find_earlier_volumes(archive: Path) -> list[Path]:
    """Return all volumes of a split archive but the last, in order: ``x.z01``, ``x.z02``, ...

    Raises:
        InputError: a volume between two others is missing.
    """
    volumes = {
        int(path.suffix[2:]): path
        for path in archive.parent.glob("*")
        if path.stem == archive.stem and re.fullmatch(r"\.[zZ][0-9]+", path.suffix)
    }
    for number in range(1, len(volumes) + 1):
        if number not in volumes:
            raise InputError(f"{archive}: missing volume .z{number:02d}", hint=VOLUMES_HINT)
    return [volumes[number] for number in sorted(volumes)]


def _join_volumes(volumes: list[Path], joined_path: Path) -> None:
    """Concatenate volumes into one archive and rewrite its central directory.

    Raises:
        InputError: a volume is missing, or the archive requires zip64.
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
            raise zipfile.BadZipFile("end of central directory record not found")
        end = list(END_RECORD.unpack_from(tail, end_start))
        _, disk, directory_disk, _, n_entries, size, offset, _ = end
        if disk != count - 1 or directory_disk >= count:
            raise InputError(
                f"{name}: expected {disk + 1} volumes, got {count}", hint=VOLUMES_HINT
            )
        if ZIP64_MARKER in (size, offset):
            raise InputError(f"{name} is a split zip64 archive", hint=JOIN_HINT)
        start = starts[directory_disk] + offset
        if start >= ZIP64_MARKER:
            raise InputError(f"{name} is larger than 4 GiB when joined", hint=JOIN_HINT)
        joined.seek(start)
        directory = bytearray(joined.read(size))
        _rewrite_offsets(directory, n_entries, starts)
        # The rewritten directory has the same length and replaces the old one in place.
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
            raise zipfile.BadZipFile("damaged central directory entry")
        entry[16] += volume_starts[entry[13]]
        entry[13] = 0
        DIRECTORY_ENTRY.pack_into(directory, position, *entry)
        position += DIRECTORY_ENTRY.size + entry[10] + entry[11] + entry[12]
