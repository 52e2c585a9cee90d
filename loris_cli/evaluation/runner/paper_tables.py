"""The tables of the paper, and where they are misprinted.

LORIS (Yu et al., ICML 2023), tables 1 to 8, as printed, in percent: ``published.json``.
"""

import json
from functools import cache
from importlib.resources import files
from typing import Any

SCORE_COLUMNS = ("BCS", "CSD", "BHS", "HSD", "F1", "MOS")
PAPER_SUBSETS = ("da25", "fe25", "fe50", "fs25", "fs50")


@cache
def load_published_tables() -> dict[str, Any]:
    """Everything, as in the file."""
    text = (
        files("loris_cli.evaluation.runner")
        .joinpath("published.json")
        .read_text(encoding="utf-8")
    )
    tables: dict[str, Any] = json.loads(text)
    return tables


def get_published_scores(subset: str) -> list[dict[str, Any]]:
    """What the paper printed for a split, a row a method, from 0 to 1 but for MOS.

    Returns:
        rows with ``id``, ``name``, `SCORE_COLUMNS`, ``table`` and, where a figure is misprinted,
        ``misprints``; none for a split that the paper does not have.
    """
    return [
        _normalize_paper_row(table, row)
        for table in load_published_tables()["tables"]
        if table["split"] == subset and table["table"] in (2, 3, 4)
        for row in table["rows"]
    ]


def get_ablation_rows(table_number: int) -> list[dict[str, Any]]:
    """A table of the ablations, 5 to 8, likewise; all of them are on ``fe25``."""
    [table] = [
        table for table in load_published_tables()["tables"] if table["table"] == table_number
    ]
    return [_normalize_paper_row(table, row) for row in table["rows"]]


def get_table_title(table_number: int) -> str:
    """What a table is about, in a word or two."""
    return str(
        next(
            t["title"] for t in load_published_tables()["tables"] if t["table"] == table_number
        )
    )


def _normalize_paper_row(table: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
    wrong = [
        slip
        for slip in load_published_tables()["misprints"]
        if (slip["table"], slip["split"], slip["row"])
        == (table["table"], table["split"], row["id"])
    ]
    told = {
        name: round(value / 100, 4) if name in SCORE_COLUMNS and name != "MOS" else value
        for name, value in row.items()
    }
    return {**told, "table": table["table"], **({"misprints": wrong} if wrong else {})}
