"""Guarded import of librosa: one process at a time compiles its numba kernels.

numba compiles the kernels when librosa is first used on a machine and caches them in a folder
of the user. Two processes that compile at the same time corrupt the cache; from then on the
beat tracker ends every process with a segmentation fault (observed with numba 0.68.1 and two
workers of `loris prep` in a new environment). All modules therefore import librosa from here:
the first process compiles, and the other processes wait.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from importlib import import_module
from typing import Any

from filelock import FileLock, Timeout

from loris_cli.system.process_setup import redirect_caches, writable_cache

LOCK_TIMEOUT_S = 300.0
"""Timeout after which a lock is ignored; compilation takes ten seconds."""


@contextmanager
def interprocess_lock(name: str) -> Iterator[None]:
    """Hold a lock that only one process of this user can hold at a time.

    If no lock file can be created, the block runs unlocked.

    Args:
        name: name of the lock file, without suffix.
    """
    with ExitStack() as stack:
        with suppress(OSError, Timeout):
            folder = writable_cache()
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(FileLock(folder / f"{name}.lock", timeout=LOCK_TIMEOUT_S))
        yield


@cache
def import_librosa_module(name: str) -> Any:
    """Import a librosa module with kernels that are slow to load, such as ``beat``."""
    with interprocess_lock("kernels"):
        return import_module(f"librosa.{name}")


redirect_caches()
with interprocess_lock("kernels"):
    import librosa
    import librosa.util.utils

__all__ = ["import_librosa_module", "interprocess_lock", "librosa"]
