"""Results reach their place whole or not at all.

check the names -> write beside the place, hidden -> flush -> rename
"""

import errno
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from loris_cli.errors import OutputError, UsageError

DISK_FULL_ERRNOS = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT}
NO_HARD_LINK_ERRNOS = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EACCES}
MAX_NAME_BYTES = 255  # of a file, in all file systems in common use
MAX_STEM_BYTES = 120  # of a hidden name: with its additions it stays below the usual 255


def printable_path(path: str | os.PathLike[str]) -> str:
    """A file's name fit for one line of a message: line ends and undecodable bytes escaped."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in os.fspath(path))


def check_output_paths(
    outputs: Iterable[Path], inputs: Iterable[Path], *, overwrite: bool
) -> None:
    """Refuse names that could not be written in the end, before the long work starts.

    Args:
        outputs: files that will be written.
        inputs: files that will be read; no output may be one of them, not even through a
            symbolic or a hard link, whatever ``overwrite`` says.
        overwrite: existing files may be replaced.

    Raises:
        UsageError: an output is an input, stands twice, exists, or has no folder.
        OutputError: the folder may not be written to.
    """
    inputs = list(inputs)
    seen: set[str] = set()
    for out in outputs:
        name = printable_path(out)
        place = os.path.realpath(out)
        if place in seen:
            raise UsageError(
                f"two results would be written to {name}",
                hint="give each input a name of its own",
            )
        seen.add(place)
        if any(_is_same_file(out, source) for source in inputs):
            raise UsageError(
                f"{name} is the input itself", hint="write to another name with -o"
            )
        _check_parent_folder(out, UsageError)
        if len(os.fsencode(out.name)) > MAX_NAME_BYTES:
            raise UsageError(f"the name {name} is too long", hint="give a shorter one with -o")
        if out.is_dir():
            raise UsageError(f"{name} is a folder", hint="give the name of a file with -o")
        if os.path.lexists(out) and not overwrite:
            raise UsageError(
                f"{name} exists already", hint="--overwrite replaces it, -o names another"
            )
        check_writable(Path(place).parent)


def check_writable(folder: Path) -> None:
    """Refuse a folder that may not be written to.

    Raises:
        OutputError: it may not.
    """
    if not os.access(folder, os.W_OK | os.X_OK):
        raise _permission_error(folder / "result")


@contextmanager
def atomic_write(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """A hidden file beside ``path`` that takes its place when the block ends well.

    Whatever ends the block early, Ctrl-C included, removes the hidden file and leaves an
    older file at ``path`` as it was.

    Args:
        path: where the result belongs; a symbolic link is followed.
        overwrite: an existing file may be replaced. Without it none is, even when another
            process creates one in the meantime.

    Yields:
        The file to write, empty, in the same folder and with the same suffix.

    Raises:
        OutputError: no folder, no permission, no room, or the name is taken.
    """
    place = Path(os.path.realpath(path)) if path.is_symlink() else path
    _check_parent_folder(place, OutputError)
    if place.exists() and not place.is_file():
        raise OutputError(
            f"{printable_path(path)} is not a plain file", hint="write to another name with -o"
        )
    if place.exists() and not overwrite:
        raise _file_exists_error(path)
    part = place.with_name(_temporary_name(place))
    try:
        try:
            os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
            if place.exists():
                shutil.copymode(place, part)
        except OSError as error:
            raise _to_output_error(path, error) from error
        try:
            yield part
        except OSError as error:
            if error.errno in DISK_FULL_ERRNOS:
                raise _to_output_error(path, error) from error
            raise
        try:
            _fsync_path(part)
            if overwrite:
                os.replace(part, place)
            else:
                _rename_without_overwrite(part, place)
            _fsync_path(place.parent)
        except FileExistsError as error:
            raise _file_exists_error(path) from error
        except OSError as error:
            raise _to_output_error(path, error) from error
    finally:
        part.unlink(missing_ok=True)


def _temporary_name(path: Path) -> str:
    stem = os.fsdecode(os.fsencode(path.stem)[:MAX_STEM_BYTES].decode(errors="ignore"))
    return f".{stem}.{secrets.token_hex(4)}.part{path.suffix}"


def _rename_without_overwrite(temporary_path: Path, path: Path) -> None:
    try:
        os.link(temporary_path, path)
    except OSError as error:
        if error.errno not in NO_HARD_LINK_ERRNOS:
            raise
        # FAT and some network drives: claim the name first, then replace what we claimed.
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        os.replace(temporary_path, path)


def _fsync_path(path: Path) -> None:
    if path.is_dir() and os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOTSUP}:  # a drive that cannot: its choice
            raise
    finally:
        os.close(handle)


def _is_same_file(one: Path, other: Path) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:  # one of them is not there
        return os.path.realpath(one) == os.path.realpath(other)


def _check_parent_folder(path: Path, error_class: type[UsageError] | type[OutputError]) -> None:
    folder = path.parent
    if folder.is_dir():
        return
    if os.path.lexists(folder):
        raise error_class(
            f"{printable_path(folder)} is not a folder, so {printable_path(path.name)} cannot be in it",
            hint="write to another folder with -o",
        )
    raise error_class(
        f"the folder {printable_path(folder)} does not exist",
        hint="create it, or choose another with -o",
    )


def _file_exists_error(path: Path) -> OutputError:
    return OutputError(
        f"{printable_path(path)} exists already",
        hint="--overwrite replaces it, -o names another",
    )


def _permission_error(path: Path) -> OutputError:
    return OutputError(
        f"no permission to write in {printable_path(path.parent)}",
        hint="write to another folder with -o",
    )


def _to_output_error(path: Path, error: OSError) -> OutputError:
    if error.errno in DISK_FULL_ERRNOS:
        return OutputError(
            f"no room on the disk for {printable_path(path)}",
            hint="free some space, or write to another disk with -o",
        )
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return _permission_error(path)
    return OutputError(
        f"{printable_path(path)} cannot be written: {error.strerror}",
        hint="write to another name with -o",
    )
