"""One thing done to many inputs: a bad one is told of and the rest go on."""

from collections.abc import Callable, Sequence
from pathlib import Path

import typer

from loris_cli.errors import LorisError

from .console import Reporter, print_error


def each(
    pairs: Sequence[tuple[Path, Path]], work: Callable[[Path, Path], str], reporter: Reporter
) -> None:
    """Do some work to every input, print each result.

    Args:
        pairs: inputs and the places of their results.
        work: makes a result and gives what is printed of it.
        reporter: prints.

    Raises:
        LorisError: the one input there is cannot be used.
        typer.Exit: some inputs failed and the rest are done; exit code 1.
    """
    n_failed = 0
    for source, place in pairs:
        try:
            reporter.result(work(source, place))
        except LorisError as error:
            if len(pairs) == 1:
                raise
            named = source.name in str(error)
            print_error(str(error) if named else f"{source}: {error}", hint=error.hint)
            n_failed += 1
    if n_failed:
        reporter.note(f"{n_failed} of {len(pairs)} inputs failed")
        raise typer.Exit(1)
