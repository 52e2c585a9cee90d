"""Shards of the items of a run, from the option or from a SLURM job array."""

import pytest

from loris_cli.errors import UsageError
from loris_cli.system.shards import Shard, parse_shard, resolve_shard


def test_shards_are_disjoint_and_complete() -> None:
    items = [f"{k:02d}" for k in range(17)]
    shards = [Shard(k, 5).select(reversed(items), key=str) for k in range(5)]
    assert sorted(item for shard in shards for item in shard) == items
    assert Shard(1, 4).select(range(9)) == [1, 5]


def make_array(*tasks: int, task: int, step: int = 1) -> dict[str, str]:
    """Return the variables that SLURM sets for a task of an array."""
    values = {"ID": task, "MIN": tasks[0], "MAX": tasks[-1], "STEP": step, "COUNT": len(tasks)}
    return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in values.items()}


@pytest.mark.parametrize(
    ("tasks", "step"), [(range(8), 1), (range(1, 4), 1), (range(3, 9, 2), 2)]
)
def test_the_tasks_of_a_slurm_job_array_are_the_shards(tasks: range, step: int) -> None:
    shards = [resolve_shard(None, make_array(*tasks, task=task, step=step)) for task in tasks]
    assert shards == [Shard(k, len(tasks)) for k in range(len(tasks))]


def test_the_option_precedes_the_slurm_job_array() -> None:
    assert resolve_shard("2/4", make_array(3, 5, task=3)) == parse_shard("2/4") == Shard(1, 4)
    assert resolve_shard(None, {}) == Shard(0, 1)


@pytest.mark.parametrize(
    "array",
    [
        make_array(3, 5, task=3),
        make_array(3, 5, task=5),
        make_array(3, 5, task=5, step=2) | {"SLURM_ARRAY_TASK_COUNT": "3"},
        make_array(0, 1, 2, 7, task=1),
        make_array(3, task=3),
        make_array(0, 1, 2, task=7),
        make_array(0, 1, 2, task=1, step=0),
        make_array(0, 1, task=0) | {"SLURM_ARRAY_TASK_MAX": ""},
        {"SLURM_ARRAY_TASK_ID": "1"},
        {"SLURM_ARRAY_TASK_ID": "x"},
    ],
    ids=str,
)
def test_sparse_and_single_job_arrays_ask_for_the_option(array: dict[str, str]) -> None:
    with pytest.raises(UsageError) as caught:
        resolve_shard(None, array)
    assert "--shard" in caught.value.hint


@pytest.mark.parametrize("text", ["5/4", "0/4", "-1/4", "1", "a/b", "0/0", "1/2/3", "٢/٣", ""])
def test_invalid_shards_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match=f"'{text}'") as caught:
        parse_shard(text)
    assert "--shard" in caught.value.hint
