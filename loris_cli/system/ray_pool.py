"""`fanout.fan_out` on Ray: the same work on the same items, on a cluster or on this machine.

items -> tasks, as many at a time as wanted -> results as they come

A worker that dies or is late fails its item alone, as there. Every machine of the cluster needs
this package and the same folders.
"""

import time
from collections.abc import Callable, Generator, Sequence
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
    """Do some work on every item.

    Args:
        function: a function of a module.
        items: what to work on.
        n_workers: tasks at a time, each on a core.
        timeout_s: as for `fan_out`; the time that a task waits for a free core counts.
        memory_limit_bytes: as for `fan_out`.
        cluster_address: of a cluster that runs; None starts one on this machine, and ends it.

    Yields:
        number of an item and its result, in the order in which they are done.

    Raises:
        MissingDependencyError: Ray is not installed.
    """
    ray = import_optional("ray", extra="ray", purpose="spread videos over a cluster")
    ray.init(
        address=cluster_address,
        num_cpus=None if cluster_address else n_workers,
        include_dashboard=None if cluster_address else False,
        log_to_driver=False,
    )
    attempt = ray.remote(num_cpus=1, max_retries=0)(_call_with_memory_limit)
    waiting = iter(enumerate(items))
    running: dict[Any, tuple[int, float]] = {}
    try:
        while True:
            while len(running) < n_workers and (following := next(waiting, None)) is not None:
                index, item = following
                task = attempt.remote(function, item, memory_limit_bytes)
                running[task] = index, time.monotonic()
            if not running:
                return
            patience_s = None
            if timeout_s is not None:
                first_s = min(given_s for _, given_s in running.values())
                patience_s = max(0.0, first_s + timeout_s - time.monotonic())
            ready, _ = ray.wait(list(running), timeout=patience_s)
            for task in ready:
                index, _ = running.pop(task)
                yield index, _get_result(ray, task)
            for task, (index, given_s) in list(running.items()):
                if timeout_s is not None and time.monotonic() - given_s >= timeout_s:
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
    """What a worker does: one item, in bounds."""
    if memory_limit_bytes is not None:
        limit_memory(memory_limit_bytes)
    return function(item)


def _get_result(ray: Any, task: Any) -> Any:
    """What came of a task; an error of ours in it is a death, as it is in `fan_out`."""
    try:
        return ray.get(task)
    except ray.exceptions.RayTaskError:
        return WorkerCrash(exit_code=1)
    except ray.exceptions.RayError:  # the worker crashed, or the machine's memory was full
        return WorkerCrash(exit_code=None)
