"""Jobs, one after the other or in processes of their own: none stops the others."""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing

from loris_cli.errors import LorisError
from loris_cli.soundtrack.generators import generator_of, seer_of
from loris_cli.soundtrack.job_processes import estimate_takes, make_takes
from loris_cli.soundtrack.job_report import (
    Row,
    Told,
    row_of,
    row_of_the_dead,
    skipped,
    with_name,
)
from loris_cli.soundtrack.jobs import Job
from loris_cli.system.progress import Reporter, Silent
from loris_cli.system.worker_pool import Died, fan_out


def run(
    jobs: Sequence[Job], *, workers: int = 1, reporter: Reporter | None = None
) -> Generator[Row, None, None]:
    """Do jobs and give a row for each take as it is done.

    A video that fails gives a row of status ``failed`` and the rest go on; an interruption
    ends all. The files are the same whatever the number of workers.

    Args:
        jobs: what to do.
        workers: processes; one works here and shows its progress.
        reporter: whom to tell; processes of their own tell only their warnings.

    Raises:
        WeightsError: there is no such model, or no weights for features of the picture.
        MissingDependencyError: a package that these need is absent.
        UsageError: there is no such device.
    """
    reporter = reporter or Silent()
    yield from skipped(jobs)
    todo = [job for job in jobs if job.takes]
    if not todo:
        return
    generator_of(todo[0].settings)  # what no video can do without is missed at once
    seer_of(todo[0].settings, reporter)
    if workers == 1 or len(todo) == 1:
        for job in todo:
            yield from _attempt(job, make_takes, reporter, named=len(jobs) > 1)
        return
    with (
        reporter.stage("videos", len(todo)) as advance,
        closing(fan_out(_attempt_quietly, todo, n_workers=min(workers, len(todo)))) as results,
    ):
        for index, rows in results:
            advance(1)
            if isinstance(rows, Died):
                rows = [row_of_the_dead(todo[index], rows)]
            for text in rows[-1]["warnings"]:
                reporter.warn(with_name(text, todo[index].video))
            yield from rows


def estimate(
    jobs: Sequence[Job], *, reporter: Reporter | None = None
) -> Generator[Row, None, None]:
    """What jobs would cost, from their lengths and one timed clip; nothing is written.

    Raises:
        WeightsError: there is no such model.
        UsageError: there is no such device.
    """
    yield from skipped(jobs)
    todo = [job for job in jobs if job.takes]
    if todo:
        generator_of(todo[0].settings)
    for job in todo:
        yield from _attempt(job, estimate_takes, reporter or Silent(), named=len(jobs) > 1)


def make(job: Job, *, reporter: Reporter | None = None) -> Iterator[Row]:
    """Make the takes of one video, a row for each.

    Raises:
        LorisError: it fails.
    """
    yield from make_takes(job, Told(reporter or Silent(), job.video, named=False))


def _attempt(
    job: Job, work: "Callable[[Job, Told], Iterator[Row]]", reporter: Reporter, *, named: bool
) -> Iterator[Row]:
    """Do one job; its errors become a row."""
    told = Told(reporter, job.video, named=named)
    try:
        yield from work(job, told)
    except LorisError as error:
        yield row_of(
            job,
            told,
            status="failed",
            output=None,
            error=str(error),
            hint=error.hint,
            exit_code=error.exit_code,
        )


def _attempt_quietly(job: Job) -> list[Row]:
    return list(_attempt(job, make_takes, Silent(), named=False))
