"""Memory allocator of the C library."""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Parameters of ``mallopt`` in ``malloc.h`` of glibc."""


def reuse_freed_memory() -> bool:
    """Let this process reuse memory that it frees instead of returning it to the system.

    By default glibc maps every block above some MB again, and the kernel clears its pages. A
    training step allocates the same large blocks as the one before: on two cores a step of
    `mini` took 1.0 to 1.2 s, half of it in the kernel, and 0.84 s with this setting.

    Returns:
        whether the C library supports the setting.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # absent from musl
    return bool(mallopt and mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, -1))
