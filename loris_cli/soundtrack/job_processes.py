"""The takes of one video, one after the other, or what they would cost."""

import math
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from loris_cli import __version__
from loris_cli.config import POSE_FPS, SAMPLE_RATE_HZ
from loris_cli.errors import UsageError
from loris_cli.models.generator_interface import ClipFeatures
from loris_cli.models.load_model import NamedPaper
from loris_cli.models.mini_checkpoint import MiniModel
from loris_cli.pose.keypoints import read_poses
from loris_cli.rhythm.plot import rhythm_figure
from loris_cli.soundtrack.generators import Generator, compat_of, generator_of, visual_of
from loris_cli.soundtrack.job_report import Row, Told, row_of
from loris_cli.soundtrack.jobs import Job, Settings
from loris_cli.soundtrack.latent_generator import Kept, LatentGenerator
from loris_cli.soundtrack.pipeline import make_soundtrack
from loris_cli.soundtrack.video_analysis import Observation, look, observe
from loris_cli.system.atomic_files import printable, replacing
from loris_cli.video.audio_track import read_sound
from loris_cli.video.mux import check_fits
from loris_cli.video.probe import VideoInfo

POSE_S = 0.035
"""Seconds to find a pose in a frame, about, on two cores of 2017: for estimates only."""
SOUND_S = 0.12
"""Seconds to decode and level a second of sound, likewise."""
MEMORY_MB = 1200
"""Peak memory, measured at 1 and at 10 minutes; it does not grow with length."""
PAPER_SHARE = 1.6
"""Memory of the paper's network at work beside that of its weights alone, by reckoning: a batch
of one takes 3.9 GB at full size (specification, 3.5) and guidance twice what is above 3.1."""
DRAWN_S = 600.0
"""The longest sound that is drawn beside its rhythm: of an hour it would take gigabytes."""
TRIAL_S = 45.0
"""The longest clip on which an estimate times the network: one full batch of windows."""
KEPT_SHORT_S = 0.25
"""A soundtrack to keep may end so much before its video: encoders cut and pad."""


