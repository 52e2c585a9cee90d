"""Preparation of many sources in worker processes with limits on time and memory.

sources -> worker processes -> records, in the order in which they are done
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Literal

from loris_cli.dataset.prepare_video import PrepTask, check_dependencies, prepare_source
from loris_cli.dataset.records import Record, new_record, write_record
from loris_cli.errors import InputError, LorisError, MissingDependencyError, WeightsError
from loris_cli.system.atomic_files import check_writable
from loris_cli.system.ray_pool import map_on_ray
from loris_cli.system.worker_pool import WorkerCrash, map_in_processes

Result = Record | LorisError | WorkerCrash

BYTES_PER_MIB = 1 << 20


@dataclass(frozen=True, kw_only=True)
class WorkerOptions:
    """Worker processes of a run, and the limits of each source."""

    n_workers: int = 1
    time_limit_s: float = 1800.0
    memory_limit_mib: int = 6144
    retry_failed: bool = False
    """Try again what failed before."""
    backend: Literal["local", "ray"] = "local"
    ray_address: str | None = None
    """Of a Ray cluster; None starts one on this machine."""


def prepare_sources(tasks: Sequence[PrepTask], options: WorkerOptions) -> Generator[Record]:
    """Prepare sources in worker processes; a source that fails does not stop the others.

    Args:
        tasks: the sources.
        options: of the workers; a source that exceeds their limits fails alone.

    Yields:
        the record of each source, as they are done.

    Raises:
        OutputError: nothing can be written, to begin with or later.
        MissingDependencyError: a package that the settings require is absent.
        WeightsError: weights are damaged.
    """
    if tasks:  # requirements of all sources are checked before the work starts
        try:
            check_dependencies(tasks[0].context)
        except (MissingDependencyError, WeightsError):
            files = [task for task in tasks if not task.renders_source]
            missing = [prepare_source(task) for task in files if not task.source_path.is_file()]
            yield from missing  # a wrong name comes first: no package mends it
            if len(missing) == len(tasks):
                return
            raise
        check_writable(tasks[0].context.data_dir)
    map_tasks: Callable[..., Generator[tuple[int, Result], None, None]] = map_in_processes
    if options.backend == "ray":
        map_tasks = partial(map_on_ray, cluster_address=options.ray_address)
    results = map_tasks(
        partial(_try_prepare, retry_failed=options.retry_failed),
        tasks,
        n_workers=min(options.n_workers, max(len(tasks), 1)),
        timeout_s=options.time_limit_s,
        memory_limit_bytes=options.memory_limit_mib * BYTES_PER_MIB,
    )
    with closing(results):
        for index, result in results:
            if isinstance(result, LorisError):
                raise result
            if isinstance(result, WorkerCrash):
                result = _crash_record(tasks[index], result, options)
            yield result


def _try_prepare(task: PrepTask, *, retry_failed: bool) -> Record | LorisError:
    """Return an error that ends the run, rather than raise it in the worker."""
    try:
        return prepare_source(task, retry_failed=retry_failed)
    except LorisError as error:
        return error


def _crash_record(task: PrepTask, crash: WorkerCrash, options: WorkerOptions) -> Record:
    """Write the record of a source whose worker was killed or crashed."""
    source, context = task.source_path, task.context
    problem = f"ended its process (exit code {crash.exit_code})"
    hint = "perhaps it is damaged; perhaps raise --memory-limit and add --retry-failed"
    if crash.timed_out:
        problem = f"took longer than {options.time_limit_s:g} s"
        hint = "raise --time-limit and add --retry-failed"
    error = LorisError(f"{source.name} {problem}", hint=hint)
    try:
        sha256, n_bytes = task.hash_source()
    except InputError:
        return new_record(source, context.settings, error=error)
    record = new_record(source, context.settings, sha256=sha256, n_bytes=n_bytes, error=error)
    write_record(context.data_dir, record)
    return record
