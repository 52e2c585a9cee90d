"""Reports of several subsets in the layout of tables 2 to 4 of the paper.

JSON reports -> one table per activity, a line per subset and system -> text, Markdown, LaTeX

The published scores have columns of their own: they are for other clips, recordings of the
LORIS test partition, unless the report says otherwise.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from loris_cli.errors import InputError, UsageError
from loris_cli.evaluation.report.json_report import OFFICIAL_METRICS, REPORT_SCHEMA
from loris_cli.evaluation.report.tables import (
    Report,
    ReportTable,
    build_notes,
    format_percent,
    format_report_tables,
)
from loris_cli.evaluation.runner.paper_tables import get_published_scores

TABLE_SUBSETS = {2: ("da25",), 3: ("fe25", "fe50"), 4: ("fs25", "fs50")}
"""Subsets of each table."""
TABLE_TITLES = {2: "dance", 3: "floor exercise", 4: "figure skating"}
SYSTEM_IDS = {"d2m-gan": "d2mgan", "loris": "paper"}
"""Ids of systems whose published row has another id."""
LAYOUT_FORMATS = ("table", "md", "tex")


def read_report(path: Path) -> Report:
    """Read a JSON report of `loris eval --format json`.

    Raises:
        InputError: the file is not a report of this version.
    """
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        if report["schema"] != REPORT_SCHEMA:
            raise ValueError(f"report schema {report['schema']}, expected {REPORT_SCHEMA}")
        result: Report = report
        build_paper_layout([result])
        build_notes(result)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{path} is not a report: {error}", hint="make it with `loris eval --format json`"
        ) from error
    return result


def check_layout_format(output_format: str) -> None:
    """Check that the tables of the paper can be written in a format.

    Raises:
        UsageError: they cannot.
    """
    if output_format not in LAYOUT_FORMATS:
        raise UsageError(
            f"the paper's tables cannot be written as {output_format}",
            hint=f"pass --format {LAYOUT_FORMATS[0]}, {' or '.join(LAYOUT_FORMATS[1:])}",
        )


def format_paper_layout(reports: Sequence[Report], output_format: str) -> str:
    """Format reports as tables 2 to 4 of the paper, followed by their notes.

    Args:
        reports: at most one report of each subset.
        output_format: one of `LAYOUT_FORMATS`.

    Raises:
        UsageError: the format is another, or two reports are of one subset, or none is of a
            subset of the paper.
    """
    check_layout_format(output_format)
    titles = [report["title"] for report in reports]
    for title in titles:
        if titles.count(title) > 1:
            raise UsageError(f"two reports are of {title}", hint="pass one of each subset")
    tables = build_paper_layout(reports)
    if not tables:
        raise UsageError(
            f"no table of the paper has the subset {', '.join(titles)}",
            hint="its subsets are da25, fe25, fe50, fs25 and fs50",
        )
    notes = dict.fromkeys(
        f"{report['title']}: {note}" for report in reports for note in build_notes(report)
    )
    return format_report_tables(tables, list(notes), output_format)


def build_paper_layout(reports: Sequence[Report]) -> list[ReportTable]:
    """Build tables 2 to 4 for the subsets of some reports.

    Args:
        reports: at most one report of each subset.

    Returns:
        tables with a line per subset and system: first the paper's methods in its order, then
        the other systems in the order of the report.
    """
    by_subset = {report["title"]: report for report in reports}
    paper_heads = [f"paper {name}" for name in OFFICIAL_METRICS]
    heads = ["system", "subset", "n", *OFFICIAL_METRICS, "F1 95 % CI", *paper_heads]
    tables = []
    for number, subsets in TABLE_SUBSETS.items():
        rows = [
            row
            for subset in subsets
            if subset in by_subset
            for row in _build_rows(by_subset[subset])
        ]
        if rows:
            title = f"Table {number}, {TABLE_TITLES[number]}, %"
            tables.append(
                ReportTable(f"{title} (paper: published scores, other clips)", heads, rows)
            )
    return tables


def _build_rows(report: Report) -> list[list[str]]:
    subset = report["title"]
    systems = {system["id"]: system for system in report["systems"] if system["official"]}
    rows = []
    for published in get_published_scores(subset):
        system = systems.pop(SYSTEM_IDS.get(published["id"], published["id"]), None)
        paper = [format_percent(published[name]) for name in OFFICIAL_METRICS]
        own = ["-"] * (len(OFFICIAL_METRICS) + 2)
        rows.append(
            [published["name"], subset, *(_build_scores(system) if system else own), *paper]
        )
    missing = ["-"] * len(OFFICIAL_METRICS)
    rows += [
        [name, subset, *_build_scores(system), *missing] for name, system in systems.items()
    ]
    return rows


def _build_scores(system: Report) -> list[str]:
    """Return the number of clips, the scores and the interval of F1."""
    low, high = system["intervals"].get("F1", (None, None))
    interval = "-" if low is None else f"{format_percent(low)}..{format_percent(high)}"
    scores = (format_percent(system["official"][name]) for name in OFFICIAL_METRICS)
    return [str(system["n"]), *scores, interval]
