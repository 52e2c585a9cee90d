"""Prepare many sources in worker processes with time and memory limits.

sources -> worker processes -> records, in order of completion
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
from loris_cli.system.threads import configure_threads, count_threads
from loris_cli.system.worker_pool import WorkerCrash, map_in_processes

Result = Record | LorisError | WorkerCrash

BYTES_PER_MIB = 1 << 20


@dataclass(frozen=True, kw_only=True)
class WorkerOptions:
    """Number of worker processes, and time and memory limits per source."""

    n_workers: int = 1
    n_threads: int | None = None
    """Threads of all workers together; None uses one per usable core."""
    time_limit_s: float = 1800.0
    memory_limit_mib: int = 6144
    retry_failed: bool = False
    """Retry sources that failed in an earlier run."""
    backend: Literal["local", "ray"] = "local"
    ray_address: str | None = None
    """Address of a Ray cluster; None starts one on this machine."""


def prepare_sources(tasks: Sequence[PrepTask], options: WorkerOptions) -> Generator[Record]:
    """Prepare sources in worker processes; a source that fails does not stop the run.

    Args:
        tasks: sources to prepare.
        options: number of workers, and limits; a source that exceeds a limit fails.

    Yields:
        the record of each source, in order of completion.

    Raises:
        OutputError: the data set folder is not writable.
        MissingDependencyError: a package required by the settings is not installed.
        WeightsError: weights are missing or damaged.
    """
    if tasks:  # fail before the work starts if a requirement is missing
        try:
            check_dependencies(tasks[0].context)
        except (MissingDependencyError, WeightsError):
            files = [task for task in tasks if not task.renders_source]
            missing = [prepare_source(task) for task in files if not task.source_path.is_file()]
            # Missing files are reported first: installing a package would not fix them.
            yield from missing
            if len(missing) == len(tasks):
                return
            raise
        check_writable(tasks[0].context.data_dir)
    map_tasks: Callable[..., Generator[tuple[int, Result], None, None]] = map_in_processes
    if options.backend == "ray":
        map_tasks = partial(map_on_ray, cluster_address=options.ray_address)
    n_workers = min(options.n_workers, max(len(tasks), 1))
    results = map_tasks(
        partial(
            _try_prepare,
            retry_failed=options.retry_failed,
            n_threads=count_threads(options.n_threads, n_processes=n_workers),
        ),
        tasks,
        n_workers=n_workers,
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


def _try_prepare(task: PrepTask, *, retry_failed: bool, n_threads: int) -> Record | LorisError:
    """Prepare a source; return, rather than raise, an error that stops the run."""
    configure_threads(n_threads)
    try:
        return prepare_source(task, retry_failed=retry_failed)
    except LorisError as error:
        return error


def _crash_record(task: PrepTask, crash: WorkerCrash, options: WorkerOptions) -> Record:
    """Write the record of a source whose worker process was killed or crashed."""
    source, context = task.source_path, task.context
    problem = f"crashed its worker process (exit code {crash.exit_code})"
    hint = "check the file, or raise --memory-limit and add --retry-failed"
    if crash.timed_out:
        problem = f"exceeded the time limit of {options.time_limit_s:g} s"
        hint = "raise --time-limit and add --retry-failed"
    error = LorisError(f"{source.name} {problem}", hint=hint)
    try:
        sha256, n_bytes = task.hash_source()
    except InputError:
        return new_record(source, context.settings, error=error)
    record = new_record(source, context.settings, sha256=sha256, n_bytes=n_bytes, error=error)
    write_record(context.data_dir, record)
    return record
