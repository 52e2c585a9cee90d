"""Memory allocator of the C library."""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8
"""Parameters of ``mallopt`` in ``malloc.h`` of glibc."""


def reuse_freed_memory() -> bool:
    """Let this process reuse memory that it frees instead of returning it to the system.

    By default glibc returns large blocks to the system, and the kernel clears their pages when
    they are allocated again. A training step allocates the same blocks as the one before, and
    is 1.04 to 1.11 times as fast with this setting (benchmarks/allocator.py).

    Returns:
        whether the C library supports the setting.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # absent from musl
    return bool(mallopt and mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, -1))


def share_freed_memory() -> bool:
    """Let the threads of this process reuse the memory that others have freed.

    By default each thread of glibc has its own memory. Without it, the peak memory of a
    soundtrack of 25 s is 50 MB lower, at the same speed.

    Returns:
        whether the C library supports the setting.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # absent from musl
    return bool(mallopt and mallopt(M_ARENA_MAX, 1))
