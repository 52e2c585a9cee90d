"""Loop over the inputs of a command; a failed input is reported and the loop continues."""

from collections.abc import Callable, Sequence
from pathlib import Path

import typer

from loris_cli.errors import LorisError, UsageError
from loris_cli.system.atomic_files import check_output_paths
from loris_cli.system.input_paths import (
    find_conflicts,
    find_list_files,
    make_parent_folders,
    resolve_output_paths,
)

from .console import ConsoleReporter, print_error


def pair_with_outputs(
    sources: Sequence[Path],
    inputs: Sequence[str],
    out: Path | None,
    *,
    suffix: str,
    extra_output: Path | None,
    overwrite: bool,
) -> list[tuple[Path, Path | UsageError]]:
    """Return each source with its output file, and check that the outputs can be written.

    A source whose output path is also that of another has an error instead.

    Args:
        sources: expanded inputs.
        inputs: arguments of the command; a list file among them is never overwritten.
        out: value of ``-o``: a file for one source, a folder for any number, or None.
        suffix: suffix of the output files; a file in ``out`` must have this format.
        extra_output: additional output file, such as a plot or a video.
        overwrite: whether existing files may be replaced.

    Raises:
        UsageError: see `resolve_output_paths` and `check_output_paths`.
        OutputError: a folder cannot be written to.
    """
    paths = resolve_output_paths(
        sources,
        out,
        default_suffix=suffix,
        allowed_suffixes=[Path(suffix).suffix],
        inputs=inputs,
    )
    conflicts = find_conflicts(sources, paths)
    pairs = [(source, output) for source, (output,) in zip(sources, paths, strict=True)]
    outputs = [output for source, output in pairs if source not in conflicts]
    make_parent_folders(outputs, out)
    extra = [extra_output] if extra_output else []
    check_output_paths(
        [*outputs, *extra], [*sources, *find_list_files(inputs)], overwrite=overwrite
    )
    return [(source, conflicts.get(source, output)) for source, output in pairs]


def print_input_error(source: str, message: str, hint: str) -> None:
    """Print the error of one of several inputs, with the name of the input."""
    named = Path(source).name in message
    print_error(message if named else f"{source}: {message}", hint=hint)


def process_inputs(
    paths: Sequence[tuple[Path, Path | UsageError]],
    process_one: Callable[[Path, Path], str],
    reporter: ConsoleReporter,
) -> None:
    """Process every input and print each result.

    Args:
        paths: inputs and their output files, from `pair_with_outputs`.
        process_one: function that writes an output file and returns the line to print.
        reporter: prints the results.

    Raises:
        LorisError: the only input failed.
        typer.Exit: at least one of several inputs failed; exit code 1.
    """
    n_failed = 0
    for source, output in paths:
        try:
            if isinstance(output, UsageError):
                raise output
            reporter.print_result(process_one(source, output))
        except LorisError as error:
            if len(paths) == 1:
                raise
            print_input_error(str(source), str(error), error.hint)
            n_failed += 1
    if n_failed:
        reporter.info(f"{n_failed} of {len(paths)} inputs failed")
        raise typer.Exit(1)
