"""Audio to be scored: recordings, and signals synthesized by a rule.

A source is described by a few values, so that the worker process that analyzes it can create
it, and nothing has to be stored.
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import av
import numpy as np
import soundfile

from loris_cli.array_types import Samples
from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.errors import InputError
from loris_cli.system.atomic_files import printable_path
from loris_cli.system.librosa_import import librosa
from loris_cli.system.worker_pool import WorkerCrash, map_in_processes
from loris_cli.video.audio_track import read_audio

Result = TypeVar("Result")

CLICK_HZ, CLICK_S, CLICK_DECAY_S = 1000.0, 0.05, 0.01
"""A click: a decaying tone."""
CLICK_AMPLITUDE = 0.5
NOISE_STD = 0.1
MAX_DURATION_S = 3600.0
"""Clips last a minute; a file of more than an hour is a mistake."""


@dataclass(frozen=True, kw_only=True)
class RecordedAudio:
    """An audio file, or the audio track of a video."""

    path: Path
    max_samples: int | None = None
    """Longer audio is cut."""


@dataclass(frozen=True, kw_only=True)
class ClickTrain:
    """Silence with clicks."""

    click_times_s: tuple[float, ...]
    n_samples: int


@dataclass(frozen=True, kw_only=True)
class WhiteNoise:
    """White noise."""

    seed: int
    n_samples: int


AudioSource = RecordedAudio | ClickTrain | WhiteNoise


def map_sources(
    function: Callable[[AudioSource], Result],
    sources: Sequence[AudioSource],
    *,
    n_workers: int,
    advance: Callable[..., None],
) -> dict[AudioSource, Result | WorkerCrash]:
    """Apply a function to each source, a repeated one once.

    Args:
        function: a function of a module, so that a worker process finds it.
        sources: the sources.
        n_workers: worker processes; up to 1 is this process.
        advance: called with 1 after each source.
    """
    different = list(dict.fromkeys(sources))
    numbered: Generator[tuple[int, Result | WorkerCrash], None, None]
    if n_workers <= 1:
        numbered = ((index, function(source)) for index, source in enumerate(different))
    else:
        numbered = map_in_processes(function, different, n_workers=n_workers)
    results = {}
    with closing(numbered):
        for index, result in numbered:
            results[different[index]] = result
            advance(1)
    return results


def load_samples(source: AudioSource) -> tuple[Samples, int]:
    """Load or synthesize a source.

    Returns:
        mono at 22,050 Hz, ``(samples,)``, and how many samples of its file were cut.

    Raises:
        InputError: its file is missing, damaged, without audio, or too long.
    """
    if isinstance(source, RecordedAudio):
        full = read_audio_file(source.path)
        samples = full[: source.max_samples]
        return samples, len(full) - len(samples)
    if isinstance(source, WhiteNoise):
        rng = np.random.default_rng(source.seed)
        return NOISE_STD * rng.standard_normal(source.n_samples, np.float32), 0
    samples = np.zeros(source.n_samples, np.float32)
    times_s = np.arange(round(CLICK_S * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    click = np.sin(2 * np.pi * CLICK_HZ * times_s) * np.exp(-times_s / CLICK_DECAY_S)
    for click_time_s in source.click_times_s:
        start = round(click_time_s * SAMPLE_RATE_HZ)
        samples[start : start + len(click)] += click[: max(len(samples) - start, 0)]
    return (CLICK_AMPLITUDE * samples).astype(np.float32), 0


def read_audio_file(path: Path) -> Samples:
    """Read the audio of a file, mono at 22,050 Hz, ``(samples,)``.

    Formats of libsndfile are read as in the official script, by the steps of `librosa.load`,
    which itself imports modules that later Pythons lack. Other files, mainly videos, are read
    by their timestamps.
    """
    name = printable_path(path)
    hint = "use an audio file, or a video with audio"
    try:
        info = soundfile.info(path)
        if info.frames > MAX_DURATION_S * info.samplerate:
            raise InputError(f"{name} lasts more than an hour", hint="cut it into clips")
        channels, rate_hz = soundfile.read(path, dtype="float32")
        mono = librosa.to_mono(channels.T)
        rates = {"orig_sr": rate_hz, "target_sr": SAMPLE_RATE_HZ}
        samples: Samples = librosa.resample(mono, **rates, res_type="soxr_hq")
    except soundfile.LibsndfileError as error:
        samples = _read_audio_track(path, hint, error)
    if not len(samples):
        raise InputError(f"{name} holds no audio", hint=hint)
    if not np.isfinite(samples).all():
        raise InputError(f"{name} holds values that are not finite", hint="make it again")
    return samples


def _read_audio_track(path: Path, hint: str, cause: Exception) -> Samples:
    name = printable_path(path)
    if not path.is_file():
        raise InputError(f"no file {name}", hint=hint) from cause
    try:
        track = read_audio(path, rate_hz=SAMPLE_RATE_HZ)
    except (av.FFmpegError, OSError) as error:
        raise InputError(f"{name} cannot be read as audio", hint=hint) from error
    if track is None:
        raise InputError(f"{name} has no audio", hint=hint)
    if track.shape[1] > MAX_DURATION_S * SAMPLE_RATE_HZ:
        raise InputError(f"{name} lasts more than an hour", hint="cut it into clips")
    mono: Samples = track.mean(axis=0)
    return mono
