"""Runs jobs, one after the other or in worker processes; a failure does not stop the rest."""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing

from loris_cli.errors import LorisError
from loris_cli.soundtrack import job_report
from loris_cli.soundtrack.generators import load_generator, load_job_encoder
from loris_cli.soundtrack.job_report import RecordingReporter, ReportRow
from loris_cli.soundtrack.jobs import SoundtrackJob
from loris_cli.soundtrack.takes import estimate_takes, make_takes
from loris_cli.system.progress import NullReporter, Reporter
from loris_cli.system.worker_pool import WorkerCrash, map_in_processes

ProcessJob = Callable[[SoundtrackJob, RecordingReporter], Iterator[ReportRow]]


def run_jobs(
    jobs: Sequence[SoundtrackJob], *, workers: int = 1, reporter: Reporter | None = None
) -> Generator[ReportRow, None, None]:
    """Run jobs and yield a row for each take when it is done.

    A video that fails gives a row of status ``failed`` and the rest go on; an interruption
    ends all. The files are the same whatever the number of workers.

    Args:
        jobs: of `plan_jobs`.
        workers: processes; a single one is this process and shows its progress.
        reporter: receives progress and warnings; of worker processes warnings only.

    Raises:
        WeightsError: the model or the weights of the visual encoder are absent.
        MissingDependencyError: a package that these need is absent.
        UsageError: there is no such device.
    """
    reporter = reporter or NullReporter()
    yield from job_report.skipped_rows(jobs)
    todo = [job for job in jobs if job.takes]
    if not todo:
        return
    load_generator(todo[0].settings)  # errors that concern every video end the run at once
    load_job_encoder(todo[0].settings, reporter)
    if workers == 1 or len(todo) == 1:
        for job in todo:
            yield from _run_with_failure_row(job, make_takes, reporter, with_name=len(jobs) > 1)
        return
    results = map_in_processes(_run_in_worker, todo, n_workers=min(workers, len(todo)))
    with reporter.stage("videos", len(todo)) as advance, closing(results):
        for index, rows in results:
            advance(1)
            if isinstance(rows, WorkerCrash):
                rows = [job_report.crash_row(todo[index], rows)]
            for text in rows[-1]["warnings"]:
                reporter.warn(job_report.prefix_video_name(text, todo[index].video))
            yield from rows


def estimate_jobs(
    jobs: Sequence[SoundtrackJob], *, reporter: Reporter | None = None
) -> Generator[ReportRow, None, None]:
    """Estimate the cost of jobs from their lengths and one timed clip; nothing is written.

    Raises:
        WeightsError: there is no such model.
        UsageError: there is no such device.
    """
    yield from job_report.skipped_rows(jobs)
    todo = [job for job in jobs if job.takes]
    if todo:
        load_generator(todo[0].settings)
    for job in todo:
        yield from _run_with_failure_row(
            job, estimate_takes, reporter or NullReporter(), with_name=len(jobs) > 1
        )


def run_job(job: SoundtrackJob, *, reporter: Reporter | None = None) -> Iterator[ReportRow]:
    """Generate the takes of one video and return a row for each.

    Raises:
        LorisError: it fails.
    """
    return make_takes(job, RecordingReporter(reporter or NullReporter(), job.video))


def _run_with_failure_row(
    job: SoundtrackJob, process_job: ProcessJob, reporter: Reporter, *, with_name: bool
) -> Iterator[ReportRow]:
    """Run one job; an error becomes a row."""
    recorder = RecordingReporter(reporter, job.video, with_name=with_name)
    try:
        yield from process_job(job, recorder)
    except LorisError as error:
        fields = {"error": str(error), "hint": error.hint, "exit_code": error.exit_code}
        yield job_report.build_row(job, recorder, status="failed", output=None, **fields)


def _run_in_worker(job: SoundtrackJob) -> list[ReportRow]:
    return list(_run_with_failure_row(job, make_takes, NullReporter(), with_name=False))
