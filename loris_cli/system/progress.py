"""Whom long work tells how it goes: a screen, a log, or nobody."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol


class Reporter(Protocol):
    """Whom the work tells how it goes."""

    def stage(
        self, name: str, total: float | None = None
    ) -> AbstractContextManager[Callable[..., None]]:
        """Announce a stage; the callable it gives takes the amount done since last time."""

    def warn(self, text: str) -> None:
        """Say what the user should know."""


class NullReporter:
    """A reporter that keeps the warnings to itself."""

    def stage(
        self, name: str, total: float | None = None
    ) -> AbstractContextManager[Callable[..., None]]:
        """Say nothing."""
        return nullcontext(lambda n=1.0: None)

    def warn(self, text: str) -> None:
        """Say nothing."""
