"""Locks beside files that processes on several machines write.

The operating system releases the lock of a process that ends, however it ends.
"""

import errno
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from loris_cli.errors import OutputError

UNSUPPORTED_ERRNOS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EROFS}
"""Errors of drives without locks."""
REPORT_TIMEOUT_S = 300.0
"""Time after which a lock on a report is ignored; to append rows takes milliseconds."""


@contextmanager
def hold_lock(path: Path, *, timeout_s: float) -> Iterator[bool]:
    """Hold the lock of a file; its lock file is hidden and removed at the end.

    Args:
        path: file in an existing folder; it need not exist.
        timeout_s: time to wait for a process that holds the lock.

    Yields:
        Whether no other process holds the lock. True also if the drive has no locks.

    Raises:
        OutputError: the lock file cannot be created, for example for lack of permission.
    """
    digest = hashlib.sha256(path.name.encode(errors="surrogateescape")).hexdigest()
    lock_path = path.with_name(f".loris-{digest[:16]}.lock")
    lock = FileLock(lock_path)
    try:
        lock.acquire(timeout=timeout_s)
    except Timeout:
        yield False
        return
    except OSError as error:
        if error.errno not in UNSUPPORTED_ERRNOS:
            message = f"cannot lock {path}: {error.strerror}"
            raise OutputError(message, hint="check the permissions of its folder") from error
    try:
        yield True
    finally:
        with suppress(OSError):  # Windows removes no open file
            lock_path.unlink()  # before the release, so that no other process uses it
        lock.release()
