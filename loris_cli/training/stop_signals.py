"""Signals that stop a training run after the current step."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

STOP_SIGNALS = tuple(  # Windows has no SIGUSR1
    getattr(signal, name) for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name)
)
"""Signals that clusters send to stop a job; a run saves and exits with code 0."""


@contextmanager
def deferred_signals() -> Iterator[list[int]]:
    """Collect stop signals without acting on them, so that the current step completes."""
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
    """Ignore stop signals in a loader worker, which exits with its training process.

    Schedulers send signals to all processes of a job.
    """
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
