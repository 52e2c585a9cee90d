"""The tables of the paper, and where they are misprinted.

LORIS (Yu et al., ICML 2023), tables 1 to 8, as printed, in percent: ``published.json``.
"""

import json
from functools import cache
from importlib.resources import files
from typing import Any

COLUMNS = ("BCS", "CSD", "BHS", "HSD", "F1", "MOS")
SUBSETS = ("da25", "fe25", "fe50", "fs25", "fs50")


@cache
def published() -> dict[str, Any]:
    """Everything, as in the file."""
    text = (
        files("loris_cli.evaluation.runner")
        .joinpath("published.json")
        .read_text(encoding="utf-8")
    )
    tables: dict[str, Any] = json.loads(text)
    return tables


def methods_of(split: str) -> list[dict[str, Any]]:
    """What the paper printed for a split, a row a method, from 0 to 1 but for MOS.

    Returns:
        rows with ``id``, ``name``, `COLUMNS`, ``table`` and, where a figure is misprinted,
        ``misprints``; none for a split that the paper does not have.
    """
    return [
        _row(table, row)
        for table in published()["tables"]
        if table["split"] == split and table["table"] in (2, 3, 4)
        for row in table["rows"]
    ]


def ablation(number: int) -> list[dict[str, Any]]:
    """A table of the ablations, 5 to 8, likewise; all of them are on ``fe25``."""
    [table] = [table for table in published()["tables"] if table["table"] == number]
    return [_row(table, row) for row in table["rows"]]


def title_of(number: int) -> str:
    """What a table is about, in a word or two."""
    return str(next(t["title"] for t in published()["tables"] if t["table"] == number))


def _row(table: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
    wrong = [
        slip
        for slip in published()["misprints"]
        if (slip["table"], slip["split"], slip["row"])
        == (table["table"], table["split"], row["id"])
    ]
    told = {
        name: round(value / 100, 4) if name in COLUMNS and name != "MOS" else value
        for name, value in row.items()
    }
    return {**told, "table": table["table"], **({"misprints": wrong} if wrong else {})}
