"""Audio sources to score: audio files, click trains and noise.

A source is a small description from which the worker process loads or synthesizes the samples,
so that no audio has to be transferred or stored.
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
"""Frequency, length and decay time constant of a click, a decaying sine."""
CLICK_AMPLITUDE = 0.5
NOISE_STD = 0.1
MAX_DURATION_S = 3600.0
"""Maximum duration of an audio file; clips last about a minute."""


@dataclass(frozen=True, kw_only=True)
class RecordedAudio:
    """Audio file, or audio track of a video."""

    path: Path
    max_samples: int | None = None
    """Length to which longer audio is truncated; None keeps it."""


@dataclass(frozen=True, kw_only=True)
class ClickTrain:
    """Clicks in silence."""

    click_times_s: tuple[float, ...]
    n_samples: int


@dataclass(frozen=True, kw_only=True)
class WhiteNoise:
    """Gaussian white noise."""

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
    """Apply a function to each distinct source, optionally in worker processes.

    Args:
        function: picklable function of one source.
        sources: audio sources; duplicates are processed once.
        n_workers: number of worker processes; 0 or 1 uses the current process.
        advance: progress callback, called with 1 after each source.

    Returns:
        result of each source, or the crash of its worker process.
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
        mono at 22,050 Hz, ``(samples,)``; number of samples that were truncated.

    Raises:
        InputError: the file is missing, damaged, has no audio, or is too long.
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

    Formats of libsndfile are read as in the official script, following the steps of
    `librosa.load`. That function is not called because it imports modules that newer Python
    versions lack. Other files, mainly videos, are decoded according to their timestamps.
    """
    name = printable_path(path)
    hint = "use an audio file, or a video with audio"
    try:
        info = soundfile.info(path)
        if info.frames > MAX_DURATION_S * info.samplerate:
            raise InputError(f"{name} is longer than 1 hour", hint="cut it into clips")
        channels, rate_hz = soundfile.read(path, dtype="float32")
        check_finite(channels, path)  # first, because librosa raises an error of its own
        mono = librosa.to_mono(channels.T)
        rates = {"orig_sr": rate_hz, "target_sr": SAMPLE_RATE_HZ}
        samples: Samples = librosa.resample(mono, **rates, res_type="soxr_hq")
    except soundfile.LibsndfileError as error:
        samples = _read_audio_track(path, hint, error)
    if not len(samples):
        raise InputError(f"{name} has no audio samples", hint=hint)
    check_finite(samples, path)
    return samples


def check_finite(samples: Samples, path: Path) -> None:
    """Raise ``InputError`` if audio contains NaN or infinite samples."""
    if not np.isfinite(samples).all():
        name = printable_path(path)
        raise InputError(f"{name} contains NaN or infinite samples", hint="regenerate the file")


def _read_audio_track(path: Path, hint: str, cause: Exception) -> Samples:
    name = printable_path(path)
    if not path.is_file():
        raise InputError(f"no such file: {name}", hint=hint) from cause
    try:
        track = read_audio(path, rate_hz=SAMPLE_RATE_HZ)
    except (av.FFmpegError, OSError) as error:
        raise InputError(f"cannot decode the audio of {name}", hint=hint) from error
    if track is None:
        raise InputError(f"{name} has no audio stream", hint=hint)
    if track.shape[1] > MAX_DURATION_S * SAMPLE_RATE_HZ:
        raise InputError(f"{name} is longer than 1 hour", hint="cut it into clips")
    mono: Samples = track.mean(axis=0)
    return mono
