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

LOG_INTERVAL_S = 10.0
"""Off a terminal, a running stage tells of itself this often."""


def escape_unprintable(text: str) -> str:
    """The text on one line: what a terminal cannot show as a character, escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def print_error(message: str, *, hint: str = "") -> None:
    """Tell of an error on stderr, in one line and another for each line of the hint."""
    console = _stderr_console()
    _print_line(console, "loris: error:", "bold red", message)
    for line in hint.split("\n") if hint else []:
        _print_line(console, "hint:", "cyan", line)


def _stderr_console() -> Console:
    from rich.console import Console

    return Console(stderr=True, highlight=False)  # heeds NO_COLOR and TERM


def _print_line(console: Console, label: str, style: str, text: str) -> None:
    from rich.text import Text

    line = (
        Text.assemble((label, style), " ", escape_unprintable(text))
        if label
        else escape_unprintable(text)
    )
    console.print(line, soft_wrap=True, markup=False, emoji=False)


class ConsoleReporter:
    """Speaks for one run of a command.

    Args:
        quiet: no progress and no notes.
        verbose: details too.
    """

    def __init__(self, *, quiet: bool = False, verbose: bool = False) -> None:
        """Find out whether anybody watches."""
        self.quiet = quiet
        self.verbose = verbose
        self._console = _stderr_console()
        self._progress: Progress | None = None
        self._n_running_stages = 0

    def print_result(self, text: str) -> None:
        """Print what the run is for on stdout, byte for byte: programs read it."""
        typer.echo(os.fsencode(text))

    def warn(self, text: str) -> None:
        """Tell of something that the user should know; ``quiet`` does not silence it."""
        _print_line(self._console, "loris: warning:", "yellow", text)

    def info(self, text: str) -> None:
        """Tell what happens."""
        if not self.quiet:
            _print_line(self._console, "", "", text)

    def debug(self, text: str) -> None:
        """Tell more, under ``verbose``."""
        if self.verbose:
            self.info(text)

    @contextmanager
    def stage(self, name: str, total: float | None = None) -> Iterator[Callable[..., None]]:
        """Show how far a stage is; stages may overlap.

        Args:
            name: what is being done, e.g. ``"pose"``.
            total: how many steps it has; None where nobody knows.

        Returns:
            ``advance(n=1, status="")``, to be called as steps are done, with what to show.
        """
        if self.quiet:
            yield lambda n=1.0, status="": None
        elif self._console.is_terminal:
            with self._progress_bar(escape_unprintable(name), total) as advance:
                yield advance
        else:
            with self._progress_log(name, total) as advance:
                yield advance

    @contextmanager
    def _progress_bar(self, name: str, total: float | None) -> Iterator[Callable[..., None]]:
        from rich.markup import escape
        from rich.progress import Progress

        if self._progress is None:
            self._progress = Progress(console=self._console)
        bars = self._progress
        if self._n_running_stages == 0:
            bars.start()
        self._n_running_stages += 1
        task = bars.add_task(escape(name), total=total)
        try:
            yield lambda n=1.0, status="": bars.update(
                task, advance=n, description=escape(f"{name} {status}".rstrip())
            )
            done = bars.tasks[task].completed
            bars.update(task, total=done or 1, completed=done or 1)
        finally:
            self._n_running_stages -= 1
            if (
                self._n_running_stages == 0
            ):  # leave the finished bars on screen, begin afresh later
                bars.stop()
                self._progress = None

    @contextmanager
    def _progress_log(self, name: str, total: float | None) -> Iterator[Callable[..., None]]:
        start_s = told_s = time.monotonic()
        done = 0.0

        def advance(n: float = 1.0, status: str = "") -> None:
            nonlocal done, told_s
            done += n
            if (now_s := time.monotonic()) - told_s >= LOG_INTERVAL_S:
                told_s = now_s
                share = f"{done / total:.0%}" if total else f"{done:g}"
                more = f", {status}" if status else ""
                self.info(f"{name}: {share} after {now_s - start_s:.0f} s{more}")

        yield advance
        self.info(f"{name}: done in {time.monotonic() - start_s:.1f} s")
