"""Soundtracks for many videos: each on its own, none stops the others.

names, settings -> jobs -> one process or several -> one row a take: what was made, or why not
"""

import json
import math
import os
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from loris_cli import __version__
from loris_cli.conditioning import ClipFeatures
from loris_cli.config import POSE_FPS, SAMPLE_RATE_HZ
from loris_cli.errors import LorisError, OutputError, UsageError
from loris_cli.fanout import Died, fan_out
from loris_cli.figure import rhythm_figure
from loris_cli.files import check_outputs, printable, replacing
from loris_cli.inputs import check_suffix, is_folder, result_names
from loris_cli.longform import Kept, LatentGenerator
from loris_cli.networks.checkpoint import MiniModel, load_mini
from loris_cli.networks.device import resolve
from loris_cli.pose.keypoints import read_poses
from loris_cli.soundtrack import (
    Method,
    Observation,
    Reporter,
    Silent,
    look,
    make_soundtrack,
    observe,
    own_sound,
)
from loris_cli.video.mux import FORMATS, check_fits
from loris_cli.video.probe import VideoInfo

POSE_S = 0.035
"""Seconds to find a pose in a frame, about, on two cores of 2017: for estimates only."""
SOUND_S = 0.12
"""Seconds to decode and level a second of sound, likewise."""
MEMORY_MB = 1200
"""Peak memory, measured at 1 and at 10 minutes; it does not grow with length."""
TRIAL_S = 45.0
"""The longest clip on which an estimate times the network: one full batch of windows."""
KEPT_SHORT_S = 0.25
"""A soundtrack to keep may end so much before its video: encoders cut and pad."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is wanted of every soundtrack of a run."""

    model: str = "mini"
    genre: str | None = None
    seed: int = 0
    steps: int = 16
    guidance: float = 1.5
    rhythm: Method | None = None
    device: str = "auto"
    mix_db: float | None = None
    overwrite: bool = False
    poses: Path | None = None
    plot: Path | None = None
    keep: Path | None = None
    keep_from_s: float = 0.0
    keep_to_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Job:
    """One video and where its takes belong."""

    video: Path
    takes: tuple[tuple[int, Path], ...]
    """Number, counted from 0 and added to the seed, and place of each."""
    done: tuple[tuple[int, Path], ...] = ()
    """Takes that are there already and are to be left as they are."""
    settings: Settings


Row = dict[str, Any]
"""What became of one take, as JSON has it.

Always: ``input``, ``status`` (``done``, ``skipped``, ``failed`` or ``planned``), ``output``,
``seconds``, ``stages_s``, ``warnings``, ``loris`` (the version). A take that is done tells
besides all that made it: seed, model and its fingerprint, device, options, rhythm and its
peaks, the share of frames in which a body was seen, loudness. A failure: ``error``, ``hint``,
``exit_code``.
"""


