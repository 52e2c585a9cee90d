"""Soundtracks for many videos: each on its own, none stops the others.

jobs -> one process or several -> one row a take: what was made, or why not
"""

import multiprocessing
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from loris_cli import __version__
from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.errors import LorisError, UsageError
from loris_cli.figure import rhythm_figure
from loris_cli.files import replacing
from loris_cli.longform import Kept, LatentGenerator
from loris_cli.networks.checkpoint import MiniModel, load_mini
from loris_cli.networks.device import resolve
from loris_cli.pose.keypoints import read_poses
from loris_cli.soundtrack import (
    Method,
    Observation,
    Reporter,
    Silent,
    make_soundtrack,
    observe,
    own_sound,
)

POSE_S = 0.035
"""Seconds to find a pose in a frame, about, on two cores of 2017: for estimates only."""
SOUND_S = 0.12
"""Seconds to decode and level a second of sound, likewise."""
MEMORY_MB = 1200
"""Peak memory, measured at 1 and at 10 minutes; it does not grow with length."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is wanted of every soundtrack of a run."""

    model: str = "mini"
    genre: str | None = None
    seed: int = 0
    steps: int = 20
    guidance: float = 2.0
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
    settings: Settings


Row = dict[str, Any]


def run(jobs: Sequence[Job], *, workers: int, reporter: Reporter) -> Iterator[Row]:
    """Do jobs and give a row for each take, in the order of the jobs.

    A video that fails gives one row of status ``failed``; an interruption ends all.

    Args:
        jobs: what to do.
        workers: processes; one works here and shows its progress.
        reporter: whom to tell; processes of their own tell only their warnings, in the rows.
    """
    if workers == 1 or len(jobs) == 1:
        for job in jobs:
            yield from attempt(job, reporter)
        return
    context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    with (
        reporter.stage("videos", len(jobs)) as advance,
        ProcessPoolExecutor(min(workers, len(jobs)), mp_context=context) as pool,
    ):
        for rows in pool.map(_attempt_quietly, jobs):
            advance(1)
            for row in rows:
                for text in row["warnings"]:
                    reporter.warn(text)
            yield from rows


def attempt(job: Job, reporter: Reporter) -> list[Row]:
    """Do one job; its errors become a row."""
    heard = _Heard(reporter)
    started = time.monotonic()
    rows: list[Row] = []
    try:
        for row in _make(job, heard):
            rows.append(row)
    except LorisError as error:
        rows.append(
            {
                "status": "failed",
                "error": str(error),
                "hint": error.hint,
                "exit_code": error.exit_code,
                "output": None,
            }
        )
    seconds = round(time.monotonic() - started, 3)
    return [
        {"input": str(job.video), **row, "seconds": seconds, "warnings": heard.warnings}
        for row in rows
    ]


def _attempt_quietly(job: Job) -> list[Row]:
    return attempt(job, Silent())


class _Heard:
    """A reporter that also keeps the warnings."""

    def __init__(self, reporter: Reporter) -> None:
        self.warnings: list[str] = []
        self.stage = reporter.stage
        self._warn = reporter.warn

    def warn(self, text: str) -> None:
        self.warnings.append(text)
        self._warn(text)


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


def _make(job: Job, reporter: Reporter) -> Iterator[Row]:
    settings = job.settings
    generator = generator_of(settings)  # first, so that missing weights fail at once
    poses = read_poses(settings.poses) if settings.poses else None
    seen = observe(job.video, method=settings.rhythm, poses=poses, reporter=reporter)
    generator = replace(generator, kept=_kept(settings, seen))
    if settings.plot:
        with replacing(settings.plot, overwrite=settings.overwrite) as part:
            draw(seen, part)
    _, windows, evaluations = generator.windows(seen.info.duration_s)
    for take, out in job.takes:
        seed = settings.seed + take
        made = make_soundtrack(
            seen,
            out,
            generator=generator,
            seed=seed,
            genre=settings.genre,
            mix_db=settings.mix_db,
            overwrite=settings.overwrite,
            tags={"comment": _tag(generator.model, seed)},
            reporter=reporter,
        )
        yield {
            "status": "done",
            "output": str(out),
            "seed": seed,
            "model": generator.model.name,
            "fingerprint": generator.model.fingerprint,
            "genre": settings.genre,
            "duration_s": round(seen.info.duration_s, 3),
            "rhythm": seen.rhythm.method,
            "seen_share": round(seen.poses.seen_share, 4) if seen.poses else 0.0,
            "peaks_s": [round(float(time_s), 4) for time_s in seen.rhythm.times_s],
            "windows": windows,
            "evaluations": evaluations,
            "steps": settings.steps,
            "guidance": settings.guidance,
            **asdict(made.loudness),
        }


def _tag(model: MiniModel, seed: int) -> str:
    return (
        f"Soundtrack generated by loris {__version__},"
        f" model {model.name} {model.fingerprint}, seed {seed}"
    )


def _kept(settings: Settings, seen: Observation) -> Kept | None:
    if settings.keep is None:
        return None
    old = own_sound(settings.keep)
    if old is None:
        raise UsageError(f"{settings.keep.name} has no sound to keep")
    to_s = min(settings.keep_to_s, seen.info.duration_s)
    if not 0 <= settings.keep_from_s < to_s:
        raise UsageError(
            f"no stretch from {settings.keep_from_s:g} to {to_s:g} s to make anew",
            hint="--from and --to are seconds inside the video",
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
    )


def estimate(job: Job) -> Row:
    """What a job will cost, from its length and one timed evaluation of the network.

    Raises:
        LorisError: what would stop the job at once.
    """
    from loris_cli.conditioning import ClipFeatures
    from loris_cli.video.probe import probe

    info = probe(job.video)
    generator = generator_of(job.settings)
    _, windows, evaluations = generator.windows(info.duration_s)
    trial = ClipFeatures(
        duration_s=min(info.duration_s, 45.0),
        peaks_s=np.zeros(0),
        strengths=np.zeros(0),
        energy=np.zeros(1),
    )
    short = replace(generator, steps=2)
    started = time.monotonic()
    for _ in short.generate(trial, seed=0, progress=lambda done, total: None):
        pass
    each_s = (time.monotonic() - started) / short.windows(trial.duration_s)[2]
    takes = len(job.takes)
    looking_s = info.duration_s * 16 * POSE_S if job.settings.rhythm != "flow" else 0.0
    return {
        "input": str(job.video),
        "status": "planned",
        "output": [str(out) for _, out in job.takes],
        "duration_s": round(info.duration_s, 3),
        "windows": windows,
        "evaluations": evaluations * takes,
        "estimated_s": round(
            looking_s + takes * (evaluations * each_s + info.duration_s * SOUND_S), 1
        ),
        "estimated_memory_mb": MEMORY_MB,
    }
