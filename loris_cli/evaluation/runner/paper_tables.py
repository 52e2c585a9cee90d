"""Published tables of the paper with known misprints, and their layout for the scores of a run.

``published.json`` has tables 1 to 8 of LORIS (Yu et al., ICML 2023) as printed, in percent.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

SCORE_COLUMNS = ("BCS", "CSD", "BHS", "HSD", "F1", "MOS")
PAPER_SUBSETS = ("da25", "fe25", "fe50", "fs25", "fs50")


@dataclass(frozen=True, kw_only=True)
class PaperTableLine:
    """One line of a table: a system of the run next to the published scores."""

    name: str
    """Method name, as printed in the paper if the paper has this line."""
    system_id: str | None
    """System id in this run; None if it was not evaluated."""
    missing_reason: str = ""
    """Why the system was not evaluated, and the command that adds it."""
    published_scores: Mapping[str, Any] | None = None
    """Scores in the paper, 0..1; None for a line that the paper lacks."""


@dataclass(frozen=True, kw_only=True)
class PaperTable:
    """A table of the paper with the systems of a run."""

    number: int
    lines: Sequence[PaperTableLine]

    @property
    def title(self) -> str:
        """Title of the table."""
        return str(_get_table(self.number)["title"])


@cache
def load_published_tables() -> dict[str, Any]:
    """Load ``published.json``."""
    path = files("loris_cli.evaluation.runner").joinpath("published.json")
    tables: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return tables


def get_published_scores(subset: str) -> list[dict[str, Any]]:
    """Return the published scores on a subset, one row per method.

    Returns:
        rows with ``id``, ``name``, `SCORE_COLUMNS` (0..1, MOS 1..5), ``table`` and, if a score
        is misprinted, ``misprints``; empty for a subset that the paper lacks.
    """
    return [
        _normalize_row(table, row)
        for table in load_published_tables()["tables"]
        if table["subset"] == subset and table["table"] in (2, 3, 4)
        for row in table["rows"]
    ]


def get_ablation_rows(table_number: int) -> dict[str, dict[str, Any]]:
    """Return the rows of an ablation table, 5 to 8, by row id. All are scored on ``fe25``."""
    table = _get_table(table_number)
    return {row["id"]: _normalize_row(table, row) for row in table["rows"]}


def build_paper_table(number: int, system_ids: Mapping[str, Sequence[str]]) -> PaperTable:
    """Build a table with the published lines and the systems of the run.

    Args:
        number: table number in the paper.
        system_ids: system ids by the row id of the published line with the same settings;
            systems without a published line come last.
    """
    printed = get_ablation_rows(number)
    lines = [
        PaperTableLine(
            name=printed[name]["name"] if name in printed else name,
            system_id=system_id,
            published_scores=printed.get(name),
        )
        for name in dict.fromkeys([*printed, *system_ids])
        for system_id in system_ids.get(name, [None])
    ]
    return PaperTable(number=number, lines=lines)


def _get_table(number: int) -> dict[str, Any]:
    tables: list[dict[str, Any]] = load_published_tables()["tables"]
    return next(table for table in tables if table["table"] == number)


def _normalize_row(table: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
    key = (table["table"], table["subset"], row["id"])
    misprints = [
        misprint
        for misprint in load_published_tables()["misprints"]
        if (misprint["table"], misprint["subset"], misprint["id"]) == key
    ]
    scores = {name: round(row[name] / 100, 4) for name in SCORE_COLUMNS[:-1]}
    normalized = {**row, **scores, "table": table["table"]}
    return {**normalized, "misprints": misprints} if misprints else normalized
