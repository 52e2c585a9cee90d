"""Run jobs sequentially or in worker processes; a failed job does not stop the others."""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial

from loris_cli.errors import LorisError, OutputError
from loris_cli.soundtrack import job_report
from loris_cli.soundtrack.cost_estimate import estimate_takes
from loris_cli.soundtrack.generator_loading import load_in_background, needs_model_first
from loris_cli.soundtrack.job_report import (
    CLAIMED_REASON,
    EXISTS_REASON,
    RecordingReporter,
    ReportRow,
)
from loris_cli.soundtrack.jobs import SoundtrackJob
from loris_cli.soundtrack.speed_record import record_speed
from loris_cli.soundtrack.takes import make_takes
from loris_cli.system.allocator import share_freed_memory
from loris_cli.system.atomic_files import output_errors
from loris_cli.system.file_locks import hold_lock
from loris_cli.system.progress import NullReporter, Reporter
from loris_cli.system.threads import configure_threads, count_threads
from loris_cli.system.worker_pool import WorkerCrash, map_in_processes

ProcessJob = Callable[[SoundtrackJob, RecordingReporter], Iterator[ReportRow]]


def run_jobs(
    jobs: Sequence[SoundtrackJob], *, workers: int = 1, reporter: Reporter | None = None
) -> Generator[ReportRow, None, None]:
    """Run jobs and yield a report row for each completed take.

    A video that fails yields a row with status ``failed``, and the other jobs continue. An
    interrupt ends all jobs. The outputs do not depend on the number of workers.

    Args:
        jobs: jobs from `plan_jobs`.
        workers: number of processes; 1 runs the jobs in this process and shows their progress.
        reporter: receives progress and warnings; worker processes report warnings only.

    Raises:
        WeightsError: the model or the weights of the visual encoder are missing.
        MissingDependencyError: a required package is not installed.
        UsageError: the device does not exist.
    """
    reporter = reporter or NullReporter()
    yield from job_report.planned_rows(jobs)
    todo = [job for job in jobs if job.takes]
    if not todo:
        return
    share_freed_memory()
    n_processes = max(min(workers, len(todo)), 1)
    configure_threads(count_threads(todo[0].settings.threads, n_processes=n_processes))
    # Errors of the model affect every video, so a batch loads it before the first analysis.
    if len(todo) > 1 or needs_model_first(todo[0]):
        from loris_cli.soundtrack.generators import load_job_encoder

        _check_model(todo[0])
        load_job_encoder(todo[0].settings, reporter)
    if n_processes == 1:
        for job in todo:
            rows_of_job = _run_with_failure_row(
                job, _make_missing_takes, reporter, with_name=len(jobs) > 1
            )
            for row in rows_of_job:
                if row["status"] == "done":
                    record_speed(job.settings, row)
                yield row
        return
    run = partial(_run_in_worker, n_processes=n_processes)
    results = map_in_processes(run, todo, n_workers=n_processes)
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
    """Estimate the cost of jobs from video durations and recorded or timed speed.

    Raises:
        WeightsError: the model does not exist.
        UsageError: the device does not exist.
    """
    yield from job_report.planned_rows(jobs)
    todo = [job for job in jobs if job.takes]
    if todo:
        configure_threads(count_threads(todo[0].settings.threads))
        if needs_model_first(todo[0]):
            _check_model(todo[0])
    for job in todo:
        yield from _run_with_failure_row(
            job, estimate_takes, reporter or NullReporter(), with_name=len(jobs) > 1
        )


def _check_model(job: SoundtrackJob) -> None:
    """Load the model; raise the errors that affect every video."""
    from loris_cli.soundtrack.generators import require_composer

    generator = load_in_background(job.settings).result()
    if job.needs_notes:
        require_composer(generator)


def run_job(job: SoundtrackJob, *, reporter: Reporter | None = None) -> Iterator[ReportRow]:
    """Generate the takes of one video and yield a report row for each.

    Raises:
        LorisError: the job fails.
    """
    return make_takes(job, RecordingReporter(reporter or NullReporter(), job.video))


def _run_with_failure_row(
    job: SoundtrackJob, process_job: ProcessJob, reporter: Reporter, *, with_name: bool
) -> Iterator[ReportRow]:
    """Run one job; on an error, yield a row with status ``failed``."""
    recorder = RecordingReporter(reporter, job.video, with_name=with_name)
    try:
        yield from process_job(job, recorder)
    except LorisError as error:
        yield job_report.failed_row(job, error, recorder)


def _make_missing_takes(job: SoundtrackJob, reporter: RecordingReporter) -> Iterator[ReportRow]:
    """Create the folders and make the takes that no other process makes at the same time."""
    for path in (*(path for _, path in job.takes), *job.midi_paths, *job.plot_paths):
        with output_errors(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
    if not job.skip_existing:
        yield from make_takes(job, reporter)
        return
    todo = []
    # Runs with the same numbers of takes claim the same file, whichever takes exist.
    _, claimed_path = min(job.takes + job.existing_takes)
    with hold_lock(claimed_path, timeout_s=0) as is_claimed:
        for take in job.takes:
            if not is_claimed:
                yield job_report.skipped_row(job, take, CLAIMED_REASON)
            elif job.list_missing_files(take):
                todo.append(take)
            else:
                yield job_report.skipped_row(job, take, EXISTS_REASON)
        while todo:
            try:
                for row in make_takes(replace(job, takes=tuple(todo)), reporter):
                    del todo[0]
                    yield row
            except OutputError:
                if job.list_missing_files(todo[0]):
                    raise
                # All files exist now: the drive has no locks, and another machine was faster.
                yield job_report.skipped_row(job, todo.pop(0), EXISTS_REASON)


def _run_in_worker(job: SoundtrackJob, *, n_processes: int) -> list[ReportRow]:
    share_freed_memory()
    configure_threads(count_threads(job.settings.threads, n_processes=n_processes))
    return list(
        _run_with_failure_row(job, _make_missing_takes, NullReporter(), with_name=False)
    )
