"""librosa, with its kernels compiled by one process at a time.

numba compiles them when librosa is first used on a machine, and caches them in its folder. Two
processes that do so at once corrupt that cache, and from then on the beat tracker ends every
process with a segmentation fault (seen with numba 0.68.1 and two workers of `loris prep` in a
new environment). So all modules import librosa from here: the first process compiles, the
others wait.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from importlib import import_module
from typing import Any

from filelock import FileLock, Timeout

from loris_cli.config import cache_home

LOCK_TIMEOUT_S = 300.0
"""Compiling takes ten seconds; a lock that is held for longer is ignored."""


@contextmanager
def interprocess_lock(name: str) -> Iterator[None]:
    """Wait until no other process of this user holds the lock.

    Where no file can be locked, as in a cache that cannot be written, there is no wait.

    Args:
        name: of the lock, a file name.
    """
    with ExitStack() as stack:
        with suppress(OSError, Timeout):
            cache_home().mkdir(parents=True, exist_ok=True)
            stack.enter_context(FileLock(cache_home() / f"{name}.lock", timeout=LOCK_TIMEOUT_S))
        yield


@cache
def import_librosa_module(name: str) -> Any:
    """Import a module of librosa whose kernels take long to load, such as ``beat``."""
    with interprocess_lock("kernels"):
        return import_module(f"librosa.{name}")


with interprocess_lock("kernels"):
    import librosa
    import librosa.util.utils

__all__ = ["import_librosa_module", "interprocess_lock", "librosa"]
