"""Key-value store through which the processes of a training run find each other.

``torch.distributed`` waits for missing processes in native code: silently, and without reacting
to signals.
"""

import socket
import time
from collections.abc import Callable
from datetime import timedelta

from torch.distributed import DistNetworkError, Store, TCPStore  # type: ignore[attr-defined]

from loris_cli.errors import LorisError, UsageError

NOTICE_DELAY_S = 5.0
"""Time after which missing processes are reported."""
POLL_INTERVAL_S = 0.2
CONNECT_TIMEOUT_S = 2.0
JOINED_KEY = "loris/joined"


def join_store(
    address: tuple[str, int],
    *,
    rank: int,
    world_size: int,
    launcher: str,
    warn: Callable[[str], None],
    timeout: timedelta,
) -> Store:
    """Connect to the store of rank 0, and wait until all processes have joined.

    Args:
        address: host and port of rank 0.
        rank: rank of this process; rank 0 hosts the store.
        world_size: number of processes.
        launcher: program that starts all processes, for the messages.
        warn: receives a message if processes are missing.
        timeout: time limit, also of later operations on the store.

    Returns:
        store of all processes.

    Raises:
        UsageError: the port of rank 0 is in use.
        LorisError: a process is missing at the time limit.
    """
    host, port = address
    wait = _Wait(launcher, warn, timeout)
    if rank:
        while not _accepts_connections(address):
            wait.poll(f"rank 0 at {host}:{port}")
    try:
        store = TCPStore(
            host if rank else "localhost",
            port,
            is_master=rank == 0,
            wait_for_workers=False,
            timeout=timeout,
        )
    except DistNetworkError as error:
        raise UsageError(
            f"cannot use port {port} of {host}: is another run using it?",
            hint="export MASTER_PORT with another number, the same for all processes",
        ) from error
    n_joined = store.add(JOINED_KEY, 1)
    while n_joined < world_size:
        wait.poll(f"{world_size - n_joined} of {world_size} processes")
        n_joined = store.add(JOINED_KEY, 0)
    return store


class _Wait:
    """Polling with a message after a while and a time limit."""

    def __init__(self, launcher: str, warn: Callable[[str], None], timeout: timedelta) -> None:
        self._launcher, self._warn, self._timeout = launcher, warn, timeout
        self._started_s = time.monotonic()
        self._is_reported = False

    def poll(self, missing: str) -> None:
        """Sleep for a moment, in which signals are handled."""
        time.sleep(POLL_INTERVAL_S)
        elapsed_s = time.monotonic() - self._started_s
        if elapsed_s > self._timeout.total_seconds():
            raise LorisError(f"no sign of {missing}", hint=f"start with {self._launcher}")
        if elapsed_s > NOTICE_DELAY_S and not self._is_reported:
            self._is_reported = True
            self._warn(f"waiting for {missing}; start with {self._launcher}")


def _accepts_connections(address: tuple[str, int]) -> bool:
    try:
        with socket.create_connection(address, timeout=CONNECT_TIMEOUT_S):
            return True
    except OSError:  # not started yet
        return False
