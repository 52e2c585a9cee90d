"""Our rows in the layout of the paper's tables 5 to 8, each beside what is printed there.

rows of a run, lines of a table of the paper -> lines: ours, or why there is none; theirs
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loris_cli.evaluation.runner.paper_tables import get_ablation_rows, get_table_title


@dataclass(frozen=True, kw_only=True)
class PaperTableLine:
    """One line of a table."""

    name: str
    """As printed in the paper, where it is there."""
    system_id: str | None
    """Id of our row; None where there is none."""
    missing_reason: str = ""
    """Why there is none, and how to get it."""
    published_scores: Mapping[str, Any] | None = None
    """The paper's figures, 0..1; None of what it does not have."""


@dataclass(frozen=True, kw_only=True)
class PaperTable:
    """A table of the paper with our rows in it."""

    number: int
    lines: Sequence[PaperTableLine]

    @property
    def title(self) -> str:
        """What the table is about."""
        return get_table_title(self.number)


def build_paper_table(number: int, system_ids: Mapping[str, Sequence[str]]) -> PaperTable:
    """Rows beside the lines of the paper that have their settings; what it lacks comes last.

    Args:
        number: its number.
        system_ids: ids of our rows by the id that such a line has in the paper.
    """
    printed = {row["id"]: row for row in get_ablation_rows(number)}
    lines = [
        PaperTableLine(
            name=printed[name]["name"] if name in printed else name,
            system_id=row,
            published_scores=printed.get(name),
        )
        for name in [*printed, *(name for name in system_ids if name not in printed)]
        for row in system_ids.get(name, [None])
    ]
    return PaperTable(number=number, lines=lines)
