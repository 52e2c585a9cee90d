"""Console output: results on stdout; progress, notes, warnings and errors on stderr.

External text, above all file names, is never interpreted as markup. Its control characters are
escaped, so that a file name can neither forge a line of output nor move the cursor.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from loris_cli.errors import escape_unprintable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

LOG_INTERVAL_S = 10.0
"""Interval of progress lines when stderr is not a terminal."""


def print_error(message: str, *, hint: str = "") -> None:
    """Print an error on stderr, followed by the hint, which may have several lines."""
    console = _stderr_console()
    _print_line(console, "loris: error:", "bold red", message)
    for line in hint.split("\n") if hint else []:
        _print_line(console, "hint:", "cyan", line)


def _stderr_console() -> Console:
    from rich.console import Console

    return Console(stderr=True, highlight=False)  # respects NO_COLOR and TERM


def _print_line(console: Console, label: str, style: str, text: str) -> None:
    from rich.text import Text

    text = escape_unprintable(text)
    line = Text.assemble((label, style), " ", text) if label else text
    console.print(line, soft_wrap=True, markup=False, emoji=False)


class ConsoleReporter:
    """Reporter that prints all output of a command.

    Args:
        quiet: do not print progress and notes.
        verbose: also print details.
    """

    def __init__(self, *, quiet: bool = False, verbose: bool = False) -> None:
        """Open the console on stderr."""
        self.quiet = quiet
        self.verbose = verbose
        self._console = _stderr_console()
        self._progress: Progress | None = None
        self._n_running_stages = 0

    def print_result(self, text: str) -> None:
        """Print a result on stdout, byte for byte, because other programs may read it."""
        typer.echo(os.fsencode(text))

    def warn(self, text: str) -> None:
        """Print a warning, even if ``quiet``."""
        _print_line(self._console, "loris: warning:", "yellow", text)

    def info(self, text: str) -> None:
        """Print a note, unless ``quiet``."""
        if not self.quiet:
            _print_line(self._console, "", "", text)

    def debug(self, text: str) -> None:
        """Print a detail, if ``verbose``."""
        if self.verbose:
            self.info(text)

    @contextmanager
    def stage(self, name: str, total: float | None = None) -> Iterator[Callable[..., None]]:
        """Show the progress of a stage; stages may overlap.

        Args:
            name: name of the stage, e.g. ``"pose"``.
            total: number of steps; None if unknown.

        Yields:
            Function ``advance(n=1, status="")``, to be called for completed steps.
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
            if self._n_running_stages == 0:  # finished bars stay on screen
                bars.stop()
                self._progress = None

    @contextmanager
    def _progress_log(self, name: str, total: float | None) -> Iterator[Callable[..., None]]:
        start_s = logged_s = time.monotonic()
        done = 0.0

        def advance(n: float = 1.0, status: str = "") -> None:
            nonlocal done, logged_s
            done += n
            if (now_s := time.monotonic()) - logged_s >= LOG_INTERVAL_S:
                logged_s = now_s
                progress = f"{done / total:.0%}" if total else f"{done:g}"
                status = f", {status}" if status else ""
                self.info(f"{name}: {progress} after {now_s - start_s:.0f} s{status}")

        yield advance
        self.info(f"{name}: done in {time.monotonic() - start_s:.1f} s")
