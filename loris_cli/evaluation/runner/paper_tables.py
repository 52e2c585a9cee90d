"""The tables of the paper, their misprints, and their layout for the scores of a run.

LORIS (Yu et al., ICML 2023), tables 1 to 8, as printed, in percent: ``published.json``.
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
    """One line of a table."""

    name: str
    """As printed in the paper, if it is there."""
    system_id: str | None
    """Id of the system of the run; None if there is none."""
    missing_reason: str = ""
    """Why there is none, and how to get it."""
    published_scores: Mapping[str, Any] | None = None
    """Scores in the paper, 0..1; None for a line that it does not have."""


@dataclass(frozen=True, kw_only=True)
class PaperTable:
    """A table of the paper with the systems of a run."""

    number: int
    lines: Sequence[PaperTableLine]

    @property
    def title(self) -> str:
        """Subject of the table."""
        return str(_get_table(self.number)["title"])


@cache
def load_published_tables() -> dict[str, Any]:
    """All contents of the file."""
    path = files("loris_cli.evaluation.runner").joinpath("published.json")
    tables: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return tables


def get_published_scores(subset: str) -> list[dict[str, Any]]:
    """Published scores on a subset, one row a method, from 0 to 1 except MOS.

    Returns:
        rows with ``id``, ``name``, `SCORE_COLUMNS`, ``table`` and, where a score is misprinted,
        ``misprints``; none for a subset that the paper does not have.
    """
    return [
        _normalize_row(table, row)
        for table in load_published_tables()["tables"]
        if table["subset"] == subset and table["table"] in (2, 3, 4)
        for row in table["rows"]
    ]


def get_ablation_rows(table_number: int) -> dict[str, dict[str, Any]]:
    """Rows of an ablation table, 5 to 8, by their ids; all are on ``fe25``."""
    table = _get_table(table_number)
    return {row["id"]: _normalize_row(table, row) for row in table["rows"]}


def build_paper_table(number: int, system_ids: Mapping[str, Sequence[str]]) -> PaperTable:
    """Systems next to the lines of the paper with the same settings; other systems come last.

    Args:
        number: number of the table.
        system_ids: ids of the systems by the id that such a line has in the paper.
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
