"""Report rows: the result of each take as JSON, and the exit code of a run."""

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from loris_cli import __version__
from loris_cli.errors import LorisError, OutputError
from loris_cli.soundtrack.jobs import SoundtrackJob
from loris_cli.system.atomic_files import atomic_write, printable_path
from loris_cli.system.file_locks import REPORT_TIMEOUT_S, hold_lock
from loris_cli.system.progress import NullReporter, Reporter
from loris_cli.system.worker_pool import WorkerCrash

EXISTS_REASON, CLAIMED_REASON = "already exists", "is being written by another process"
"""Reasons of skipped rows."""
ReportRow = dict[str, Any]
"""Result of one take as a JSON object.

All rows: ``input``, ``status`` (``done``, ``skipped``, ``failed`` or ``estimated``),
``output``, ``elapsed_s``, ``stages_s``, ``warnings``, ``loris_version``. A completed take also
has all parameters that determine it (seed, model and its fingerprint, device, options, rhythm
and its peaks), the fraction of frames with a detected person, and the loudness. A skipped one
has ``reason``; a failed one has ``error``, ``hint`` and ``exit_code``.
"""


class RecordingReporter:
    """Reporter that also records stage times and warnings, for the report rows of one video."""

    def __init__(self, reporter: Reporter, video: Path, *, with_name: bool = False) -> None:
        """Start the timer; ``with_name`` prefixes all messages with the name of the video."""
        self._reporter = reporter
        self._video = video
        self._with_name = with_name
        self._started_s = time.monotonic()
        self.warnings: list[str] = []
        self.stages_s: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str, total: float | None = None) -> Iterator[Callable[..., None]]:
        """Forward a stage and record its duration."""
        started_s = time.monotonic()
        label = f"{self._video.name}: {name}" if self._with_name else name
        with self._reporter.stage(label, total) as advance:
            yield advance
        self.stages_s[name] = round(time.monotonic() - started_s, 3)

    def warn(self, text: str) -> None:
        """Forward a warning and record it."""
        self.warnings.append(text)
        self._reporter.warn(prefix_video_name(text, self._video) if self._with_name else text)

    def lap_s(self) -> float:
        """Return the seconds since the last call, or since the start."""
        before, self._started_s = self._started_s, time.monotonic()
        return round(self._started_s - before, 3)


def prefix_video_name(text: str, video: Path) -> str:
    """Prefix a warning with the name of the video, unless it contains the name."""
    name = printable_path(video.name)
    return text if name in text else f"{name}: {text}"


def build_row(
    job: SoundtrackJob,
    reporter: RecordingReporter | None = None,
    *,
    status: str,
    output: object,
    **extra_fields: Any,
) -> ReportRow:
    """Return a row with the common fields and those of its status.

    Args:
        job: job of the row.
        reporter: reporter of the job; None if it did not run in this process.
        status: ``done``, ``skipped``, ``failed`` or ``estimated``.
        output: path or paths of the result.
        extra_fields: fields specific to the status.
    """
    reporter = reporter or RecordingReporter(NullReporter(), job.video)
    return {
        "input": str(job.video),
        "status": status,
        "output": output,
        **extra_fields,
        "elapsed_s": reporter.lap_s(),
        "stages_s": dict(reporter.stages_s),
        "warnings": list(reporter.warnings),
        "loris_version": __version__,
    }


def crash_row(job: SoundtrackJob, crash: WorkerCrash) -> ReportRow:
    """Return the row of a job whose worker process was killed or raised an exception."""
    error, hint = "worker process failed, see the traceback above", "try --jobs 1"
    if crash.exit_code is not None and crash.exit_code < 0:
        error = f"worker process was killed by signal {-crash.exit_code}"
        hint = "possibly out of memory: reduce --jobs"
    return build_row(job, status="failed", output=None, error=error, hint=hint, exit_code=1)


def skipped_row(job: SoundtrackJob, take: tuple[int, Path], reason: str) -> ReportRow:
    """Return the row of a take that is skipped, with the reason."""
    seed, output = job.settings.seed + take[0], str(take[1])
    return build_row(job, status="skipped", output=output, seed=seed, reason=reason)


def failed_row(
    job: SoundtrackJob, error: LorisError, reporter: RecordingReporter | None = None
) -> ReportRow:
    """Return the row of a video that failed."""
    fields = {"error": str(error), "hint": error.hint, "exit_code": error.exit_code}
    return build_row(job, reporter, status="failed", output=None, **fields)


def planned_rows(jobs: Sequence[SoundtrackJob]) -> Iterator[ReportRow]:
    """Yield the rows that need no run: existing takes and conflicting output paths."""
    for job in jobs:
        if job.conflict is not None:
            yield failed_row(job, job.conflict)
        for take in job.existing_takes:
            yield skipped_row(job, take, EXISTS_REASON)


def compute_exit_code(rows: Sequence[ReportRow], *, n_inputs: int) -> int:
    """Return the exit code of a run: 0, 1, or the exit code of a single failed input."""
    failed = [row for row in rows if row["status"] == "failed"]
    if not failed:
        return 0
    return int(failed[0]["exit_code"]) if n_inputs == 1 else 1


def add_to_report(path: Path, rows: Sequence[ReportRow], jobs: Sequence[SoundtrackJob]) -> None:
    """Append rows to a report file in job order; the file is replaced atomically.

    Processes that append to one file wait for each other.

    Raises:
        OutputError: the report cannot be read or written.
    """
    order = {str(job.video): number for number, job in enumerate(jobs)}
    ordered = sorted(rows, key=lambda row: order[row["input"]])
    lines = "".join(json.dumps(row, allow_nan=False) + "\n" for row in ordered)
    target = Path(os.path.realpath(path))
    with hold_lock(target, timeout_s=REPORT_TIMEOUT_S):
        try:
            before = target.read_bytes() if target.exists() else b""
        except OSError as error:
            raise OutputError(
                f"cannot read report {path}: {error.strerror}", hint="choose another --report"
            ) from error
        if before and not before.endswith(b"\n"):
            before += b"\n"
        with atomic_write(target, overwrite=True) as temporary:
            temporary.write_bytes(before + lines.encode())
