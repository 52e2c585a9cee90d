"""Atomic writing of result files: a file is either complete or absent.

check the paths -> write a hidden temporary file in the same folder -> fsync -> rename
"""

import errno
import os
import secrets
import shutil
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from loris_cli.errors import LorisError, OutputError, UsageError, escape_unprintable

DISK_FULL_ERRNOS = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT}
PERMISSION_ERRNOS = {errno.EACCES, errno.EPERM, errno.EROFS}
NO_HARD_LINK_ERRNOS = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EACCES}
NEW_FILE_FLAGS = os.O_CREAT | os.O_EXCL | os.O_WRONLY
MAX_NAME_BYTES = 255  # file name limit of all file systems in common use
MAX_STEM_BYTES = 120  # keeps the names of temporary files below the limit
NAME_HINT = "choose another output file with -o"
FOLDER_HINT = "choose another output folder with -o"
DISK_HINT = "free some disk space, or choose an output path on another disk with -o"
PARENT_HINT = "create the folder, or choose another output path with -o"

printable_path = escape_unprintable
"""For paths in hints and warnings; a `LorisError` escapes its own message."""


def check_output_paths(
    outputs: Iterable[Path], inputs: Iterable[Path], *, overwrite: bool
) -> None:
    """Check that all outputs can be written, before long work starts.

    Args:
        outputs: files that will be written.
        inputs: files that will be read. No output may be one of them, not even through a
            symbolic or a hard link, and regardless of ``overwrite``.
        overwrite: whether existing files may be replaced.

    Raises:
        UsageError: an output is an input, is given twice or exists, its name is not valid, or
            its folder does not exist.
        OutputError: no write permission for the folder.
    """
    inputs = list(inputs)
    targets: set[str] = set()
    for out in outputs:
        target = os.path.realpath(out)
        if target in targets:
            raise UsageError(
                f"two results would be written to {out}", hint="rename one of the inputs"
            )
        targets.add(target)
        if any(_is_same_file(out, source) for source in inputs):
            raise UsageError(f"output file {out} is also an input", hint=NAME_HINT)
        _check_parent_folder(out, UsageError)
        if len(os.fsencode(out.name)) > MAX_NAME_BYTES:
            raise UsageError(
                f"the file name of {out} is too long", hint="choose a shorter name with -o"
            )
        if out.is_dir():
            raise UsageError(f"{out} is a folder", hint="specify an output file with -o")
        if os.path.lexists(out) and not overwrite:
            raise _file_exists_error(out, UsageError)
        check_writable(Path(target).parent)


def check_writable(folder: Path) -> None:
    """Check that a folder is writable.

    Raises:
        OutputError: no write permission for the folder.
    """
    if not os.access(folder, os.W_OK | os.X_OK):
        raise _permission_error(folder)


@contextmanager
def atomic_write(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """Write a hidden temporary file that is renamed to ``path`` if the block succeeds.

    If the block does not end normally, for example after Ctrl-C, the temporary file is removed
    and an existing file at ``path`` is left unchanged.

    Args:
        path: output file; a symbolic link is followed.
        overwrite: whether an existing file may be replaced. If False, no file is replaced, even
            if another process creates one in the meantime.

    Yields:
        Path of the temporary file to write, in the same folder and with the same suffix.

    Raises:
        OutputError: no folder, no permission, no disk space, or the file exists.
    """
    target = Path(os.path.realpath(path)) if path.is_symlink() else path
    _check_parent_folder(target, OutputError)
    if target.exists() and not target.is_file():
        raise OutputError(f"{path} is not a regular file", hint=NAME_HINT)
    if target.exists() and not overwrite:
        raise _file_exists_error(path, OutputError)
    temporary_path = target.with_name(_temporary_name(target))
    try:
        with output_errors(path):
            os.close(os.open(temporary_path, NEW_FILE_FLAGS, 0o666))
            if target.exists():
                shutil.copymode(target, temporary_path)
        with output_errors(path, DISK_FULL_ERRNOS):
            yield temporary_path
        with output_errors(path):
            _fsync_path(temporary_path)
            if overwrite:
                os.replace(temporary_path, target)
            else:
                _rename_without_overwrite(temporary_path, target)
            _fsync_path(target.parent)
    finally:
        temporary_path.unlink(missing_ok=True)


@contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """Create a hidden folder in ``parent`` and remove it when the block ends.

    `tempfile.TemporaryDirectory` is not used: an interrupt between the creation of the folder
    and the end of its constructor leaves the folder behind.

    Raises:
        OutputError: the folder cannot be created.
    """
    folder = parent / f".loris-{secrets.token_hex(8)}"
    try:
        try:
            os.mkdir(folder, 0o700)
        except OSError as error:
            raise OutputError(
                f"cannot create a folder in {parent}: {error.strerror}", hint=FOLDER_HINT
            ) from error
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _temporary_name(path: Path) -> str:
    stem = os.fsdecode(os.fsencode(path.stem)[:MAX_STEM_BYTES].decode(errors="ignore"))
    return f".{stem}.{secrets.token_hex(4)}.part{path.suffix}"


def _rename_without_overwrite(temporary_path: Path, path: Path) -> None:
    try:
        os.link(temporary_path, path)
    except OSError as error:
        if error.errno not in NO_HARD_LINK_ERRNOS:
            raise
        # FAT and some network drives have no hard links: reserve the name by creating an empty
        # file, then replace that file.
        os.close(os.open(path, NEW_FILE_FLAGS, 0o666))
        os.replace(temporary_path, path)


def _fsync_path(path: Path) -> None:
    if path.is_dir() and os.name == "nt":
        return
    # Windows flushes only files that are open for writing, POSIX folders only for reading.
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOTSUP}:  # not supported by the drive
            raise
    finally:
        os.close(handle)


def _is_same_file(one: Path, other: Path) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:  # one of them does not exist
        return os.path.realpath(one) == os.path.realpath(other)


def _check_parent_folder(path: Path, error_class: type[LorisError]) -> None:
    folder = path.parent
    if not os.path.lexists(folder):
        raise error_class(f"the folder {folder} does not exist", hint=PARENT_HINT)
    if not folder.is_dir():
        raise error_class(f"{folder} is not a folder", hint=FOLDER_HINT)


def _file_exists_error(path: Path, error_class: type[LorisError]) -> LorisError:
    return error_class(
        f"{path} already exists",
        hint="use --overwrite to replace it, or choose another output with -o",
    )


def _permission_error(folder: Path) -> OutputError:
    return OutputError(f"no permission to write to {folder}", hint=FOLDER_HINT)


@contextmanager
def output_errors(path: Path, errnos: Collection[int] = ()) -> Iterator[None]:
    """Convert operating system errors to `OutputError`.

    Args:
        path: output file, for the message.
        errnos: error numbers to convert; empty converts all.

    Raises:
        OutputError: the block raised such an error.
    """
    try:
        yield
    except OSError as error:
        if errnos and error.errno not in errnos:
            raise
        if isinstance(error, FileExistsError):
            raise _file_exists_error(path, OutputError) from error
        if error.errno in PERMISSION_ERRNOS:
            raise _permission_error(path.parent) from error
        if error.errno in DISK_FULL_ERRNOS:
            raise OutputError(f"no space left on disk for {path}", hint=DISK_HINT) from error
        reason = error.strerror or error
        raise OutputError(f"cannot write {path}: {reason}", hint=NAME_HINT) from error