def make_takes(job: Job, told: Told) -> Iterator[Row]:
    """Make the takes of one video; what can be refused at once is, before the long work."""
    settings = job.settings
    generator = generator_of(settings)
    info = look(job.video, reporter=told)
    for _, out in job.takes:
        check_fits(info.path, out)
    kept = _kept(settings, info, n_channels=_n_channels(generator))
    if kept is not None:
        generator = replace(generator, kept=kept)
    poses = read_poses(settings.poses) if settings.poses else None
    visual, compat = visual_of(settings, generator, info, told), compat_of(generator)
    seen = observe(info, method=settings.rhythm, compat=compat, poses=poses, reporter=told)
    seen = replace(seen, visual=visual)
    _, windows, evaluations = generator.windows(info.duration_s)
    for take, out in job.takes:
        seed = settings.seed + take
        made = make_soundtrack(
            seen,
            out,
            generator=generator,
            seed=seed,
            genre=settings.genre,
            mix_db=settings.mix_db,
            anew_s=(kept.from_s, kept.to_s) if kept else None,
            overwrite=settings.overwrite,
            tags={"comment": _tag(generator.model, seed)},
            reporter=told,
        )
        if settings.plot and take == job.takes[0][0]:
            with replacing(settings.plot, overwrite=settings.overwrite) as part:
                draw(seen, part, sound=_heard(out) if info.duration_s <= DRAWN_S else None)
        yield row_of(
            job,
            told,
            status="done",
            output=str(out),
            seed=seed,
            model=generator.model.name,
            fingerprint=generator.model.fingerprint,
            device=str(generator.device),
            genre=made.genre,
            steps=generator.steps,
            guidance=generator.guidance,
            sampler=generator.sampler,
            precision="fp32" if generator.dtype == torch.float32 else "bf16",
            visual=None if settings.visual is None else str(settings.visual),
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


def _heard(path: Path) -> np.ndarray[Any, Any] | None:
    sound = read_sound(path, rate_hz=SAMPLE_RATE_HZ)
    return None if sound is None else sound.mean(axis=0)


def _finite(value: float) -> float | None:
    """A number as JSON has them: it knows no infinity, which is the peak of silence in dB."""
    return value if math.isfinite(value) else None


def _tag(model: MiniModel | NamedPaper, seed: int) -> str:
    return (
        f"Soundtrack generated by loris {__version__},"
        f" model {model.name} {model.fingerprint}, seed {seed}"
    )


def _n_channels(generator: Generator) -> int:
    """Of the sound that a generator makes."""
    if isinstance(generator, LatentGenerator):
        return 1
    return generator.model.network.config.in_channels


def _kept(settings: Settings, info: VideoInfo, *, n_channels: int) -> Kept | None:
    """The soundtrack to keep, if it is one of this video, with as many channels as asked."""
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
    old = read_sound(settings.keep, rate_hz=SAMPLE_RATE_HZ)
    if old is None:
        raise UsageError(f"{name} has no sound to keep", hint="give an earlier soundtrack")
    old_s = old.shape[1] / SAMPLE_RATE_HZ
    if old_s < info.duration_s - KEPT_SHORT_S:
        raise UsageError(
            f"{name} lasts {old_s:.1f} s"
            f" and the video {info.duration_s:.1f} s: it is not its soundtrack",
            hint="--keep takes an earlier result for the same video",
        )
    if len(old) != n_channels:
        old = old.mean(axis=0, keepdims=True).repeat(n_channels, axis=0)
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


def _trial_s(generator: Generator) -> float:
    """The longest clip to time: of the paper's model one window, which takes long enough."""
    if isinstance(generator, LatentGenerator):
        return TRIAL_S
    return generator.model.network.config.clip_s


@cache
def _seconds_an_evaluation(generator: Generator, duration_s: float) -> float:
    """One call of the network and its share of making sound of the code, timed."""
    trial = ClipFeatures(
        duration_s=duration_s,
        peaks_s=np.zeros(0),
        strengths=np.zeros(0),
        energy=np.zeros(1),
    )
    short = replace(generator, steps=2, sampler="euler")
    started_s = time.monotonic()
    for _ in short.generate(trial, seed=0, progress=lambda done, total: None):
        pass
    return (time.monotonic() - started_s) / short.windows(duration_s)[2]


def _memory_mb(generator: Generator) -> int:
    """Peak memory, about."""
    if isinstance(generator, LatentGenerator):
        return MEMORY_MB
    weights = generator.model.network.state_dict().values()
    n_bytes = sum(value.numel() * value.element_size() for value in weights)
    return int(MEMORY_MB + n_bytes * PAPER_SHARE / 2**20)


def estimate_takes(job: Job, told: Told) -> Iterator[Row]:
    """What the takes of one video would cost, in one row; nothing is written."""
    settings, n_takes = job.settings, len(job.takes)
    info = look(job.video, reporter=told)
    for _, out in job.takes:
        check_fits(info.path, out)
    generator = generator_of(settings)
    _, windows, evaluations = generator.windows(info.duration_s)
    evaluation_s = _seconds_an_evaluation(
        generator, min(round(info.duration_s), _trial_s(generator))
    )
    looks = settings.rhythm != "flow" and settings.poses is None
    looking_s = info.duration_s * POSE_FPS * POSE_S if looks else 0.0
    take_s = evaluations * evaluation_s + info.duration_s * SOUND_S
    yield row_of(
        job,
        told,
        status="planned",
        output=[str(out) for _, out in job.takes],
        duration_s=round(info.duration_s, 3),
        windows=windows,
        evaluations=evaluations * n_takes,
        estimated_s=round(looking_s + n_takes * take_s, 1),
        estimated_memory_mb=_memory_mb(generator),
    )
