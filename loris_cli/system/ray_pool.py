"""Equivalent of `worker_pool.map_in_processes` on Ray, on a cluster or on this machine.

items -> tasks, at most ``n_workers`` at a time -> results in order of completion

A worker that crashes or times out fails only its own item, as in `worker_pool`. Every machine
of the cluster needs this package and the same folders.
"""

import time
from collections.abc import Callable, Generator, Sequence
from itertools import islice
from typing import Any, TypeVar

from loris_cli.system.optional_packages import import_optional
from loris_cli.system.worker_pool import WorkerCrash, limit_memory

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_on_ray(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    n_workers: int,
    timeout_s: float | None = None,
    memory_limit_bytes: int | None = None,
    cluster_address: str | None = None,
) -> Generator[tuple[int, Result | WorkerCrash], None, None]:
    """Apply a function to every item.

    Args:
        function: module-level function.
        items: arguments of the function.
        n_workers: number of parallel tasks, each on one core.
        timeout_s: as for `map_in_processes`; includes the time that a task waits for a core.
        memory_limit_bytes: as for `map_in_processes`.
        cluster_address: address of a running cluster; None starts one on this machine and stops
            it at the end.

    Yields:
        Index of an item and its result, in order of completion.

    Raises:
        MissingDependencyError: Ray is not installed.
    """
    ray = import_optional("ray", extra="ray", purpose="distribute videos over a cluster")
    local = {} if cluster_address else {"num_cpus": n_workers, "include_dashboard": False}
    ray.init(address=cluster_address, log_to_driver=False, **local)
    start = ray.remote(num_cpus=1, max_retries=0)(_call_with_memory_limit)
    waiting = iter(enumerate(items))
    running: dict[Any, tuple[int, float]] = {}
    try:
        while True:
            for index, item in islice(waiting, n_workers - len(running)):
                task = start.remote(function, item, memory_limit_bytes)
                running[task] = index, time.monotonic()
            if not running:
                return
            wait_s = None
            if timeout_s is not None:
                first_s = min(started_s for _, started_s in running.values())
                wait_s = max(0.0, first_s + timeout_s - time.monotonic())
            for task in ray.wait(list(running), timeout=wait_s)[0]:
                index, _ = running.pop(task)
                yield index, _get_result(ray, task)
            for task, (index, started_s) in list(running.items()):
                if timeout_s is not None and time.monotonic() - started_s >= timeout_s:
                    ray.cancel(task, force=True)
                    del running[task]
                    yield index, WorkerCrash(exit_code=None, timed_out=True)
    finally:
        for task in running:
            ray.cancel(task, force=True)
        ray.shutdown()


def _call_with_memory_limit(
    function: Callable[[Item], Result], item: Item, memory_limit_bytes: int | None
) -> Result:
    """Apply the function to one item in a Ray worker."""
    if memory_limit_bytes is not None:
        limit_memory(memory_limit_bytes)
    return function(item)


def _get_result(ray: Any, task: Any) -> Any:
    """Return the result of a task; an exception becomes a `WorkerCrash`."""
    try:
        return ray.get(task)
    except ray.exceptions.RayTaskError:
        return WorkerCrash(exit_code=1)
    except ray.exceptions.RayError:  # the worker crashed, or the machine ran out of memory
        return WorkerCrash(exit_code=None)
