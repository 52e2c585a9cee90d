"""Shards of the items of a run, from the option or from a SLURM job array."""

import pytest

from loris_cli.errors import UsageError
from loris_cli.system.shards import Shard, parse_shard, resolve_shard


def test_shards_are_disjoint_and_complete() -> None:
    items = [f"{k:02d}" for k in range(17)]
    shards = [Shard(k, 5).select(reversed(items), key=str) for k in range(5)]
    assert sorted(item for shard in shards for item in shard) == items
    assert Shard(1, 4).select(range(9)) == [1, 5]


def test_a_slurm_job_array_defines_the_shard() -> None:
    array = {
        "SLURM_ARRAY_TASK_ID": "7",
        "SLURM_ARRAY_TASK_MIN": "1",
        "SLURM_ARRAY_TASK_STEP": "2",
        "SLURM_ARRAY_TASK_COUNT": "5",
    }
    assert resolve_shard(None, array) == Shard(3, 5)
    assert resolve_shard("2/4", array) == parse_shard("2/4") == Shard(1, 4)
    assert resolve_shard(None, {}) == Shard(0, 1)


@pytest.mark.parametrize("text", ["5/4", "0/4", "-1/4", "1", "a/b", "0/0", "1/2/3", "٢/٣", ""])
def test_invalid_shards_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match=f"'{text}'") as caught:
        parse_shard(text)
    assert "--shard" in caught.value.hint
