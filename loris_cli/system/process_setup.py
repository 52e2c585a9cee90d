"""Preparation of a process that runs a command, for any locale, streams, home and folder.

locale -> current folder -> standard streams -> cache folders -> Python path of subprocesses
"""

import atexit
import io
import os
import select
import shutil
import stat
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from loris_cli.config import cache_home
from loris_cli.errors import UsageError

CACHE_VARIABLES = {"NUMBA_CACHE_DIR": "kernels", "MPLCONFIGDIR": "matplotlib"}
"""Variables of cache folders that numba and matplotlib must be able to write, with names."""


def prepare_process() -> None:
    """Prepare this process and, by its environment, the processes that it starts.

    Raises:
        UsageError: the current folder does not exist.
    """
    _restart_in_utf8_mode()
    open_standard_streams()
    try:
        os.getcwd()
    except OSError as error:
        raise UsageError(
            "the current folder does not exist", hint="change to an existing folder with cd"
        ) from error
    redirect_caches()
    # Modules in the current folder must not replace those that a Python subprocess imports.
    os.environ["PYTHONSAFEPATH"] = "1"


def _restart_in_utf8_mode() -> None:
    """Restart Python in UTF-8 mode if the locale has another encoding.

    Many libraries open files whose names contain characters outside of the locale only in this
    mode. The standard streams keep the encoding of the locale.
    """
    if sys.getfilesystemencoding() == "utf-8" or os.environ.get("PYTHONUTF8") == "1":
        return
    os.environ["PYTHONUTF8"] = "1"
    encoding = sys.stdout.encoding if sys.stdout else "ascii"
    os.environ.setdefault("PYTHONIOENCODING", f"{encoding}:backslashreplace")
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


class _ResilientWriter(io.BufferedWriter):
    """Buffered output stream that records its first error instead of raising it.

    It wraps a raw stream of Python, whose writes an exception of a signal handler does not
    repeat. The buffer keeps what cannot be written; output beyond its size is lost.
    """

    error: OSError | None = None

    def write(self, data: Any, /) -> int:
        n_written, view = 0, memoryview(data)
        while n_written < view.nbytes:
            try:
                return n_written + super().write(view[n_written:])
            except BlockingIOError as error:  # a non-blocking pipe that is full
                n_written += error.characters_written
                select.select([], [self], [])
            except OSError as error:
                self.error = self.error or error
                break
        return view.nbytes

    def flush(self) -> None:
        while True:
            try:
                return super().flush()
            except BlockingIOError:
                select.select([], [self], [])
            except OSError as error:
                self.error = self.error or error
                return


def open_standard_streams() -> None:
    """Replace the standard streams by ones that never fail.

    A closed one becomes the null device, so that no other file gets its number. Characters
    outside of the encoding are escaped.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)
    sys.stdout = _wrap_output(sys.stdout, 1)
    sys.stderr = _wrap_output(sys.stderr, 2)


def _wrap_output(stream: TextIO | None, number: int) -> TextIO:
    if stream is None:
        return open(number, "w", encoding="utf-8", errors="backslashreplace", closefd=False)
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    raw: Any = getattr(stream.buffer, "raw", stream.buffer)  # unbuffered with `python -u`
    if isinstance(raw, io.FileIO):
        raw = io.FileIO(raw.fileno(), "w", closefd=False)
    elif not isinstance(raw, io.RawIOBase):  # not the console of Windows either
        return stream
    return io.TextIOWrapper(
        _ResilientWriter(raw),
        encoding=stream.encoding,
        errors="backslashreplace",
        newline=os.linesep,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def flush_stdout() -> OSError | None:
    """Flush stdout and return the first error of writing to it."""
    sys.stdout.flush()
    buffer = getattr(sys.stdout, "buffer", None)
    return buffer.error if isinstance(buffer, _ResilientWriter) else None


def redirect_caches() -> None:
    """Select writable cache folders for numba and matplotlib.

    Their defaults are beside the packages and in the home folder. Both may be read-only, and
    the user may have no home folder.
    """
    with suppress(OSError):  # no temporary folder either
        if os.path.expanduser("~") == "~":
            os.environ["HOME"] = str(_temporary_cache())
        for variable, name in CACHE_VARIABLES.items():
            chosen = os.environ.get(variable)
            if not chosen or not _can_write(Path(chosen)):
                os.environ[variable] = str(writable_cache() / name)


def writable_cache() -> Path:
    """Return the cache folder, or a temporary one if it cannot be written."""
    return cache_home() if _can_write(cache_home()) else _temporary_cache()


def _can_write(folder: Path) -> bool:
    """Return whether files can be written to a folder, which may not exist yet."""
    existing = next(p for p in (folder, *folder.absolute().parents) if os.path.exists(p))
    try:
        with tempfile.TemporaryFile(dir=existing, buffering=0) as file:
            file.write(bytes(4096))  # fails if the disk is full
    except OSError:
        return False
    return True


def _temporary_cache() -> Path:
    """Return a cache folder of this user that others cannot write: caches contain code."""
    user = os.getuid() if hasattr(os, "getuid") else 0
    folder = Path(tempfile.gettempdir(), f"loris-{user}")
    with suppress(OSError):
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
        is_private = status.st_uid == user and not status.st_mode & 0o077
        if stat.S_ISDIR(status.st_mode) and (is_private or os.name == "nt"):
            return folder
    folder = Path(tempfile.mkdtemp(prefix="loris-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
