"""Shards: equal parts of a list of items, one per process of a job array."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from loris_cli.errors import UsageError

Item = TypeVar("Item")


@dataclass(frozen=True)
class Shard:
    """One of ``n_shards`` equal parts of the work."""

    index: int
    """Index of the shard, from 0."""
    n_shards: int

    def select(
        self, items: Iterable[Item], key: Callable[[Item], Any] | None = None
    ) -> list[Item]:
        """Return every ``n_shards``-th item.

        Args:
            items: items, the same in every process.
            key: sort key, needed if the order of the items differs between processes.
        """
        ordered = list(items) if key is None else sorted(items, key=key)
        return ordered[self.index :: self.n_shards]


def parse_shard(text: str) -> Shard:
    """Parse ``I/N``, counted from 1.

    Raises:
        UsageError: the text has another form, or I is not in the range 1 to N.
    """
    match = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise UsageError(
            f"invalid shard {text!r}, expected I/N with 1 <= I <= N",
            hint="use --shard 1/8 to --shard 8/8 for 8 shards",
        )
    return Shard(int(match[1]) - 1, int(match[2]))


def resolve_shard(text: str | None, environ: Mapping[str, str]) -> Shard:
    """Return the shard of this process.

    Args:
        text: ``I/N``; None selects the task of the SLURM job array, or all items if there is
            none.
        environ: environment variables.

    Raises:
        UsageError: the text is not a valid shard, or the job array is sparse or has one task.
    """
    if text is not None:
        return parse_shard(text)
    if "SLURM_ARRAY_TASK_ID" not in environ:
        return Shard(0, 1)
    names = ("ID", "MIN", "MAX", "COUNT")
    values = [environ.get(f"SLURM_ARRAY_TASK_{name}", "") for name in names]
    values.append(environ.get("SLURM_ARRAY_TASK_STEP", "1"))
    if all(re.fullmatch("[0-9]{1,9}", value) for value in values):
        task, first, last, count, step = map(int, values)
        # A task of an incomplete array, such as a resubmitted one, would take the wrong items.
        is_complete = count > 1 and step > 0 and last == first + (count - 1) * step
        if is_complete and task in range(first, last + 1, step):
            return Shard((task - first) // step, count)
    raise UsageError(
        "the SLURM job array has gaps or only one task",
        hint="use --shard I/N, where N is the number of all tasks",
    )
