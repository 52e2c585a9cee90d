"""One thing done to many inputs: a bad one is told of and the rest go on."""

from collections.abc import Callable, Sequence
from pathlib import Path

import typer

from loris_cli.errors import LorisError

from .console import ConsoleReporter, print_error


def process_inputs(
    paths: Sequence[tuple[Path, Path]],
    process_one: Callable[[Path, Path], str],
    reporter: ConsoleReporter,
) -> None:
    """Do some work to every input, print each result.

    Args:
        paths: inputs and the places of their results.
        process_one: makes a result and gives what is printed of it.
        reporter: prints.

    Raises:
        LorisError: the one input there is cannot be used.
        typer.Exit: some inputs failed and the rest are done; exit code 1.
    """
    n_failed = 0
    for source, place in paths:
        try:
            reporter.print_result(process_one(source, place))
        except LorisError as error:
            if len(paths) == 1:
                raise
            named = source.name in str(error)
            print_error(str(error) if named else f"{source}: {error}", hint=error.hint)
            n_failed += 1
    if n_failed:
        reporter.info(f"{n_failed} of {len(paths)} inputs failed")
        raise typer.Exit(1)
