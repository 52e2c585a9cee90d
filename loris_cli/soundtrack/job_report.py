"""What became of each take, as a report has it."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from loris_cli import __version__
from loris_cli.errors import OutputError
from loris_cli.soundtrack.jobs import Job
from loris_cli.system.atomic_files import printable, replacing
from loris_cli.system.progress import Reporter, Silent
from loris_cli.system.worker_pool import Died

Row = dict[str, Any]
"""What became of one take, as JSON has it.

Always: ``input``, ``status`` (``done``, ``skipped``, ``failed`` or ``planned``), ``output``,
``seconds``, ``stages_s``, ``warnings``, ``loris`` (the version). A take that is done tells
besides all that made it: seed, model and its fingerprint, device, options, rhythm and its
peaks, the share of frames in which a body was seen, loudness. A failure: ``error``, ``hint``,
``exit_code``.
"""


class Told:
    """A reporter that also times the stages and keeps the warnings, for one video's rows."""

    def __init__(self, reporter: Reporter, video: Path, *, named: bool) -> None:
        """Begin the clock; with ``named``, the video's name goes before all that is said."""
        self._reporter = reporter
        self._video = video
        self._named = named
        self._started_s = time.monotonic()
        self.warnings: list[str] = []
        self.stages_s: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str, total: float | None = None) -> Iterator[Callable[..., None]]:
        """Pass a stage on, and time it."""
        started_s = time.monotonic()
        shown = f"{self._video.name}: {name}" if self._named else name
        with self._reporter.stage(shown, total) as advance:
            yield advance
        self.stages_s[name] = round(time.monotonic() - started_s, 3)

    def warn(self, text: str) -> None:
        """Pass a warning on, and keep it."""
        self.warnings.append(text)
        self._reporter.warn(with_name(text, self._video) if self._named else text)

    def seconds(self) -> float:
        """Since the last call, or the start."""
        before, self._started_s = self._started_s, time.monotonic()
        return round(self._started_s - before, 3)


def with_name(text: str, video: Path) -> str:
    """A warning that says of which of many videos it is."""
    name = printable(video.name)
    return text if name in text else f"{name}: {text}"


def row_of(job: Job, told: Told, *, status: str, output: object, **more: Any) -> Row:
    """What every row has, first, and what it has besides."""
    return {
        "input": str(job.video),
        "status": status,
        "output": output,
        **more,
        "seconds": told.seconds(),
        "stages_s": dict(told.stages_s),
        "warnings": list(told.warnings),
        "loris": __version__,
    }


def row_of_the_dead(job: Job, died: Died) -> Row:
    """A process that was killed, or met an error of ours and printed it."""
    killed = died.exit_code is not None and died.exit_code < 0
    return row_of(
        job,
        Told(Silent(), job.video, named=False),
        status="failed",
        output=None,
        error=f"its process was killed by signal {-(died.exit_code or 0)}"
        if killed
        else "its process failed, as told above",
        hint="perhaps the memory was full: try fewer --jobs" if killed else "try --jobs 1",
        exit_code=1,
    )


def skipped(jobs: Sequence[Job]) -> Iterator[Row]:
    """Rows of the takes that are there already."""
    for job in jobs:
        for take, out in job.done:
            told = Told(Silent(), job.video, named=False)
            seed = job.settings.seed + take
            yield row_of(job, told, status="skipped", output=str(out), seed=seed)


def exit_code(rows: Sequence[Row], *, n_inputs: int) -> int:
    """What the program says of a run: 0, 1, or what is wrong with the one input."""
    failed = [row for row in rows if row["status"] == "failed"]
    if not failed:
        return 0
    return int(failed[0]["exit_code"]) if n_inputs == 1 else 1


def add_to_report(report: Path, rows: Sequence[Row], jobs: Sequence[Job]) -> None:
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
            f"the report {printable(report)} cannot be read: {error.strerror}",
            hint="give another name with --report",
        ) from error
    if before and not before.endswith(b"\n"):
        before += b"\n"
    lines = "".join(json.dumps(row, allow_nan=False) + "\n" for row in ordered)
    with replacing(report, overwrite=True) as part:
        part.write_bytes(before + lines.encode())
