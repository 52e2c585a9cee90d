"""Progress reporting protocol."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

Advance = Callable[..., None]
"""Function that adds the amount of work done since its last call, by default 1."""
StageContext = AbstractContextManager[Advance]


class Reporter(Protocol):
    """Receiver of progress and warnings, such as a terminal or a log."""

    def stage(self, name: str, total: float | None = None) -> StageContext:
        """Start a stage; the context yields the function that advances it."""

    def warn(self, text: str) -> None:
        """Report a warning to the user."""


class NullReporter:
    """Reporter that discards progress and warnings."""

    def stage(self, name: str, total: float | None = None) -> StageContext:
        """Do nothing."""
        return nullcontext(lambda n=1.0: None)

    def warn(self, text: str) -> None:
        """Do nothing."""
