"""Loop over the inputs of a command; a failed input is reported and the loop continues."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True, kw_only=True)
class InputFile:
    """One input of a command with its output files."""

    source: Path
    output: Path
    extra_output: Path | None
    """Additional output file, such as a plot or a video."""
    conflict: UsageError | None
    """Error of an input that has an output path of another."""


def plan_outputs(
    sources: Sequence[Path],
    inputs: Sequence[str],
    out: Path | None,
    *,
    suffix: str,
    extra: Path | None,
    extra_suffix: str,
    overwrite: bool,
) -> list[InputFile]:
    """Return each source with its output files, and check that they can be written.

    Args:
        sources: expanded inputs.
        inputs: arguments of the command; a list file among them is never overwritten.
        out: value of ``-o``: a file for one source, a folder for any number, or None.
        suffix: suffix of the output files; a file in ``out`` must have this format.
        extra: additional output: a file for one source, a folder for any number, or None.
        extra_suffix: suffix of additional output files.
        overwrite: whether existing files may be replaced.

    Raises:
        UsageError: see `resolve_output_paths` and `check_output_paths`.
        OutputError: a folder cannot be written to.
    """
    files: dict[Path, list[Path]] = {source: [] for source in sources}
    conflicts: dict[Path, UsageError] = {}
    targets = [(out, suffix)] if extra is None else [(out, suffix), (extra, extra_suffix)]
    for target, default_suffix in targets:
        paths = resolve_output_paths(
            sources,
            target,
            default_suffix=default_suffix,
            allowed_suffixes=["." + default_suffix.rpartition(".")[2]],
            inputs=inputs,
        )
        conflicts = find_conflicts(sources, paths) | conflicts
        for source, (path,) in zip(sources, paths, strict=True):
            files[source].append(path)
    outputs = [path for source in sources if source not in conflicts for path in files[source]]
    for target, _ in targets:
        make_parent_folders(outputs, target)
    check_output_paths(outputs, [*sources, *find_list_files(inputs)], overwrite=overwrite)
    return [
        InputFile(
            source=source,
            output=files[source][0],
            extra_output=None if extra is None else files[source][1],
            conflict=conflicts.get(source),
        )
        for source in sources
    ]


def print_input_error(source: str, message: str, hint: str) -> None:
    """Print the error of one of several inputs, with the name of the input."""
    named = Path(source).name in message
    print_error(message if named else f"{source}: {message}", hint=hint)


def process_inputs(
    files: Sequence[InputFile],
    process_one: Callable[[InputFile], str],
    reporter: ConsoleReporter,
) -> None:
    """Process every input and print each result.

    Args:
        files: inputs and their output files, from `plan_outputs`.
        process_one: function that writes the output files and returns the line to print.
        reporter: prints the results.

    Raises:
        LorisError: the only input failed.
        typer.Exit: at least one of several inputs failed; exit code 1.
    """
    n_failed = 0
    for file in files:
        try:
            if file.conflict is not None:
                raise file.conflict
            reporter.print_result(process_one(file))
        except LorisError as error:
            if len(files) == 1:
                raise
            print_input_error(str(file.source), str(error), error.hint)
            n_failed += 1
    if n_failed:
        reporter.info(f"{n_failed} of {len(files)} inputs failed")
        raise typer.Exit(1)
