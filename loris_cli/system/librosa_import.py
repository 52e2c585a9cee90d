"""Guarded import of librosa: one process at a time compiles its numba kernels.

numba compiles the kernels when librosa is first used on a machine and caches them in a folder
of the user. Two processes that compile at the same time mix their files: the wrapper of one
names a symbol of the other. From then on the beat tracker ends every process with a
segmentation fault (observed with numba 0.68.1 and two workers of `loris prep` in a new
environment). All modules therefore import librosa from here: the first process compiles, and
the other processes wait. The lock lies in numba's cache folder, because processes that share
the cache may differ in all other settings.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from loris_cli.system.process_setup import redirect_caches

KERNEL_MODULES = (
    "beat", "core.audio", "core.convert", "core.notation", "core.pitch", "util.utils"
)  # fmt: skip
"""Modules that compile kernels when they are imported."""
LOCK_TIMEOUT_S = 300.0
"""Timeout after which a lock is ignored; compilation takes ten seconds."""


@contextmanager
def lock_kernel_cache() -> Iterator[None]:
    """Hold the lock of numba's cache folder, which one process at a time can hold.

    If no lock file can be created, the block runs unlocked.
    """
    with ExitStack() as stack:
        with suppress(OSError, KeyError, Timeout):  # no folder that can be written
            folder = Path(os.environ["NUMBA_CACHE_DIR"])
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(FileLock(folder / "kernels.lock", timeout=LOCK_TIMEOUT_S))
        yield


@cache
def _import_librosa() -> Any:
    """Import librosa with all modules that compile kernels."""
    redirect_caches()
    numba = import_module("numba")
    if os.environ.get("NUMBA_CACHE_DIR"):  # numba may have been imported before
        numba.config.CACHE_DIR = os.environ["NUMBA_CACHE_DIR"]
    with lock_kernel_cache():
        for name in KERNEL_MODULES:
            import_module(f"librosa.{name}")
        return import_module("librosa")


class _LazyLibrosa:
    """The package librosa, imported at the first use of an attribute: that takes seconds."""

    def __getattr__(self, name: str) -> Any:
        return getattr(_import_librosa(), name)


librosa: Any = _LazyLibrosa()

__all__ = ["librosa", "lock_kernel_cache"]
