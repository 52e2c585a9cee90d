"""The takes of one video, one after the other, or what they would cost."""

import math
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from loris_cli import __version__
from loris_cli.batch.plan import Job, Settings
from loris_cli.batch.rows import Row, Told, row_of
from loris_cli.conditioning import ClipFeatures
from loris_cli.config import POSE_FPS, SAMPLE_RATE_HZ
from loris_cli.errors import UsageError
from loris_cli.figure import rhythm_figure
from loris_cli.files import printable, replacing
from loris_cli.longform import Kept, LatentGenerator
from loris_cli.networks.checkpoint import MiniModel, load_mini
from loris_cli.networks.device import resolve
from loris_cli.networks.i3d import FEATURES, InceptionI3D, load_i3d
from loris_cli.networks.library import NamedPaper, kind_of, load_named_paper
from loris_cli.observation import Observation, look, observe
from loris_cli.picture import features_of_picture
from loris_cli.pose.keypoints import read_poses
from loris_cli.rhythm.directogram import Compat
from loris_cli.soundtrack import make_soundtrack, own_sound
from loris_cli.video.mux import check_fits
from loris_cli.video.probe import VideoInfo
from loris_cli.visual import Array, read_visual
from loris_cli.waveform_model import WaveformGenerator

POSE_S = 0.035
"""Seconds to find a pose in a frame, about, on two cores of 2017: for estimates only."""
SOUND_S = 0.12
"""Seconds to decode and level a second of sound, likewise."""
MEMORY_MB = 1200
"""Peak memory, measured at 1 and at 10 minutes; it does not grow with length."""
PAPER_SHARE = 1.6
"""Memory of the paper's network at work beside that of its weights alone, by reckoning: a batch
of one takes 3.9 GB at full size (specification, 3.5) and guidance twice what is above 3.1."""
TRIAL_S = 45.0
"""The longest clip on which an estimate times the network: one full batch of windows."""
KEPT_SHORT_S = 0.25
"""A soundtrack to keep may end so much before its video: encoders cut and pad."""


Generator = LatentGenerator | WaveformGenerator


@cache
def model_of(name: str, device: str) -> MiniModel | NamedPaper:
    """The weights, loaded once a process."""
    if kind_of(name) == "paper":
        return load_named_paper(Path(name), device=resolve(device))
    return load_mini(name, device=resolve(device))


@cache
def i3d_of(path: Path, device: str) -> InceptionI3D:
    """The user's I3D, loaded once a process."""
    return load_i3d(path, device=resolve(device))


def generator_of(settings: Settings) -> Generator:
    """The model in the settings of a run, sampled as they say or as suits it.

    Raises:
        UsageError: an option that this model does not take.
    """
    model, device = model_of(settings.model, settings.device), resolve(settings.device)
    chosen: dict[str, Any] = {
        key: value
        for key in ("steps", "guidance", "sampler")
        if (value := getattr(settings, key)) is not None
    }
    if isinstance(model, MiniModel):
        if settings.visual is not None:
            raise UsageError(f"{model.name} sees no picture", hint="leave out --visual")
        return LatentGenerator(model=model, device=device, interval=settings.guided, **chosen)
    generator = WaveformGenerator(
        model=model, device=device, interval=settings.guided, **chosen
    )
    if settings.keep is not None:
        raise UsageError(f"{model.name} makes a soundtrack whole", hint="leave out --keep")
    if settings.visual is not None and model.network.config.visual == "none":
        raise UsageError(f"{model.name} sees no picture", hint="leave out --visual")
    if settings.genre is not None and settings.genre not in generator.genres:
        known = ", ".join(generator.genres)
        raise UsageError(
            f"{model.name} was not taught the style {settings.genre}",
            hint=f"it knows {known}" if known else "it knows no styles: leave out --genre",
        )
    return generator


def make_takes(job: Job, told: Told) -> Iterator[Row]:
    """Make the takes of one video; what can be refused at once is, before the long work."""
    settings = job.settings
    generator = generator_of(settings)
    info = look(job.video, reporter=told)
    for _, out in job.takes:
        check_fits(info.path, out)
    kept = _kept(settings, info)
    if kept is not None:
        assert isinstance(generator, LatentGenerator)  # the other refuses to keep
        generator = replace(generator, kept=kept)
    poses = read_poses(settings.poses) if settings.poses else None
    visual, compat = _visual(settings, generator, info, told), _compat(generator)
    seen = observe(info, method=settings.rhythm, compat=compat, poses=poses, reporter=told)
    seen = replace(seen, visual=visual)
    if settings.plot:
        with replacing(settings.plot, overwrite=settings.overwrite) as part:
            draw(seen, part)
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


def _finite(value: float) -> float | None:
    """A number as JSON has them: it knows no infinity, which is the peak of silence in dB."""
    return value if math.isfinite(value) else None


def _compat(generator: Generator) -> Compat:
    """How the network was told of bodies while it learned."""
    if isinstance(generator, LatentGenerator):
        return "paper"
    return generator.model.network.config.compat


def _visual(
    settings: Settings, generator: Generator, info: VideoInfo, told: Told
) -> Array | None:
    """Features of the picture, for a network that is told of it."""
    if isinstance(generator, LatentGenerator):
        return None
    for text in generator.model.warnings:
        told.warn(text)
    config = generator.model.network.config
    if config.visual == "none":
        return None
    if settings.visual is None:
        told.warn(
            f"{generator.model.name} was trained on features of the picture and is told of"
            " none: give them with --visual"
        )
        return None
    if settings.has_features:
        return read_visual(
            settings.visual, width=config.visual_features, duration_s=info.duration_s
        )
    if config.visual_features != FEATURES:
        raise UsageError(
            f"an Inception I3D makes {FEATURES} values and {generator.model.name} was trained"
            f" on {config.visual_features}",
            hint="give features as a .npy file",
        )
    network = i3d_of(settings.visual, settings.device)
    return features_of_picture(info, network, device=generator.device, reporter=told)


def _tag(model: MiniModel | NamedPaper, seed: int) -> str:
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
