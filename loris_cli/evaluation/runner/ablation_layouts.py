"""Our rows in the layout of the paper's tables 5 to 8, each beside what is printed there.

rows of a run, lines of a table of the paper -> lines: ours, or why there is none; theirs
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loris_cli.evaluation.runner.paper_tables import ablation, title_of


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of a table."""

    name: str
    """As printed in the paper, where it is there."""
    row: str | None
    """Id of our row; None where there is none."""
    lacking: str = ""
    """Why there is none, and how to get it."""
    published: Mapping[str, Any] | None = None
    """The paper's figures, 0..1; None of what it does not have."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A table of the paper with our rows in it."""

    table: int
    lines: Sequence[Line]

    @property
    def title(self) -> str:
        """What the table is about."""
        return title_of(self.table)


def beside(table: int, ours: Mapping[str, Sequence[str]]) -> Layout:
    """Rows beside the lines of the paper that have their settings; what it lacks comes last.

    Args:
        table: its number.
        ours: ids of our rows by the id that such a line has in the paper.
    """
    printed = {row["id"]: row for row in ablation(table)}
    lines = [
        Line(
            name=printed[name]["name"] if name in printed else name,
            row=row,
            published=printed.get(name),
        )
        for name in [*printed, *(name for name in ours if name not in printed)]
        for row in ours.get(name, [None])
    ]
    return Layout(table=table, lines=lines)
