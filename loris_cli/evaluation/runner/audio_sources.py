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
from loris_cli.system.atomic_files import printable
from loris_cli.system.librosa_import import librosa
from loris_cli.video.audio_track import read_sound

Samples = NDArray[np.float32]

CLICK_HZ, CLICK_S, CLICK_FALL_S = 1000.0, 0.05, 0.01
"""A click: a tone that fades."""
CLICK_LEVEL = 0.5
NOISE_LEVEL = 0.1
LONGEST_S = 3600.0
"""A clip of a benchmark lasts a minute; a file of more than an hour is a mistake."""


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """A sound, or the sound of a video, in a file."""

    path: Path
    most_samples: int | None = None
    """What is longer is cut."""


@dataclass(frozen=True, kw_only=True)
class Clicks:
    """Silence but for clicks at some moments."""

    times_s: tuple[float, ...]
    n_samples: int


@dataclass(frozen=True, kw_only=True)
class Noise:
    """White noise."""

    seed: int
    n_samples: int


Sound = Recorded | Clicks | Noise


def samples_of(sound: Sound) -> tuple[Samples, int]:
    """A sound as the scores hear it.

    Returns:
        mono at 22,050 Hz, ``(samples,)``, and how many samples more its file has.

    Raises:
        InputError: its file is missing, damaged, silent by lack of a track, or too long.
    """
    if isinstance(sound, Recorded):
        whole = read(sound.path)
        samples = whole[: sound.most_samples]
        return samples, len(whole) - len(samples)
    if isinstance(sound, Noise):
        rng = np.random.default_rng(sound.seed)
        return NOISE_LEVEL * rng.standard_normal(sound.n_samples, np.float32), 0
    made = np.zeros(sound.n_samples, np.float32)
    since_s = np.arange(round(CLICK_S * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    click = np.sin(2 * np.pi * CLICK_HZ * since_s) * np.exp(-since_s / CLICK_FALL_S)
    for moment_s in sound.times_s:
        start = round(moment_s * SAMPLE_RATE_HZ)
        made[start : start + len(click)] += click[: max(len(made) - start, 0)]
    return (CLICK_LEVEL * made).astype(np.float32), 0


def read(path: Path) -> Samples:
    """A file's sound, mono at 22,050 Hz, ``(samples,)``.

    What libsndfile knows is read as the official script reads it, through the steps of
    `librosa.load`, which itself imports what later Pythons lack; other files, videos above
    all, are read by their own times.
    """
    name = printable(path)
    hint = "give a sound file, or a video with sound"
    try:
        shape = soundfile.info(path)
        if shape.frames > LONGEST_S * shape.samplerate:
            raise InputError(f"{name} lasts more than an hour", hint="cut it into clips")
        channels, rate_hz = soundfile.read(path, dtype="float32")
        sound: Samples = librosa.resample(
            librosa.to_mono(channels.T),
            orig_sr=rate_hz,
            target_sr=SAMPLE_RATE_HZ,
            res_type="soxr_hq",
        )
    except soundfile.LibsndfileError as error:
        sound = _sound_track(path, hint, error)
    if not len(sound):
        raise InputError(f"{name} holds no sound", hint=hint)
    if not np.isfinite(sound).all():
        raise InputError(f"{name} holds values that are not finite", hint="make it again")
    return sound


def _sound_track(path: Path, hint: str, because: Exception) -> Samples:
    name = printable(path)
    if not path.is_file():
        raise InputError(f"no file {name}", hint=hint) from because
    try:
        track = read_sound(path, rate_hz=SAMPLE_RATE_HZ)
    except (av.FFmpegError, OSError) as error:
        raise InputError(f"{name} is no sound that can be read", hint=hint) from error
    if track is None:
        raise InputError(f"{name} has no sound", hint=hint)
    if track.shape[1] > LONGEST_S * SAMPLE_RATE_HZ:
        raise InputError(f"{name} lasts more than an hour", hint="cut it into clips")
    mono: Samples = track.mean(axis=0)
    return mono
