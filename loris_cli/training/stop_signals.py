"""Signals that stop a training run after the current step."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
"""Signals by which clusters stop a job; a run saves and ends without an error."""


@contextmanager
def deferred_signals() -> Iterator[list[int]]:
    """Collect stop signals, so that the current step is completed first."""
    received: list[int] = []
    previous = {
        number: signal.signal(number, lambda number, frame: received.append(number))
        for number in STOP_SIGNALS
    }
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def ignore_stop_signals(worker_id: int) -> None:
    """Schedulers signal every process of a job; a loader worker ends with its trainer."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
