"""Sub-commands of ``loris eval``: subsets, listening test, tables of several reports."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from . import options
from .console import ConsoleReporter
from .eval_output import print_mos_results, print_paper_layout, print_subsets
from .options import option


def list_subsets(
    data: options.DataDir = None, quiet: options.Quiet = False, verbose: options.Verbose = False
) -> None:
    """List the subsets and their clips on disk.

    For incomplete subsets, prints the commands that create or import the missing clips.

    Examples:
        loris eval list --data DATA
    """
    from loris_cli.config import data_home

    print_subsets(data_home(data), ConsoleReporter(quiet=quiet, verbose=verbose))


def mos_results(
    answers: Annotated[
        list[Path],
        typer.Argument(
            metavar="CSV",
            help="Files with the answers of the listeners.",
            rich_help_panel="Input",
        ),
    ],
    key: Annotated[Path, option("Input", "key.json of the listening test.", metavar="JSON")],
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Print the mean opinion scores of a listening test created with --mos-kit.

    Prints the ratings of each system and medium, then the preferences of each pair of systems
    and medium, with the number of answers, the mean and its 95 % confidence interval.

    Examples:
        loris eval mos-results anna.csv ben.csv --key DIR/key.json
    """
    print_mos_results(answers, key, ConsoleReporter(quiet=quiet, verbose=verbose))


def tables(
    reports: Annotated[
        list[Path],
        typer.Argument(
            metavar="JSON",
            help="Reports of `loris eval --format json`, one of each subset.",
            rich_help_panel="Input",
        ),
    ],
    out: Annotated[
        Path | None,
        option(
            "Output",
            "Write the tables to this file. Default: standard output.",
            "--out",
            "-o",
            metavar="FILE",
        ),
    ] = None,
    output_format: Annotated[
        Literal["table", "md", "tex"], option("Output", "Output format.", "--format")
    ] = "table",
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Lay out the reports of several subsets as tables 2 to 4 of the paper.

    The published scores have columns of their own, because they are for other clips.

    Examples:
        loris eval tables fe25.json fe50.json --format md
    """
    reporter = ConsoleReporter(quiet=quiet, verbose=verbose)
    print_paper_layout(reports, out, output_format, reporter, overwrite=overwrite)
