"""Zip archives from anywhere, unpacked without harm; those in several volumes joined first.

x.z01 x.z02 ... x.zip -> one archive, its directory set right -> members checked -> files

Of a split archive each member says on which volume it begins and where in it; Python's reader,
like others, wants one file. Joining is writing the volumes one after the other and the
directory anew (PKWARE APPNOTE 6.3, Sec. 4.3, 4.4 and 8).
"""

import shutil
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from loris_cli.errors import InputError
from loris_cli.system.atomic_files import atomic_write, printable_path

END_RECORD = struct.Struct("<4s4H2LH")
END_RECORD_SIGNATURE = b"PK\x05\x06"
DIRECTORY_ENTRY = struct.Struct("<4s6H3L5H2L")
DIRECTORY_ENTRY_SIGNATURE = b"PK\x01\x02"
MAX_COMMENT_BYTES = 65_535
ZIP64_MARKER = 0xFFFF_FFFF
"""What stands in a field whose value is in a zip64 extension."""

MAX_COMPRESSION_RATIO = 200
"""Sound and arrays shrink to a third; what grows more than this from its packing is a bomb."""
MAX_TOTAL_BYTES = 1 << 40
MAX_MEMBERS = 1_000_000
DAMAGED_ARCHIVE_HINT = "download it again, or unpack it yourself and give the folder"


def unpack_archive(archive: Path, destination: Path) -> int:
    """Unpack an archive; files that are there in full length are left.

    Args:
        archive: the ``.zip``, the last of the volumes if it has several.
        destination: a folder; nothing is ever written outside it.

    Returns:
        how many files it holds.

    Raises:
        InputError: it is damaged, a bomb, lacks a volume, or a member's name leads elsewhere.
        OutputError: no room.
    """
    name = printable_path(archive)
    try:
        with _single_file(archive) as whole, zipfile.ZipFile(whole) as opened:
            members = [info for info in opened.infolist() if not info.is_dir()]
            _check_sizes(members, name)
            for info in members:
                _unpack_member(opened, info, _member_path(info, destination, name))
            return len(members)
    except OSError as error:
        raise InputError(
            f"{name} cannot be read: {error.strerror}", hint=DAMAGED_ARCHIVE_HINT
        ) from error
    except (zipfile.BadZipFile, zlib.error, EOFError, struct.error) as error:
        raise InputError(f"{name} is damaged: {error}", hint=DAMAGED_ARCHIVE_HINT) from error
    except (RuntimeError, NotImplementedError) as error:  # encrypted, or a rare compression
        raise InputError(
            f"{name} is packed in an unknown way: {error}", hint=DAMAGED_ARCHIVE_HINT
        ) from error


def _check_sizes(members: list[zipfile.ZipInfo], archive_name: str) -> None:
    total = sum(info.file_size for info in members)
    if len(members) > MAX_MEMBERS or total > MAX_TOTAL_BYTES:
        raise InputError(
            f"{archive_name} claims to hold {total / 2**30:.0f} GiB", hint=DAMAGED_ARCHIVE_HINT
        )
    for info in members:
        if info.file_size > MAX_COMPRESSION_RATIO * max(info.compress_size, 1) + 1024:
            raise InputError(
                f"{printable_path(info.filename)} in {archive_name} would unpack to"
                f" {info.file_size / max(info.compress_size, 1):.0f} times its size",
                hint="do not trust this archive",
            )


def _member_path(info: zipfile.ZipInfo, destination: Path, archive_name: str) -> Path:
    """Where a member belongs, if that is inside the folder."""
    path = PurePosixPath(info.filename.replace("\\", "/"))
    is_link = (info.external_attr >> 16) & 0o170000 == 0o120000
    if path.is_absolute() or ".." in path.parts or ":" in path.parts[0] or is_link:
        raise InputError(
            f"{printable_path(info.filename)} in {archive_name} leads out of the folder",
            hint="do not trust this archive",
        )
    return destination / path


def _unpack_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path) -> None:
    if target.is_file() and target.stat().st_size == info.file_size:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(target, overwrite=True) as part, archive.open(info) as member:
        with part.open("wb") as file:
            shutil.copyfileobj(member, file)