def plan(
    videos: Sequence[Path],
    out: Path | None,
    *,
    settings: Settings,
    takes: int = 1,
    skip_existing: bool = False,
    report: Path | None = None,
    also_read: Sequence[Path] = (),
) -> list[Job]:
    """What is to be done, if all names make sense: nothing is read or written yet.

    Args:
        videos: inputs.
        out: a file for one input, a folder for any number; None is beside each input.
        settings: of the run.
        takes: soundtracks for each video.
        skip_existing: leave takes alone whose files exist.
        report: file that will tell of the run.
        also_read: other files that no result may replace.

    Raises:
        UsageError: options that go with one input only, or names that cannot be.
        OutputError: a folder that may not be written to.
    """
    single = {"--plot": settings.plot, "--keep": settings.keep, "--poses": settings.poses}
    for option, value in single.items():
        if value is not None and len(videos) > 1:
            raise UsageError(
                f"{option} goes with one input, not {len(videos)}", hint="leave it out"
            )
    if settings.plot:
        check_suffix(settings.plot, [".png"])
    outs = result_names(videos, out, suffix=".loris.mp4", takes=takes, suffixes=list(FORMATS))
    jobs = []
    for video, names in zip(videos, outs, strict=True):
        numbered = list(enumerate(names))
        done = [pair for pair in numbered if skip_existing and os.path.lexists(pair[1])]
        todo = tuple(pair for pair in numbered if pair not in done)
        jobs.append(Job(video=video, takes=todo, done=tuple(done), settings=settings))
    model = Path(settings.model)
    sources = [
        *videos,
        *also_read,
        *(path for path in (settings.keep, settings.poses) if path is not None),
        *([model] if model.is_file() else []),
    ]
    results = [path for job in jobs for _, path in job.takes]
    if settings.plot is not None and any(job.takes for job in jobs):
        results.append(settings.plot)
    if out is not None and is_folder(out) and not out.is_dir():
        results = [path for path in results if path.parent != out]  # in a folder still to be
    check_outputs(results, sources, overwrite=settings.overwrite)
    if report is not None:
        check_outputs([report], sources, overwrite=True)
        made = [*(path for names in outs for path in names), settings.plot]
        if os.path.realpath(report) in {os.path.realpath(path) for path in made if path}:
            raise UsageError(
                f"the report and a result would both be {printable(report)}",
                hint="give the report a name of its own",
            )
    return jobs


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
        WeightsError: there is no such model.
        UsageError: there is no such device.
    """
    reporter = reporter or Silent()
    yield from _skipped(jobs)
    todo = [job for job in jobs if job.takes]
    if not todo:
        return
    generator_of(todo[0].settings)  # what no video can do without is missed at once
    if workers == 1 or len(todo) == 1:
        for job in todo:
            yield from _attempt(job, _make, reporter, named=len(jobs) > 1)
        return
    with (
        reporter.stage("videos", len(todo)) as advance,
        closing(fan_out(_attempt_quietly, todo, n_workers=min(workers, len(todo)))) as results,
    ):
        for index, rows in results:
            advance(1)
            if isinstance(rows, Died):
                rows = [_row_of_the_dead(todo[index], rows)]
            for text in rows[-1]["warnings"]:
                reporter.warn(_with_name(text, todo[index].video))
            yield from rows


def estimate(
    jobs: Sequence[Job], *, reporter: Reporter | None = None
) -> Generator[Row, None, None]:
    """What jobs would cost, from their lengths and one timed clip; nothing is written.

    Raises:
        WeightsError: there is no such model.
        UsageError: there is no such device.
    """
    yield from _skipped(jobs)
    todo = [job for job in jobs if job.takes]
    if todo:
        generator_of(todo[0].settings)
    for job in todo:
        yield from _attempt(job, _estimate, reporter or Silent(), named=len(jobs) > 1)


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


def make(job: Job, *, reporter: Reporter | None = None) -> Iterator[Row]:
    """Make the takes of one video, a row for each.

    Raises:
        LorisError: it fails.
    """
    yield from _make(job, _Told(reporter or Silent(), job.video, named=False))


def _attempt(
    job: Job, work: "Callable[[Job, _Told], Iterator[Row]]", reporter: Reporter, *, named: bool
) -> Iterator[Row]:
    """Do one job; its errors become a row."""
    told = _Told(reporter, job.video, named=named)
    try:
        yield from work(job, told)
    except LorisError as error:
        yield _row(
            job,
            told,
            status="failed",
            output=None,
            error=str(error),
            hint=error.hint,
            exit_code=error.exit_code,
        )


def _attempt_quietly(job: Job) -> list[Row]:
    return list(_attempt(job, _make, Silent(), named=False))


def _row_of_the_dead(job: Job, died: Died) -> Row:
    """A process that was killed, or met an error of ours and printed it."""
    killed = died.exit_code is not None and died.exit_code < 0
    return _row(
        job,
        _Told(Silent(), job.video, named=False),
        status="failed",
        output=None,
        error=f"its process was killed by signal {-(died.exit_code or 0)}"
        if killed
        else "its process failed, as told above",
        hint="perhaps the memory was full: try fewer --jobs" if killed else "try --jobs 1",
        exit_code=1,
    )


def _skipped(jobs: Sequence[Job]) -> Iterator[Row]:
    for job in jobs:
        for take, out in job.done:
            told = _Told(Silent(), job.video, named=False)
            seed = job.settings.seed + take
            yield _row(job, told, status="skipped", output=str(out), seed=seed)


class _Told:
    """A reporter that also times the stages and keeps the warnings, for one video's rows."""

    def __init__(self, reporter: Reporter, video: Path, *, named: bool) -> None:
        self._reporter = reporter
        self._video = video
        self._named = named
        self._started_s = time.monotonic()
        self.warnings: list[str] = []
        self.stages_s: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str, total: float | None = None) -> Iterator[Callable[..., None]]:
        started_s = time.monotonic()
        shown = f"{self._video.name}: {name}" if self._named else name
        with self._reporter.stage(shown, total) as advance:
            yield advance
        self.stages_s[name] = round(time.monotonic() - started_s, 3)

    def warn(self, text: str) -> None:
        self.warnings.append(text)
        self._reporter.warn(_with_name(text, self._video) if self._named else text)

    def seconds(self) -> float:
        """Since the last call, or the start."""
        before, self._started_s = self._started_s, time.monotonic()
        return round(self._started_s - before, 3)


