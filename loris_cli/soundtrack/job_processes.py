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
from loris_cli.models.load_model import PaperCheckpoint
from loris_cli.models.mini_checkpoint import MiniCheckpoint
from loris_cli.pose.keypoints import read_poses
from loris_cli.rhythm.plot import plot_rhythm
from loris_cli.soundtrack.generators import (
    SamplingGenerator,
    build_generator,
    get_rhythm_compat,
    get_visual_features,
)
from loris_cli.soundtrack.job_report import RecordingReporter, ReportRow, build_row
from loris_cli.soundtrack.jobs import SoundtrackJob, SoundtrackSettings
from loris_cli.soundtrack.latent_generator import InpaintRegion, LatentGenerator
from loris_cli.soundtrack.pipeline import make_soundtrack
from loris_cli.soundtrack.video_analysis import VideoAnalysis, analyze_video, probe_for_rhythm
from loris_cli.system.atomic_files import atomic_write, printable_path
from loris_cli.video.audio_track import read_audio
from loris_cli.video.mux import check_container
from loris_cli.video.probe import VideoInfo

POSE_S_PER_FRAME = 0.035
"""Seconds to find a pose in a frame, about, on two cores of 2017: for estimates only."""
DECODE_S_PER_AUDIO_S = 0.12
"""Seconds to decode and level a second of sound, likewise."""
BASE_MEMORY_MB = 1200
"""Peak memory, measured at 1 and at 10 minutes; it does not grow with length."""
PAPER_MEMORY_FACTOR = 1.6
"""Memory of the paper's network at work beside that of its weights alone, by reckoning: a batch
of one takes 3.9 GB at full size (specification, 3.5) and guidance twice what is above 3.1."""
MAX_PLOT_AUDIO_S = 600.0
"""The longest sound that is drawn beside its rhythm: of an hour it would take gigabytes."""
MAX_TIMING_CLIP_S = 45.0
"""The longest clip on which an estimate times the network: one full batch of windows."""
MAX_INPAINT_SHORTFALL_S = 0.25
"""A soundtrack to keep may end so much before its video: encoders cut and pad."""


def make_takes(job: SoundtrackJob, reporter: RecordingReporter) -> Iterator[ReportRow]:
    """Make the takes of one video; what can be refused at once is, before the long work."""
    settings = job.settings
    generator = build_generator(settings)
    info = probe_for_rhythm(job.video, reporter=reporter)
    for _, out in job.takes:
        check_container(info.path, out)
    kept = _load_inpaint_region(settings, info, n_channels=_n_channels(generator))
    if kept is not None:
        generator = replace(generator, inpaint_region=kept)
    poses = read_poses(settings.poses) if settings.poses else None
    visual, compat = (
        get_visual_features(settings, generator, info, reporter),
        get_rhythm_compat(generator),
    )
    seen = analyze_video(
        info, method=settings.rhythm_method, compat=compat, poses=poses, reporter=reporter
    )
    seen = replace(seen, visual=visual)
    _, windows, evaluations = generator.compute_window_layout(info.duration_s)
    for take, out in job.takes:
        seed = settings.seed + take
        made = make_soundtrack(
            seen,
            out,
            generator=generator,
            seed=seed,
            genre=settings.genre,
            mix_db=settings.mix_db,
            regenerate_s=(kept.start_s, kept.end_s) if kept else None,
            overwrite=settings.overwrite,
            tags={"comment": _metadata_comment(generator.model, seed)},
            reporter=reporter,
        )
        if settings.plot and take == job.takes[0][0]:
            with atomic_write(settings.plot, overwrite=settings.overwrite) as part:
                plot_analysis(
                    seen,
                    part,
                    audio=read_mono_audio(out) if info.duration_s <= MAX_PLOT_AUDIO_S else None,
                )
        yield build_row(
            job,
            reporter,
            status="done",
            output=str(out),
            seed=seed,
            model=generator.model.name,
            fingerprint=generator.model.sha256_prefix,
            device=str(generator.device),
            genre=made.genre,
            steps=generator.steps,
            guidance=generator.guidance,
            sampler=generator.sampler,
            precision="fp32" if generator.dtype == torch.float32 else "bf16",
            visual=None if settings.visual is None else str(settings.visual),
            mix_db=settings.mix_db,
            anew_s=[kept.start_s, kept.end_s] if kept else None,
            duration_s=round(info.duration_s, 3),
            windows=windows,
            evaluations=evaluations,
            rhythm=seen.rhythm.method,
            seen_share=round(seen.poses.detected_fraction, 4) if seen.poses else 0.0,
            peaks_s=[round(float(time_s), 4) for time_s in seen.rhythm.times_s],
            strengths=[round(float(strength), 4) for strength in seen.rhythm.strengths],
            **{key: _finite_or_none(value) for key, value in asdict(made.loudness).items()},
        )


