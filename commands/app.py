"""The ``loris`` program: its commands, and the one place where errors become words."""

import math
import os
import signal
import sys
import time
import traceback
from types import FrameType
from typing import Annotated

import typer

from loris_cli.errors import LorisError

from . import dataset, pose, prep, rhythm, soundtrack, train
from . import eval as evaluation
from .console import print_error

EXIT_INTERRUPTED = 130
CLEANUP_GRACE_S = 3.0

# Commands come first in `loris --help`, groups of commands after them.
app = typer.Typer(pretty_exceptions_enable=False)
app.command("prep")(prep.prep)
app.add_typer(dataset.app, name="dataset")
app.command("pose")(pose.pose)
app.command("rhythm")(rhythm.rhythm)
app.add_typer(train.app, name="train")
app.command("soundtrack")(soundtrack.soundtrack)
app.add_typer(evaluation.app, name="eval")


def _print_version(requested: bool) -> None:
    if not requested:
        return
    from importlib.metadata import version

    from imageio_ffmpeg import get_ffmpeg_version

    from loris_cli import __version__

    typer.echo(f"loris {__version__}")
    typer.echo(f"python {sys.version.split()[0]}")
    typer.echo(f"torch {version('torch')}")
    try:
        typer.echo(f"ffmpeg {get_ffmpeg_version()}")
    except RuntimeError:
        typer.echo("ffmpeg not found")
    raise typer.Exit


@app.callback(invoke_without_command=True)
def loris(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_print_version,
            is_eager=True,
            help="Print the versions of loris, Python, torch and ffmpeg, and exit.",
        ),
    ] = False,
) -> None:
    """Generate soundtracks for dance and skating videos, in time with the motion."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(2)


def main() -> None:
    """Run the program and exit; an error that a user can mend is printed in two lines."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _SignalHandler())
    sys.exit(run_app())


class _SignalHandler:
    """Lets SIGTERM and Ctrl-C unwind the stack, so that half-made files are removed.

    A second one within the time of that is an impatient finger, and must not stop it.
    """

    def __init__(self) -> None:
        self._last_signal_s = -math.inf

    def __call__(self, number: int, frame: FrameType | None) -> None:
        before_s, self._last_signal_s = self._last_signal_s, time.monotonic()
        if self._last_signal_s - before_s > CLEANUP_GRACE_S:
            raise KeyboardInterrupt


def run_app() -> int:
    """Run the app and give the exit code."""
    try:
        # Not standalone: Typer would print usage errors, Ctrl-C and its own words itself.
        code = app(prog_name="loris", standalone_mode=False)
        sys.stdout.flush()
    except LorisError as error:
        return _report_error(error, str(error), error.hint, error.exit_code)
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)
        path = context.command_path if context else "loris"
        return _report_error(error, error.format_message(), f"{path} --help", error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        code = EXIT_INTERRUPTED
    except BrokenPipeError:
        return _handle_closed_stdout()
    if code == EXIT_INTERRUPTED:  # Typer turns Ctrl-C inside a command into this code
        print_error("interrupted")
    return code if isinstance(code, int) else 0


def _report_error(error: Exception, message: str, hint: str, exit_code: int) -> int:
    if os.environ.get("LORIS_DEBUG"):
        traceback.print_exception(error)
    print_error(message, hint=hint)
    return exit_code


def _handle_closed_stdout() -> int:
    """Stop quietly when stdout's reader has gone (``| head``); any other pipe is a bug."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes once more at exit: give it somewhere to write.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    raise
