"""The sounds that are scored: recorded ones, and those that are made by a rule.

A sound is told in a few values, so that it can be made where it is listened to, in another
process, and need not be stored.
"""

from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import soundfile
from numpy.typing import NDArray

from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.errors import InputError
from loris_cli.system.atomic_files import printable_path
from loris_cli.system.librosa_import import librosa
from loris_cli.video.audio_track import read_audio

Samples = NDArray[np.float32]

CLICK_HZ, CLICK_S, CLICK_DECAY_S = 1000.0, 0.05, 0.01
"""A click: a tone that fades."""
CLICK_AMPLITUDE = 0.5
NOISE_STD = 0.1
MAX_DURATION_S = 3600.0
"""A clip of a benchmark lasts a minute; a file of more than an hour is a mistake."""


@dataclass(frozen=True, kw_only=True)
class RecordedAudio:
    """A sound, or the sound of a video, in a file."""

    path: Path
    max_samples: int | None = None
    """What is longer is cut."""


@dataclass(frozen=True, kw_only=True)
class ClickTrain:
    """Silence but for clicks at some moments."""

    click_times_s: tuple[float, ...]
    n_samples: int


@dataclass(frozen=True, kw_only=True)
class WhiteNoise:
    """White noise."""

    seed: int
    n_samples: int


AudioSource = RecordedAudio | ClickTrain | WhiteNoise


def load_samples(source: AudioSource) -> tuple[Samples, int]:
    """A sound as the scores hear it.

    Returns:
        mono at 22,050 Hz, ``(samples,)``, and how many samples more its file has.

    Raises:
        InputError: its file is missing, damaged, silent by lack of a track, or too long.
    """
    if isinstance(source, RecordedAudio):
        whole = read_audio_file(source.path)
        samples = whole[: source.max_samples]
        return samples, len(whole) - len(samples)
    if isinstance(source, WhiteNoise):
        rng = np.random.default_rng(source.seed)
        return NOISE_STD * rng.standard_normal(source.n_samples, np.float32), 0
    made = np.zeros(source.n_samples, np.float32)
    since_s = np.arange(round(CLICK_S * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    click = np.sin(2 * np.pi * CLICK_HZ * since_s) * np.exp(-since_s / CLICK_DECAY_S)
    for moment_s in source.click_times_s:
        start = round(moment_s * SAMPLE_RATE_HZ)
        made[start : start + len(click)] += click[: max(len(made) - start, 0)]
    return (CLICK_AMPLITUDE * made).astype(np.float32), 0


def read_audio_file(path: Path) -> Samples:
    """A file's sound, mono at 22,050 Hz, ``(samples,)``.

    What libsndfile knows is read as the official script reads it, through the steps of
    `librosa.load`, which itself imports what later Pythons lack; other files, videos above
    all, are read by their own times.
    """
    name = printable_path(path)
    hint = "give a sound file, or a video with sound"
    try:
        shape = soundfile.info(path)
        if shape.frames > MAX_DURATION_S * shape.samplerate:
            raise InputError(f"{name} lasts more than an hour", hint="cut it into clips")
        channels, rate_hz = soundfile.read(path, dtype="float32")
        sound: Samples = librosa.resample(
            librosa.to_mono(channels.T),
            orig_sr=rate_hz,
            target_sr=SAMPLE_RATE_HZ,
            res_type="soxr_hq",
        )
    except soundfile.LibsndfileError as error:
        sound = _read_audio_track(path, hint, error)
    if not len(sound):
        raise InputError(f"{name} holds no sound", hint=hint)
    if not np.isfinite(sound).all():
        raise InputError(f"{name} holds values that are not finite", hint="make it again")
    return sound


def _read_audio_track(path: Path, hint: str, cause: Exception) -> Samples:
    name = printable_path(path)
    if not path.is_file():
        raise InputError(f"no file {name}", hint=hint) from cause
    try:
        track = read_audio(path, rate_hz=SAMPLE_RATE_HZ)
    except (av.FFmpegError, OSError) as error:
        raise InputError(f"{name} is no sound that can be read", hint=hint) from error
    if track is None:
        raise InputError(f"{name} has no sound", hint=hint)
    if track.shape[1] > MAX_DURATION_S * SAMPLE_RATE_HZ:
        raise InputError(f"{name} lasts more than an hour", hint="cut it into clips")
    mono: Samples = track.mean(axis=0)
    return mono
