"""What became of each take, as a report has it."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from loris_cli import __version__
from loris_cli.errors import OutputError
from loris_cli.soundtrack.jobs import SoundtrackJob
from loris_cli.system.atomic_files import atomic_write, printable_path
from loris_cli.system.progress import NullReporter, Reporter
from loris_cli.system.worker_pool import WorkerCrash

ReportRow = dict[str, Any]
"""What became of one take, as JSON has it.

Always: ``input``, ``status`` (``existing_takes``, ``skipped_rows``, ``failed`` or ``planned``), ``output``,
``lap_s``, ``stages_s``, ``warnings``, ``loris`` (the version). A take that is done tells
besides all that made it: seed, model and its fingerprint, device, options, rhythm and its
peaks, the share of frames in which a body was seen, loudness. A failure: ``error``, ``hint``,
``compute_exit_code``.
"""


class RecordingReporter:
    """A reporter that also times the stages and keeps the warnings, for one video's rows."""

    def __init__(self, reporter: Reporter, video: Path, *, with_video_name: bool) -> None:
        """Begin the clock; with ``with_video_name``, the video's name goes before all that is said."""
        self._reporter = reporter
        self._video = video
        self._with_video_name = with_video_name
        self._started_s = time.monotonic()
        self.warnings: list[str] = []
        self.stages_s: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str, total: float | None = None) -> Iterator[Callable[..., None]]:
        """Pass a stage on, and time it."""
        started_s = time.monotonic()
        shown = f"{self._video.name}: {name}" if self._with_video_name else name
        with self._reporter.stage(shown, total) as advance:
            yield advance
        self.stages_s[name] = round(time.monotonic() - started_s, 3)

    def warn(self, text: str) -> None:
        """Pass a warning on, and keep it."""
        self.warnings.append(text)
        self._reporter.warn(
            prefix_video_name(text, self._video) if self._with_video_name else text
        )

    def lap_s(self) -> float:
        """Since the last call, or the start."""
        before, self._started_s = self._started_s, time.monotonic()
        return round(self._started_s - before, 3)


def prefix_video_name(text: str, video: Path) -> str:
    """A warning that says of which of many videos it is."""
    name = printable_path(video.name)
    return text if name in text else f"{name}: {text}"


def build_row(
    job: SoundtrackJob,
    reporter: RecordingReporter,
    *,
    status: str,
    output: object,
    **extra_fields: Any,
) -> ReportRow:
    """What every row has, first, and what it has besides."""
    return {
        "input": str(job.video),
        "status": status,
        "output": output,
        **extra_fields,
        "seconds": reporter.lap_s(),
        "stages_s": dict(reporter.stages_s),
        "warnings": list(reporter.warnings),
        "loris": __version__,
    }


def crash_row(job: SoundtrackJob, crash: WorkerCrash) -> ReportRow:
    """A process that was killed, or met an error of ours and printed it."""
    killed = crash.exit_code is not None and crash.exit_code < 0
    return build_row(
        job,
        RecordingReporter(NullReporter(), job.video, with_video_name=False),
        status="failed",
        output=None,
        error=f"its process was killed by signal {-(crash.exit_code or 0)}"
        if killed
        else "its process failed, as told above",
        hint="perhaps the memory was full: try fewer --jobs" if killed else "try --jobs 1",
        exit_code=1,
    )


def skipped_rows(jobs: Sequence[SoundtrackJob]) -> Iterator[ReportRow]:
    """Rows of the takes that are there already."""
    for job in jobs:
        for take, out in job.existing_takes:
            told = RecordingReporter(NullReporter(), job.video, with_video_name=False)
            seed = job.settings.seed + take
            yield build_row(job, told, status="skipped", output=str(out), seed=seed)


def compute_exit_code(rows: Sequence[ReportRow], *, n_inputs: int) -> int:
    """What the program says of a run: 0, 1, or what is wrong with the one input."""
    failed = [row for row in rows if row["status"] == "failed"]
    if not failed:
        return 0
    return int(failed[0]["exit_code"]) if n_inputs == 1 else 1


def add_to_report(
    report: Path, rows: Sequence[ReportRow], jobs: Sequence[SoundtrackJob]
) -> None:
    """Add rows to a report, in the order of the jobs; the report is replaced as a whole.

    Raises:
        OutputError: it cannot be written.
    """
    order = {str(job.video): number for number, job in enumerate(jobs)}
    ordered = sorted(rows, key=lambda row: order[row["input"]])
    try:
        before = report.read_bytes() if report.exists() else b""
    except OSError as error:
        raise OutputError(
            f"the report {printable_path(report)} cannot be read: {error.strerror}",
            hint="give another name with --report",
        ) from error
    if before and not before.endswith(b"\n"):
        before += b"\n"
    lines = "".join(json.dumps(row, allow_nan=False) + "\n" for row in ordered)
    with atomic_write(report, overwrite=True) as part:
        part.write_bytes(before + lines.encode())