def _with_name(text: str, video: Path) -> str:
    """A warning that says of which of many videos it is."""
    name = printable(video.name)
    return text if name in text else f"{name}: {text}"


def _row(job: Job, told: _Told, *, status: str, output: object, **more: Any) -> Row:
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


@cache
def model_of(name: str, device: str) -> MiniModel:
    """The weights, loaded once a process."""
    return load_mini(name, device=resolve(device))


def generator_of(settings: Settings) -> LatentGenerator:
    """The model in the settings of a run."""
    return LatentGenerator(
        model=model_of(settings.model, settings.device),
        device=resolve(settings.device),
        steps=settings.steps,
        guidance=settings.guidance,
    )


def _make(job: Job, told: _Told) -> Iterator[Row]:
    """Make the takes of one video; what can be refused at once is, before the long work."""
    settings = job.settings
    generator = generator_of(settings)
    info = look(job.video, reporter=told)
    for _, out in job.takes:
        check_fits(info.path, out)
    kept = _kept(settings, info)
    poses = read_poses(settings.poses) if settings.poses else None
    seen = observe(info, method=settings.rhythm, poses=poses, reporter=told)
    if settings.plot:
        with replacing(settings.plot, overwrite=settings.overwrite) as part:
            draw(seen, part)
    _, windows, evaluations = generator.windows(info.duration_s)
    for take, out in job.takes:
        seed = settings.seed + take
        made = make_soundtrack(
            seen,
            out,
            generator=replace(generator, kept=kept),
            seed=seed,
            genre=settings.genre,
            mix_db=settings.mix_db,
            anew_s=(kept.from_s, kept.to_s) if kept else None,
            overwrite=settings.overwrite,
            tags={"comment": _tag(generator.model, seed)},
            reporter=told,
        )
        yield _row(
            job,
            told,
            status="done",
            output=str(out),
            seed=seed,
            model=generator.model.name,
            fingerprint=generator.model.fingerprint,
            device=str(generator.device),
            genre=made.genre,
            steps=settings.steps,
            guidance=settings.guidance,
            mix_db=settings.mix_db,
            anew_s=[kept.from_s, kept.to_s] if kept else None,
            duration_s=round(info.duration_s, 3),
            windows=windows,
            evaluations=evaluations,
            rhythm=seen.rhythm.method,
            seen_share=round(seen.poses.seen_share, 4) if seen.poses else 0.0,
            peaks_s=[round(float(time_s), 4) for time_s in seen.rhythm.times_s],
            strengths=[round(float(strength), 4) for strength in seen.rhythm.strengths],
            **{key: _finite(value) for key, value in asdict(made.loudness).items()},
        )


