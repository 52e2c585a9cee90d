"""librosa, with its kernels compiled by one process at a time.

numba compiles them when librosa is first used on a machine, and keeps them beside it. Two
processes that do so at once mix up what they keep, and from then on the beat tracker ends every
process with a segmentation fault (seen with numba 0.68.1 and two workers of `loris prep` in a
new environment). So who needs librosa takes it from here: the first compiles, the others wait.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from typing import Any

from filelock import FileLock, Timeout

from loris_cli.config import cache_home

LOCK_TIMEOUT_S = 300.0
"""Compiling takes ten seconds; a lock that is held for longer is nobody's."""


@contextmanager
def interprocess_lock(name: str) -> Iterator[None]:
    """Wait until no other process of this user does the same.

    Where nothing can be locked, as in a cache that cannot be written, nobody waits.

    Args:
        name: of what is done, a file name.
    """
    folder = cache_home()
    lock = FileLock(folder / f"{name}.lock", timeout=LOCK_TIMEOUT_S)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except (OSError, Timeout):
        yield
        return
    try:
        yield
    finally:
        lock.release()


@cache
def import_librosa_module(name: str) -> Any:
    """A module of librosa whose kernels take long to load, such as ``beat``."""
    with interprocess_lock("kernels"):
        return import_module(f"librosa.{name}")


with interprocess_lock("kernels"):
    import librosa
    import librosa.util.utils

__all__ = ["import_librosa_module", "interprocess_lock", "librosa"]
