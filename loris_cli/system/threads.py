"""Threads of a process: one per network call, and a pool for independent rows.

    cores, quota, OMP_NUM_THREADS, --threads, jobs -> number of threads -> pool -> map_rows

A network call with several threads sums in another order, so its bytes depend on the number of
threads; its OpenMP threads also spin while they wait, which takes the time of other processes.
Each call therefore has one thread, and independent calls (the two halves of guidance, windows,
blocks) run in a pool. The results do not depend on the size of the pool.
"""

import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeVar

Row = TypeVar("Row")
Result = TypeVar("Result")

CGROUP_V2_QUOTA = Path("/sys/fs/cgroup/cpu.max")
CGROUP_V1_QUOTA = Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us")
CGROUP_V1_PERIOD = Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us")
MAX_POOL_THREADS = 16
"""Largest pool: a long video has about as many independent rows at a time."""


def count_usable_cores() -> int:
    """Return the number of cores that this process may use: affinity and cgroup quota."""
    if sys.platform == "linux":
        n_cores = len(os.sched_getaffinity(0))
    else:
        n_cores = os.cpu_count() or 1
    quota = _read_cgroup_quota()
    return n_cores if quota is None else max(min(n_cores, round(quota)), 1)


def _read_cgroup_quota() -> float | None:
    """Return the CPU quota of the container in cores; None without a limit."""
    with suppress(OSError, ValueError):
        limit, period = CGROUP_V2_QUOTA.read_text().split()
        return None if limit == "max" else int(limit) / int(period)
    with suppress(OSError, ValueError):
        limit_us = int(CGROUP_V1_QUOTA.read_text())
        return None if limit_us <= 0 else limit_us / int(CGROUP_V1_PERIOD.read_text())
    return None


def count_threads(requested: int | None = None, *, n_processes: int = 1) -> int:
    """Return the number of pool threads of a process.

    Args:
        requested: value of ``--threads`` for all processes together; None uses
            ``OMP_NUM_THREADS``, else the usable cores.
        n_processes: processes that run at the same time and share the threads.

    Returns:
        at least 1.
    """
    total = requested
    if total is None:
        with suppress(ValueError):
            # A list, such as "4,2", has one value for each nesting level.
            total = int(os.environ.get("OMP_NUM_THREADS", "").split(",")[0])
    if total is None or total < 1:
        total = count_usable_cores()
    return max(total // max(n_processes, 1), 1)


@dataclass
class _PoolState:
    n_threads: int | None = None
    executor: ThreadPoolExecutor | None = None


_state = _PoolState()


def configure_threads(n_threads: int) -> None:
    """Set the size of the pool of this process, at most `MAX_POOL_THREADS`."""
    n_threads = min(n_threads, MAX_POOL_THREADS)
    if _state.executor is not None and n_threads != _state.n_threads:
        _state.executor.shutdown(wait=False)
        _state.executor = None
    _state.n_threads = n_threads


def divide_pool(n_processes: int) -> int:
    """Return the pool size of each of several worker processes, at least 1."""
    return max(pool_size() // max(n_processes, 1), 1)


def pool_size() -> int:
    """Return the size of the pool of this process."""
    if _state.n_threads is None:
        configure_threads(count_threads())
    assert _state.n_threads is not None
    return _state.n_threads


def map_rows(function: Callable[[Row], Result], rows: Iterable[Row]) -> Iterator[Result]:
    """Apply a function to independent rows in the pool; the results are in order.

    Rows are read ahead by no more than the size of the pool, so an unlimited iterable is
    possible. The function must not call `map_rows` itself.

    Args:
        function: called in several threads; a torch function needs its own
            ``inference_mode``, which is local to a thread.
        rows: arguments.

    Yields:
        results in the order of the rows.
    """
    n_threads = pool_size()
    if n_threads == 1:
        yield from map(function, rows)
        return
    if _state.executor is None:
        _state.executor = ThreadPoolExecutor(n_threads, thread_name_prefix="loris-row")
    pending: deque[Future[Result]] = deque()
    try:
        for row in rows:
            pending.append(_state.executor.submit(function, row))
            if len(pending) > n_threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()


@cache
def use_one_thread_per_call() -> None:
    """Let torch, BLAS and OpenMP use one thread in each call of this process."""
    import scipy.linalg  # noqa: F401  # only libraries that are loaded can be limited
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(1)
    threadpool_limits(limits=1)
