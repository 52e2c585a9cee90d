"""What a run says: results on stdout; progress, notes, warnings and errors on stderr.

Text from outside (file names, above all) is shown as it is, never read as markup, and its
control characters are shown escaped, so that no name can fake a line or move the cursor.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

PLAIN_EVERY_S = 10.0
"""Off a terminal, a running stage tells of itself this often."""


def printable(text: str) -> str:
    """The text on one line: what a terminal cannot show as a character, escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def print_error(message: str, *, hint: str = "") -> None:
    """Tell of an error on stderr, in one line and another for each line of the hint."""
    console = _stderr()
    _print(console, "loris: error:", "bold red", message)
    for line in hint.split("\n") if hint else []:
        _print(console, "hint:", "cyan", line)


def _stderr() -> Console:
    from rich.console import Console

    return Console(stderr=True, highlight=False)  # heeds NO_COLOR and TERM


def _print(console: Console, head: str, style: str, text: str) -> None:
    from rich.text import Text

    line = Text.assemble((head, style), " ", printable(text)) if head else printable(text)
    console.print(line, soft_wrap=True, markup=False, emoji=False)


class Reporter:
    """Speaks for one run of a command.

    Args:
        quiet: no progress and no notes.
        verbose: details too.
    """

    def __init__(self, *, quiet: bool = False, verbose: bool = False) -> None:
        """Find out whether anybody watches."""
        self.quiet = quiet
        self.verbose = verbose
        self._console = _stderr()
        self._bars: Progress | None = None
        self._n_stages = 0

    def result(self, text: str) -> None:
        """Print what the run is for on stdout, byte for byte: programs read it."""
        typer.echo(os.fsencode(text))

    def warn(self, text: str) -> None:
        """Tell of something that the user should know; ``quiet`` does not silence it."""
        _print(self._console, "loris: warning:", "yellow", text)

    def note(self, text: str) -> None:
        """Tell what happens."""
        if not self.quiet:
            _print(self._console, "", "", text)

    def detail(self, text: str) -> None:
        """Tell more, under ``verbose``."""
        if self.verbose:
            self.note(text)

    @contextmanager
    def stage(self, name: str, total: float | None = None) -> Iterator[Callable[..., None]]:
        """Show how far a stage is; stages may overlap.

        Args:
            name: what is being done, e.g. ``"pose"``.
            total: how many steps it has; None where nobody knows.

        Returns:
            ``advance(n=1, said="")``, to be called as steps are done, with what to show.
        """
        if self.quiet:
            yield lambda n=1.0, said="": None
        elif self._console.is_terminal:
            with self._bar(printable(name), total) as advance:
                yield advance
        else:
            with self._lines(name, total) as advance:
                yield advance

    @contextmanager
    def _bar(self, name: str, total: float | None) -> Iterator[Callable[..., None]]:
        from rich.markup import escape
        from rich.progress import Progress

        if self._bars is None:
            self._bars = Progress(console=self._console)
        bars = self._bars
        if self._n_stages == 0:
            bars.start()
        self._n_stages += 1
        task = bars.add_task(escape(name), total=total)
        try:
            yield lambda n=1.0, said="": bars.update(
                task, advance=n, description=escape(f"{name} {said}".rstrip())
            )
            done = bars.tasks[task].completed
            bars.update(task, total=done or 1, completed=done or 1)
        finally:
            self._n_stages -= 1
            if self._n_stages == 0:  # leave the finished bars on screen, begin afresh later
                bars.stop()
                self._bars = None

    @contextmanager
    def _lines(self, name: str, total: float | None) -> Iterator[Callable[..., None]]:
        start_s = told_s = time.monotonic()
        done = 0.0

        def advance(n: float = 1.0, said: str = "") -> None:
            nonlocal done, told_s
            done += n
            if (now_s := time.monotonic()) - told_s >= PLAIN_EVERY_S:
                told_s = now_s
                share = f"{done / total:.0%}" if total else f"{done:g}"
                more = f", {said}" if said else ""
                self.note(f"{name}: {share} after {now_s - start_s:.0f} s{more}")

        yield advance
        self.note(f"{name}: done in {time.monotonic() - start_s:.1f} s")