def read_mono_audio(path: Path) -> np.ndarray[Any, Any] | None:
    sound = read_audio(path, rate_hz=SAMPLE_RATE_HZ)
    return None if sound is None else sound.mean(axis=0)


def _finite_or_none(value: float) -> float | None:
    """A number as JSON has them: it knows no infinity, which is the peak of silence in dB."""
    return value if math.isfinite(value) else None


def _metadata_comment(model: MiniCheckpoint | PaperCheckpoint, seed: int) -> str:
    return (
        f"Soundtrack generated by loris {__version__},"
        f" model {model.name} {model.sha256_prefix}, seed {seed}"
    )


def _n_channels(generator: SamplingGenerator) -> int:
    """Of the sound that a generator makes."""
    if isinstance(generator, LatentGenerator):
        return 1
    return generator.model.network.config.in_channels


def _load_inpaint_region(
    settings: SoundtrackSettings, info: VideoInfo, *, n_channels: int
) -> InpaintRegion | None:
    """The soundtrack to keep, if it is one of this video, with as many channels as asked."""
    if settings.inpaint is None:
        return None
    name = printable_path(settings.inpaint)
    to_s = min(settings.inpaint_end_s, info.duration_s)
    if not 0 <= settings.inpaint_start_s < to_s:
        raise UsageError(
            f"no stretch from {settings.inpaint_start_s:g} to {settings.inpaint_end_s:g} s to make anew"
            f" in {info.duration_s:.1f} s of video",
            hint="--from and --to are seconds inside the video",
        )
    old = read_audio(settings.inpaint, rate_hz=SAMPLE_RATE_HZ)
    if old is None:
        raise UsageError(f"{name} has no sound to keep", hint="give an earlier soundtrack")
    old_s = old.shape[1] / SAMPLE_RATE_HZ
    if old_s < info.duration_s - MAX_INPAINT_SHORTFALL_S:
        raise UsageError(
            f"{name} lasts {old_s:.1f} s"
            f" and the video {info.duration_s:.1f} s: it is not its soundtrack",
            hint="--keep takes an earlier result for the same video",
        )
    if len(old) != n_channels:
        old = old.mean(axis=0, keepdims=True).repeat(n_channels, axis=0)
    return InpaintRegion(original=old, start_s=settings.inpaint_start_s, end_s=to_s)


def plot_analysis(
    analysis: VideoAnalysis, path: Path, *, audio: np.ndarray[Any, Any] | None = None
) -> None:
    """Picture of directogram, envelope and peaks; with sound, its onsets above."""
    plot_rhythm(
        path,
        analysis.rhythm,
        keypoints=None if analysis.poses is None else analysis.poses.keypoints,
        audio=audio,
        rate_hz=SAMPLE_RATE_HZ,
        title=printable_path(analysis.info.path.name),
    )


def _timing_clip_s(generator: SamplingGenerator) -> float:
    """The longest clip to time: of the paper's model one window, which takes long enough."""
    if isinstance(generator, LatentGenerator):
        return MAX_TIMING_CLIP_S
    return generator.model.network.config.clip_duration_s


@cache
def _time_evaluation_s(generator: SamplingGenerator, duration_s: float) -> float:
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
    return (time.monotonic() - started_s) / short.compute_window_layout(duration_s)[2]


def _estimate_memory_mb(generator: SamplingGenerator) -> int:
    """Peak memory, about."""
    if isinstance(generator, LatentGenerator):
        return BASE_MEMORY_MB
    weights = generator.model.network.state_dict().values()
    n_bytes = sum(value.numel() * value.element_size() for value in weights)
    return int(BASE_MEMORY_MB + n_bytes * PAPER_MEMORY_FACTOR / 2**20)


def estimate_takes(job: SoundtrackJob, reporter: RecordingReporter) -> Iterator[ReportRow]:
    """What the takes of one video would cost, in one row; nothing is written."""
    settings, n_takes = job.settings, len(job.takes)
    info = probe_for_rhythm(job.video, reporter=reporter)
    for _, out in job.takes:
        check_container(info.path, out)
    generator = build_generator(settings)
    _, windows, evaluations = generator.compute_window_layout(info.duration_s)
    evaluation_s = _time_evaluation_s(
        generator, min(round(info.duration_s), _timing_clip_s(generator))
    )
    looks = settings.rhythm_method != "flow" and settings.poses is None
    looking_s = info.duration_s * POSE_FPS * POSE_S_PER_FRAME if looks else 0.0
    take_s = evaluations * evaluation_s + info.duration_s * DECODE_S_PER_AUDIO_S
    yield build_row(
        job,
        reporter,
        status="planned",
        output=[str(out) for _, out in job.takes],
        duration_s=round(info.duration_s, 3),
        windows=windows,
        evaluations=evaluations * n_takes,
        estimated_s=round(looking_s + n_takes * take_s, 1),
        estimated_memory_mb=_estimate_memory_mb(generator),
    )
