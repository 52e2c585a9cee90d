"""Progress reporting protocol."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

Advance = Callable[..., None]
"""Takes the amount of a stage that was done since its last call; by default 1."""
StageContext = AbstractContextManager[Advance]


class Reporter(Protocol):
    """Receiver of progress and warnings: a terminal, a log, a test."""

    def stage(self, name: str, total: float | None = None) -> StageContext:
        """Start a stage; the callable takes the amount done since its last call."""

    def warn(self, text: str) -> None:
        """Report a warning to the user."""


class NullReporter:
    """Reporter that reports nothing."""

    def stage(self, name: str, total: float | None = None) -> StageContext:
        """Do nothing."""
        return nullcontext(lambda n=1.0: None)

    def warn(self, text: str) -> None:
        """Do nothing."""
