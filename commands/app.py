"""The ``loris`` program: its commands, error messages and exit codes."""

import errno
import math
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Annotated

import typer

from loris_cli.errors import LorisError
from loris_cli.system.process_setup import flush_stdout, prepare_process

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
    from subprocess import SubprocessError

    from imageio_ffmpeg import get_ffmpeg_version

    from loris_cli import __version__

    typer.echo(f"loris {__version__}")
    typer.echo(f"python {sys.version.split()[0]}")
    typer.echo(f"torch {version('torch')}")
    try:
        typer.echo(f"ffmpeg {get_ffmpeg_version()}")
    except (RuntimeError, OSError, SubprocessError):
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
    """Run the program and exit; a user error is printed as a message and a hint."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _SignalHandler())
    code = _run_command(prepare_process) or run_app()
    if error := flush_stdout():
        if error.errno != errno.EPIPE:  # a closed pipe, as in `| head`, is normal
            print_error(f"cannot write to stdout: {error.strerror}")
        code = code or 1
    sys.exit(code)


class _SignalHandler:
    """Handler that unwinds the stack on SIGTERM and Ctrl-C, so that partial files are removed.

    A second signal within `CLEANUP_GRACE_S` is ignored, so that it does not stop the clean-up.
    """

    def __init__(self) -> None:
        self._last_signal_s = -math.inf

    def __call__(self, number: int, frame: FrameType | None) -> None:
        before_s, self._last_signal_s = self._last_signal_s, time.monotonic()
        if self._last_signal_s - before_s > CLEANUP_GRACE_S:
            raise KeyboardInterrupt


def run_app() -> int:
    """Run the app and return the exit code."""
    # In standalone mode Typer would print usage errors and interruptions itself.
    return _run_command(partial(app, prog_name="loris", standalone_mode=False))


def _run_command(function: Callable[[], object]) -> int:
    """Call a function, print its errors and return the exit code."""
    try:
        code = function()
        sys.stdout.flush()
    except LorisError as error:
        return _report_error(error, str(error), error.hint, error.exit_code)
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)
        path = context.command_path if context else "loris"
        return _report_error(error, error.format_message(), f"{path} --help", error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        code = EXIT_INTERRUPTED
    if code == EXIT_INTERRUPTED:  # Typer turns Ctrl-C inside a command into this code
        print_error("interrupted")
    return code if isinstance(code, int) else 0


def _report_error(error: Exception, message: str, hint: str, exit_code: int) -> int:
    if os.environ.get("LORIS_DEBUG"):
        traceback.print_exception(error)
    print_error(message, hint=hint)
    return exit_code
