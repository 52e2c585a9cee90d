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

DISK_FULL = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT}
NO_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EACCES}
NAME_BYTES = 255  # of a file, in all file systems in common use
STEM_BYTES = 120  # of a hidden name: with its additions it stays below the usual 255


def printable(path: str | os.PathLike[str]) -> str:
    """A file's name fit for one line of a message: line ends and undecodable bytes escaped."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in os.fspath(path))


def check_outputs(outputs: Iterable[Path], inputs: Iterable[Path], *, overwrite: bool) -> None:
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
        name = printable(out)
        place = os.path.realpath(out)
        if place in seen:
            raise UsageError(
                f"two results would be written to {name}",
                hint="give each input a name of its own",
            )
        seen.add(place)
        if any(_same(out, source) for source in inputs):
            raise UsageError(
                f"{name} is the input itself", hint="write to another name with -o"
            )
        _check_folder(out, UsageError)
        if len(os.fsencode(out.name)) > NAME_BYTES:
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
        raise _no_permission(folder / "result")


@contextmanager
def replacing(path: Path, *, overwrite: bool) -> Iterator[Path]:
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
    _check_folder(place, OutputError)
    if place.exists() and not place.is_file():
        raise OutputError(
            f"{printable(path)} is not a plain file", hint="write to another name with -o"
        )
    if place.exists() and not overwrite:
        raise _taken(path)
    part = place.with_name(_hidden_name(place))
    try:
        try:
            os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
            if place.exists():
                shutil.copymode(place, part)
        except OSError as error:
            raise _as_output_error(path, error) from error
        try:
            yield part
        except OSError as error:
            if error.errno in DISK_FULL:
                raise _as_output_error(path, error) from error
            raise
        try:
            _flush(part)
            if overwrite:
                os.replace(part, place)
            else:
                _move_exclusively(part, place)
            _flush(place.parent)
        except FileExistsError as error:
            raise _taken(path) from error
        except OSError as error:
            raise _as_output_error(path, error) from error
    finally:
        part.unlink(missing_ok=True)


def _hidden_name(path: Path) -> str:
    stem = os.fsdecode(os.fsencode(path.stem)[:STEM_BYTES].decode(errors="ignore"))
    return f".{stem}.{secrets.token_hex(4)}.part{path.suffix}"


def _move_exclusively(part: Path, place: Path) -> None:
    try:
        os.link(part, place)
    except OSError as error:
        if error.errno not in NO_HARD_LINKS:
            raise
        # FAT and some network drives: claim the name first, then replace what we claimed.
        os.close(os.open(place, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        os.replace(part, place)


def _flush(path: Path) -> None:
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


def _same(one: Path, other: Path) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:  # one of them is not there
        return os.path.realpath(one) == os.path.realpath(other)


def _check_folder(path: Path, kind: type[UsageError] | type[OutputError]) -> None:
    folder = path.parent
    if folder.is_dir():
        return
    if os.path.lexists(folder):
        raise kind(
            f"{printable(folder)} is not a folder, so {printable(path.name)} cannot be in it",
            hint="write to another folder with -o",
        )
    raise kind(
        f"the folder {printable(folder)} does not exist",
        hint="create it, or choose another with -o",
    )


def _taken(path: Path) -> OutputError:
    return OutputError(
        f"{printable(path)} exists already", hint="--overwrite replaces it, -o names another"
    )


def _no_permission(path: Path) -> OutputError:
    return OutputError(
        f"no permission to write in {printable(path.parent)}",
        hint="write to another folder with -o",
    )


def _as_output_error(path: Path, error: OSError) -> OutputError:
    if error.errno in DISK_FULL:
        return OutputError(
            f"no room on the disk for {printable(path)}",
            hint="free some space, or write to another disk with -o",
        )
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return _no_permission(path)
    return OutputError(
        f"{printable(path)} cannot be written: {error.strerror}",
        hint="write to another name with -o",
    )
