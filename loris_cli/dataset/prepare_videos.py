"""Many videos: which of them are this run's, worked on in processes that may die.

videos -> a shard of them -> workers -> records, in the order in which they are done
"""

import re
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from loris_cli.dataset.prepare_video import (
    PrepContext,
    check_dependencies,
    failed_record,
    prepare_video,
)
from loris_cli.dataset.records import Record, hash_file, write_record
from loris_cli.errors import (
    InputError,
    LorisError,
    MissingDependencyError,
    UsageError,
    WeightsError,
)
from loris_cli.system.atomic_files import check_writable, printable_path
from loris_cli.system.worker_pool import WorkerCrash, map_in_processes

BYTES_PER_MIB = 1 << 20

Item = TypeVar("Item")


class PrepTask(Protocol):
    """A video to be worked on, and how."""

    @property
    def source_path(self) -> Path:
        """The file."""

    @property
    def context(self) -> PrepContext:
        """Where to, and how."""

    def hash_source(self) -> tuple[str, int]:
        """What its record is known by, a sha256, and the size of the file.

        Raises:
            InputError: it cannot be read.
        """


ParallelMap = Callable[
    ..., Generator[tuple[int, Record | LorisError | WorkerCrash], None, None]
]
"""`fanout.map_in_processes`, or what does as it does."""

AnyPrepTask = TypeVar("AnyPrepTask", bound=PrepTask)


@dataclass(frozen=True, kw_only=True)
class VideoTask:
    """A video that is there."""

    source_path: Path
    context: PrepContext

    def hash_source(self) -> tuple[str, int]:
        """Its bytes' sha256, and their number."""
        return hash_file(self.source_path)


@dataclass(frozen=True, kw_only=True)
class ResourceLimits:
    """What one video may cost."""

    time_s: float
    memory_mib: int


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One of several equal parts of the work."""

    index: int
    """From 0."""
    n_shards: int

    def select(self, items: Iterable[Item], *, key: Callable[[Item], str]) -> list[Item]:
        """Every ``n_shards``-th item, in an order that does not depend on who lists them."""
        return sorted(items, key=key)[self.index :: self.n_shards]


def resolve_shard(text: str | None, environ: Mapping[str, str]) -> Shard:
    """Which part of the videos is ours.

    Args:
        text: ``i/N``, or None for what SLURM says of a job array, or all.
        environ: of the process.

    Raises:
        UsageError: that is no shard.
    """
    if text is None:
        if "SLURM_ARRAY_TASK_ID" not in environ:
            return Shard(index=0, n_shards=1)
        task, first, step, count = (
            int(environ.get(f"SLURM_ARRAY_TASK_{name}", default))
            for name, default in (("ID", "0"), ("MIN", "0"), ("STEP", "1"), ("COUNT", "1"))
        )
        return Shard(index=(task - first) // step, n_shards=count)
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if found is None or int(found[1]) >= int(found[2]):
        raise UsageError(f"{text!r} is no shard", hint="--shard 0/8 to --shard 7/8")
    return Shard(index=int(found[1]), n_shards=int(found[2]))


def prepare_task_video(task: VideoTask) -> Record | LorisError:
    """One video; what stops the whole run is handed over, not raised in the worker."""
    try:
        return prepare_video(task.source_path, task.context)
    except LorisError as error:
        return error


def prepare_videos(
    tasks: Sequence[AnyPrepTask],
    prepare_one: Callable[[AnyPrepTask], Record | LorisError],
    *,
    n_workers: int,
    limits: ResourceLimits,
    parallel_map: ParallelMap = map_in_processes,
) -> Generator[Record, None, None]:
    """Prepare videos, each in a process of its own making; none stops the others.

    Args:
        tasks: what to work on.
        prepare_one: works on one, in another process; an error that it gives ends the run.
        n_workers: processes at a time.
        limits: of each video; one that exceeds them fails alone.
        parallel_map: who runs the processes.

    Yields:
        the record of each video, as they are done.

    Raises:
        OutputError: nothing can be written, to begin with or later.
        MissingDependencyError: a tool that was asked for is absent.
        WeightsError: weights are damaged.
    """
    if tasks:  # what no video can do without is missed at once
        try:
            check_dependencies(tasks[0].context)
        except (MissingDependencyError, WeightsError):
            absent = list(_missing_source_records(tasks))
            yield from absent  # a wrong name is told first: no package mends it
            if len(absent) == len(tasks):
                return
            raise
        check_writable(tasks[0].context.data_dir)
    results = parallel_map(
        prepare_one,
        tasks,
        n_workers=min(n_workers, max(len(tasks), 1)),
        limit_s=limits.time_s,
        limit_bytes=limits.memory_mib * BYTES_PER_MIB,
    )
    with closing(results):
        for index, record in results:
            if isinstance(record, LorisError):
                raise record
            if isinstance(record, WorkerCrash):
                record = _crash_record(tasks[index], record, limits)
            yield record


def _missing_source_records(tasks: Iterable[PrepTask]) -> Iterator[Record]:
    """Records of the videos that are named and not there."""
    for task in tasks:
        if isinstance(task, VideoTask) and not task.source_path.is_file():
            try:
                task.hash_source()
            except InputError as error:
                yield failed_record(task.source_path, "", 0, task.context.settings, error)


def _crash_record(task: PrepTask, crash: WorkerCrash, limits: ResourceLimits) -> Record:
    """A video whose process was ended, or ended itself."""
    video, work = task.source_path, task.context
    name = printable_path(video.name)
    if crash.timed_out:
        error = LorisError(
            f"{name} took longer than {limits.time_s:g} s",
            hint="raise --time-limit and add --retry-failed",
        )
    else:
        error = LorisError(
            f"{name} ended its process (exit code {crash.exit_code})",
            hint="perhaps it is damaged; perhaps raise --memory-limit and add --retry-failed",
        )
    try:
        sha256, n_bytes = task.hash_source()
    except InputError:
        return failed_record(video, "", 0, work.settings, error)
    record = failed_record(video, sha256, n_bytes, work.settings, error)
    write_record(work.data_dir, record)
    return record