@contextmanager
def _single_file(archive: Path) -> Iterator[Path]:
    """The archive as one file: itself, or its volumes joined for the time being."""
    volumes = [*find_earlier_volumes(archive), archive]
    if len(volumes) == 1:
        yield archive
        return
    with tempfile.TemporaryDirectory(dir=archive.parent, prefix=".loris-") as folder:
        joined = Path(folder, "joined.zip")
        _join_volumes(volumes, joined)
        yield joined


def find_earlier_volumes(archive: Path) -> list[Path]:
    """The other volumes of a split archive in their order: ``x.z01``, ``x.z02``, ...

    Raises:
        InputError: one in the middle is missing.
    """
    found = sorted(
        path for path in archive.parent.glob("*") if _volume_number(path, archive) is not None
    )
    found.sort(key=lambda path: _volume_number(path, archive) or 0)
    for number, path in enumerate(found, 1):
        if _volume_number(path, archive) != number:
            raise InputError(
                f"{printable_path(archive)} lacks its volume .z{number:02d}",
                hint="download all volumes into one folder",
            )
    return found


def _volume_number(path: Path, archive: Path) -> int | None:
    digits = path.suffix.lower().removeprefix(".z")
    same = path.stem == archive.stem and path.suffix.lower() != ".zip"
    return int(digits) if same and digits.isdigit() else None


def _join_volumes(volumes: list[Path], joined_path: Path) -> None:
    """Write volumes as one archive whose directory points to where things now are.

    Raises:
        InputError: volumes are missing, or it is of the zip64 kind.
    """
    starts = [0]
    for volume in volumes:
        starts.append(starts[-1] + volume.stat().st_size)
    with joined_path.open("wb") as joined:
        for volume in volumes:
            with volume.open("rb") as file:
                shutil.copyfileobj(file, joined)
    name = printable_path(volumes[-1])
    with joined_path.open("r+b") as joined:
        tail_at = max(0, starts[-1] - END_RECORD.size - MAX_COMMENT_BYTES)
        joined.seek(tail_at)
        tail = joined.read()
        end_at = tail.rfind(END_RECORD_SIGNATURE)
        if end_at < 0:
            raise zipfile.BadZipFile("no end of a directory")
        end = list(END_RECORD.unpack_from(tail, end_at))
        _, disk, directory_disk, _, n_entries, size, offset, _ = end
        if disk != len(volumes) - 1 or directory_disk >= len(volumes):
            raise InputError(
                f"{name} has {disk + 1} volumes, of which {len(volumes)} are here",
                hint="download all volumes into one folder",
            )
        if ZIP64_MARKER in (size, offset):
            raise InputError(
                f"{name} is a split archive of the zip64 kind",
                hint="join it first: zip -s 0 split.zip --out whole.zip",
            )
        at = starts[directory_disk] + offset
        joined.seek(at)
        directory = bytearray(joined.read(size))
        _rewrite_offsets(directory, n_entries, starts)
        # The same length: the directory is written over the old one.
        joined.seek(at)
        joined.write(directory)
        end[1:4] = [0, 0, n_entries]
        end[6] = at
        if at >= ZIP64_MARKER:
            raise InputError(
                f"{name} is larger than 4 GiB when joined",
                hint="join it first: zip -s 0 split.zip --out whole.zip",
            )
        joined.seek(tail_at + end_at)
        joined.write(END_RECORD.pack(*end))


def _rewrite_offsets(directory: bytearray, n_entries: int, volume_starts: list[int]) -> None:
    """Count every member's place from the start of the joined file."""
    at = 0
    for _ in range(n_entries):
        entry = list(DIRECTORY_ENTRY.unpack_from(directory, at))
        if entry[0] != DIRECTORY_ENTRY_SIGNATURE or entry[13] >= len(volume_starts) - 1:
            raise zipfile.BadZipFile("a directory entry is damaged")
        entry[16] += volume_starts[entry[13]]
        entry[13] = 0
        DIRECTORY_ENTRY.pack_into(directory, at, *entry)
        at += DIRECTORY_ENTRY.size + entry[10] + entry[11] + entry[12]