def _finite(value: float) -> float | None:
    """A number as JSON has them: it knows no infinity, which is the peak of silence in dB."""
    return value if math.isfinite(value) else None


def _tag(model: MiniModel, seed: int) -> str:
    return (
        f"Soundtrack generated by loris {__version__},"
        f" model {model.name} {model.fingerprint}, seed {seed}"
    )


def _kept(settings: Settings, info: VideoInfo) -> Kept | None:
    """The soundtrack to keep, if it is one of this video."""
    if settings.keep is None:
        return None
    name = printable(settings.keep)
    to_s = min(settings.keep_to_s, info.duration_s)
    if not 0 <= settings.keep_from_s < to_s:
        raise UsageError(
            f"no stretch from {settings.keep_from_s:g} to {settings.keep_to_s:g} s to make anew"
            f" in {info.duration_s:.1f} s of video",
            hint="--from and --to are seconds inside the video",
        )
    old = own_sound(settings.keep)
    if old is None:
        raise UsageError(f"{name} has no sound to keep", hint="give an earlier soundtrack")
    if len(old) / SAMPLE_RATE_HZ < info.duration_s - KEPT_SHORT_S:
        raise UsageError(
            f"{name} lasts {len(old) / SAMPLE_RATE_HZ:.1f} s"
            f" and the video {info.duration_s:.1f} s: it is not its soundtrack",
            hint="--keep takes an earlier result for the same video",
        )
    return Kept(samples=old, from_s=settings.keep_from_s, to_s=to_s)


def draw(seen: Observation, path: Path, *, sound: np.ndarray[Any, Any] | None = None) -> None:
    """Picture of directogram, envelope and peaks; with sound, its onsets above."""
    rhythm_figure(
        path,
        seen.rhythm,
        keypoints=None if seen.poses is None else seen.poses.keypoints,
        sound=sound,
        rate_hz=SAMPLE_RATE_HZ,
        title=printable(seen.info.path.name),
    )


@cache
def _seconds_an_evaluation(generator: LatentGenerator, duration_s: float) -> float:
    """One call of the network and its share of making sound of the code, timed."""
    trial = ClipFeatures(
        duration_s=duration_s,
        peaks_s=np.zeros(0),
        strengths=np.zeros(0),
        energy=np.zeros(1),
    )
    short = replace(generator, steps=2)
    started_s = time.monotonic()
    for _ in short.generate(trial, seed=0, progress=lambda done, total: None):
        pass
    return (time.monotonic() - started_s) / short.windows(duration_s)[2]


def _estimate(job: Job, told: _Told) -> Iterator[Row]:
    settings, n_takes = job.settings, len(job.takes)
    info = look(job.video, reporter=told)
    for _, out in job.takes:
        check_fits(info.path, out)
    generator = generator_of(settings)
    _, windows, evaluations = generator.windows(info.duration_s)
    evaluation_s = _seconds_an_evaluation(generator, min(round(info.duration_s), TRIAL_S))
    looks = settings.rhythm != "flow" and settings.poses is None
    looking_s = info.duration_s * POSE_FPS * POSE_S if looks else 0.0
    take_s = evaluations * evaluation_s + info.duration_s * SOUND_S
    yield _row(
        job,
        told,
        status="planned",
        output=[str(out) for _, out in job.takes],
        duration_s=round(info.duration_s, 3),
        windows=windows,
        evaluations=evaluations * n_takes,
        estimated_s=round(looking_s + n_takes * take_s, 1),
        estimated_memory_mb=MEMORY_MB,
    )
