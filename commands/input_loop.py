"""Loop over the inputs of a command: a bad one is reported and the rest go on."""

from collections.abc import Callable, Sequence
from pathlib import Path

import typer

from loris_cli.errors import LorisError

from .console import ConsoleReporter, print_error


def print_input_error(source: str, message: str, hint: str) -> None:
    """Print an error of one input of several, with the name of the input."""
    named = Path(source).name in message
    print_error(message if named else f"{source}: {message}", hint=hint)


def process_inputs(
    paths: Sequence[tuple[Path, Path]],
    process_one: Callable[[Path, Path], str],
    reporter: ConsoleReporter,
) -> None:
    """Process every input and print each result.

    Args:
        paths: inputs and their output files.
        process_one: writes an output file; returns the line to print.
        reporter: prints.

    Raises:
        LorisError: the only input cannot be processed.
        typer.Exit: some inputs failed and the rest are done; exit code 1.
    """
    n_failed = 0
    for source, output in paths:
        try:
            reporter.print_result(process_one(source, output))
        except LorisError as error:
            if len(paths) == 1:
                raise
            print_input_error(str(source), str(error), error.hint)
            n_failed += 1
    if n_failed:
        reporter.info(f"{n_failed} of {len(paths)} inputs failed")
        raise typer.Exit(1)
