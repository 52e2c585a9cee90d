"""Many videos: which of them are this run's, worked on in processes that may die.

videos -> a shard of them -> workers -> records, in the order in which they are done
"""

import re
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from loris_cli.dataset.prepare_video import Work, check_tools, failure, prepare
from loris_cli.dataset.records import Record, fingerprint, write_record
from loris_cli.errors import (
    InputError,
    LorisError,
    MissingDependencyError,
    UsageError,
    WeightsError,
)
from loris_cli.system.atomic_files import check_writable, printable
from loris_cli.system.worker_pool import Died, fan_out

MEBIBYTE = 1 << 20

Item = TypeVar("Item")


class Task(Protocol):
    """A video to be worked on, and how."""

    @property
    def video(self) -> Path:
        """The file."""

    @property
    def work(self) -> Work:
        """Where to, and how."""

    def key(self) -> tuple[str, int]:
        """What its record is known by, a sha256, and the size of the file.

        Raises:
            InputError: it cannot be read.
        """


Engine = Callable[..., Generator[tuple[int, Record | LorisError | Died], None, None]]
"""`fanout.fan_out`, or what does as it does."""

AnyTask = TypeVar("AnyTask", bound=Task)


@dataclass(frozen=True, kw_only=True)
class VideoTask:
    """A video that is there."""

    video: Path
    work: Work

    def key(self) -> tuple[str, int]:
        """Its bytes' sha256, and their number."""
        return fingerprint(self.video)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one video may cost."""

    seconds: float
    memory_mb: int


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One of several equal parts of the work."""

    number: int
    """From 0."""
    count: int

    def of(self, items: Iterable[Item], *, key: Callable[[Item], str]) -> list[Item]:
        """Every ``count``-th item, in an order that does not depend on who lists them."""
        return sorted(items, key=key)[self.number :: self.count]


def shard_of(text: str | None, environment: Mapping[str, str]) -> Shard:
    """Which part of the videos is ours.

    Args:
        text: ``i/N``, or None for what SLURM says of a job array, or all.
        environment: of the process.

    Raises:
        UsageError: that is no shard.
    """
    if text is None:
        if "SLURM_ARRAY_TASK_ID" not in environment:
            return Shard(number=0, count=1)
        task, first, step, count = (
            int(environment.get(f"SLURM_ARRAY_TASK_{name}", default))
            for name, default in (("ID", "0"), ("MIN", "0"), ("STEP", "1"), ("COUNT", "1"))
        )
        return Shard(number=(task - first) // step, count=count)
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if found is None or int(found[1]) >= int(found[2]):
        raise UsageError(f"{text!r} is no shard", hint="--shard 0/8 to --shard 7/8")
    return Shard(number=int(found[1]), count=int(found[2]))


def prepare_task(task: VideoTask) -> Record | LorisError:
    """One video; what stops the whole run is handed over, not raised in the worker."""
    try:
        return prepare(task.video, task.work)
    except LorisError as error:
        return error


def prepare_all(
    tasks: Sequence[AnyTask],
    attempt: Callable[[AnyTask], Record | LorisError],
    *,
    jobs: int,
    limits: Limits,
    engine: Engine = fan_out,
) -> Generator[Record, None, None]:
    """Prepare videos, each in a process of its own making; none stops the others.

    Args:
        tasks: what to work on.
        attempt: works on one, in another process; an error that it gives ends the run.
        jobs: processes at a time.
        limits: of each video; one that exceeds them fails alone.
        engine: who runs the processes.

    Yields:
        the record of each video, as they are done.

    Raises:
        OutputError: nothing can be written, to begin with or later.
        MissingDependencyError: a tool that was asked for is absent.
        WeightsError: weights are damaged.
    """
    if tasks:  # what no video can do without is missed at once
        try:
            check_tools(tasks[0].work)
        except (MissingDependencyError, WeightsError):
            absent = list(_absent(tasks))
            yield from absent  # a wrong name is told first: no package mends it
            if len(absent) == len(tasks):
                return
            raise
        check_writable(tasks[0].work.data)
    results = engine(
        attempt,
        tasks,
        n_workers=min(jobs, max(len(tasks), 1)),
        limit_s=limits.seconds,
        limit_bytes=limits.memory_mb * MEBIBYTE,
    )
    with closing(results):
        for index, record in results:
            if isinstance(record, LorisError):
                raise record
            if isinstance(record, Died):
                record = _record_of_the_dead(tasks[index], record, limits)
            yield record


def _absent(tasks: Iterable[Task]) -> Iterator[Record]:
    """Records of the videos that are named and not there."""
    for task in tasks:
        if isinstance(task, VideoTask) and not task.video.is_file():
            try:
                task.key()
            except InputError as error:
                yield failure(task.video, "", 0, task.work.settings, error)


def _record_of_the_dead(task: Task, died: Died, limits: Limits) -> Record:
    """A video whose process was ended, or ended itself."""
    video, work = task.video, task.work
    name = printable(video.name)
    if died.overdue:
        error = LorisError(
            f"{name} took longer than {limits.seconds:g} s",
            hint="raise --time-limit and add --retry-failed",
        )
    else:
        error = LorisError(
            f"{name} ended its process (exit code {died.exit_code})",
            hint="perhaps it is damaged; perhaps raise --memory-limit and add --retry-failed",
        )
    try:
        sha256, n_bytes = task.key()
    except InputError:
        return failure(video, "", 0, work.settings, error)
    record = failure(video, sha256, n_bytes, work.settings, error)
    write_record(work.data, record)
    return record
