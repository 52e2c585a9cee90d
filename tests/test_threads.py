"""Threads: their number, and the pool for independent rows."""

import os
import threading
import time
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path

import pytest
import torch

from loris_cli.system import threads
from loris_cli.system.threads import (
    configure_threads,
    count_threads,
    divide_pool,
    map_rows,
    pool_size,
)


@pytest.fixture(autouse=True)
def restored_pool() -> Iterator[None]:
    """Restore the size of the pool after a test."""
    before = pool_size()
    yield
    configure_threads(before)


@pytest.fixture
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Machine with eight cores and no limits."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(threads, "CGROUP_V2_QUOTA", Path("/nonexistent"))
    monkeypatch.setattr(threads, "CGROUP_V1_QUOTA", Path("/nonexistent"))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


@pytest.mark.parametrize(
    ("requested", "omp", "n_processes", "expected"),
    [
        (None, "", 1, 8),
        (None, "3", 1, 3),
        (None, "4,2", 1, 4),
        (None, "many", 1, 8),
        (None, "0", 1, 8),
        (5, "3", 1, 5),
        (None, "", 2, 4),
        (None, "", 3, 2),
        (None, "", 20, 1),
        (1, "", 1, 1),
        (1000, "", 1, 1000),
    ],
)
def test_threads_follow_option_environment_cores_and_processes(
    eight_cores: None,
    monkeypatch: pytest.MonkeyPatch,
    requested: int | None,
    omp: str,
    n_processes: int,
    expected: int,
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", omp)
    assert count_threads(requested, n_processes=n_processes) == expected


@pytest.mark.parametrize(
    ("quota", "expected"),
    [("max 100000", 8), ("150000 100000", 2), ("50000 100000", 1), ("1600000 100000", 8),
     ("damaged", 8)],
)  # fmt: skip
def test_threads_respect_the_quota_of_a_container(
    eight_cores: None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    quota: str,
    expected: int,
) -> None:
    path = tmp_path / "cpu.max"
    path.write_text(f"{quota}\n")
    monkeypatch.setattr(threads, "CGROUP_V2_QUOTA", path)
    assert count_threads() == expected


def test_threads_respect_the_affinity_of_the_process(
    eight_cores: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {1, 5, 6}, raising=False)
    assert count_threads() == 3


def test_the_pool_has_a_largest_size() -> None:
    configure_threads(1000)
    assert pool_size() == threads.MAX_POOL_THREADS


@pytest.mark.parametrize("n_threads", [1, 2, 5])
def test_results_of_rows_are_in_order(n_threads: int) -> None:
    configure_threads(n_threads)

    def square(x: int) -> int:
        time.sleep(0.002 * (x % 3 == 0))
        return x * x

    assert list(map_rows(square, range(30))) == [x * x for x in range(30)]


def test_rows_run_in_parallel() -> None:
    configure_threads(2)
    barrier = threading.Barrier(2, timeout=20)
    # Each row waits for the other, so rows one after the other would never end.
    assert sorted(map_rows(lambda row: barrier.wait(), range(2))) == [0, 1]


def test_rows_are_read_only_a_few_ahead() -> None:
    configure_threads(3)
    n_read = count()
    rows = (next(n_read) for _ in count())
    assert list(islice(map_rows(lambda row: row, rows), 5)) == [0, 1, 2, 3, 4]
    assert next(n_read) <= 5 + 3 + 1


def test_an_error_in_a_row_is_raised_and_the_pool_stays_usable() -> None:
    configure_threads(2)
    with pytest.raises(ZeroDivisionError):
        list(map_rows(lambda row: 1 // row, [1, 0, 2]))
    assert list(map_rows(lambda row: 1 // row, [1, 1])) == [1, 1]


def test_every_call_of_torch_in_the_pool_has_one_thread() -> None:
    threads.use_one_thread_per_call()
    configure_threads(2)
    assert list(map_rows(lambda row: torch.get_num_threads(), range(4))) == [1] * 4


@pytest.mark.parametrize(
    ("n_threads", "n_processes", "expected"), [(4, 2, 2), (4, 3, 1), (1, 8, 1)]
)
def test_worker_processes_share_the_threads(
    n_threads: int, n_processes: int, expected: int
) -> None:
    configure_threads(n_threads)
    assert divide_pool(n_processes) == expected
