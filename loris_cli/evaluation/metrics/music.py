"""Texture metrics of one recording: pitch, key, repetition, spectrum, dynamics.

    audio -> constant-Q chroma, loudness, spectrum -> harmony, structure, dynamics, texture

Each metric detects one property of music; none measures musical quality. Compare them with the
same metrics of real music.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from loris_cli.array_types import Array, Samples
from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.errors import InputError
from loris_cli.system.librosa_import import librosa

HOP_SAMPLES = 1024
CHROMA_HZ = SAMPLE_RATE_HZ / HOP_SAMPLES
CQT_FMIN_HZ = 65.4  # C2
N_CQT_BINS = 60  # five octaves of semitones
SUSTAIN_LAG_S = 0.23
"""Distance between the two compared frames of a sustained note (5 frames)."""
AFTER_ONSET_S, BEFORE_ONSET_S = 0.1, 0.05
"""Spans around an onset that are excluded because the pitch is not stable there."""
REPETITION_LAGS_S = (1.5, 10.0)
"""Range of lags at which bars and phrases repeat."""
LOUDNESS_WINDOW_S = 0.5
"""Length of the windows for the RMS level."""
SILENCE_THRESHOLD_DB = -50.0
"""Level of silence relative to the loudest window or frame."""

MAJOR_PROFILE = (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88)
MINOR_PROFILE = (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17)
"""Pitch-class profiles of C major and C minor (Krumhansl and Kessler, 1982)."""


@dataclass(frozen=True, kw_only=True)
class AudioTexture:
    """Reference-free metrics of a recording."""

    pitch_stability: float
    """Mean cosine similarity of constant-Q spectra 0.23 s apart without an onset in between,
    0..1. Unsteady pitch lowers it."""
    key_clarity: float
    """Correlation of the mean chroma with the best-matching profile of 24 keys, -1..1."""
    pitch_class_entropy: float
    """Entropy of the mean chroma in bits: 0 for one pitch class, 3.58 for a uniform chroma."""
    repetition: float
    """Chroma similarity at the best lag of 1.5 to 10 s, minus the mean over lags."""
    spectral_flatness: float
    """Mean spectral flatness of non-silent frames: 0 for a tone, 1 for white noise."""
    dynamic_range_db: float
    """Difference of the 95th and 10th percentiles of the level in 0.5 s windows."""
    silent_fraction: float
    """Fraction of 0.5 s windows more than 50 dB below the loudest window."""


def measure_texture(samples: Samples, onsets_s: Array) -> AudioTexture:
    """Measure the texture of one recording.

    Args:
        samples: mono, 22,050 Hz, ``(samples,)``, at least 4 s.
        onsets_s: onsets from `audio.onsets.detect_onsets`, ``(onsets,)``.

    Raises:
        InputError: the audio is shorter than 4 s, or silent.
    """
    if len(samples) < 4 * SAMPLE_RATE_HZ or not np.any(samples):
        raise InputError("texture metrics need at least 4 s of non-silent audio")
    constant_q: Any = librosa.cqt
    sizes = {"sr": SAMPLE_RATE_HZ, "hop_length": HOP_SAMPLES}
    pitch = np.abs(constant_q(samples, fmin=CQT_FMIN_HZ, n_bins=N_CQT_BINS, **sizes))
    power = np.square(pitch)  # magnitudes leak more into adjacent semitones
    chroma = power.reshape(-1, 12, pitch.shape[1]).sum(axis=0)
    mean = chroma.mean(axis=1)
    distribution = mean / mean.sum()
    loud = loudness_db(samples)
    flat = librosa.feature.spectral_flatness(y=samples, n_fft=2048, hop_length=HOP_SAMPLES)[0]
    rms = librosa.feature.rms(y=samples, frame_length=2048, hop_length=HOP_SAMPLES)[0]
    sounding = rms > rms.max() * 10 ** (SILENCE_THRESHOLD_DB / 20)
    return AudioTexture(
        pitch_stability=_pitch_stability(pitch, onsets_s),
        key_clarity=_key_clarity(mean),
        pitch_class_entropy=float(-(distribution * np.log2(distribution + 1e-12)).sum()),
        repetition=_repetition(chroma),
        spectral_flatness=float(flat[: len(sounding)][sounding].mean()),
        dynamic_range_db=float(np.subtract(*np.percentile(loud, [95, 10]))),
        silent_fraction=float(np.mean(loud < loud.max() + SILENCE_THRESHOLD_DB)),
    )


def loudness_db(samples: Samples) -> Array:
    """RMS level of 0.5 s windows with 50 % overlap.

    Args:
        samples: mono, 22,050 Hz, ``(samples,)``, at least 0.5 s.

    Returns:
        level in dBFS, ``(windows,)``, at least -100.
    """
    size = round(LOUDNESS_WINDOW_S * SAMPLE_RATE_HZ)
    frames = librosa.util.frame(samples, frame_length=size, hop_length=size // 2)
    power = np.square(frames, dtype=np.float64).mean(axis=0)
    level: Array = 10 * np.log10(power + 1e-10)
    return level


def cosine_similarity(a: Array, b: Array) -> Array:
    """Cosine similarity of matching columns of two matrices; 0 for a zero column.

    Args:
        a: first matrix, ``(features, frames)``.
        b: second matrix, same shape.

    Returns:
        similarity of each frame, ``(frames,)``, -1..1.
    """
    products = (a * b).sum(axis=0)
    size = np.linalg.norm(a, axis=0) * np.linalg.norm(b, axis=0)
    cosine: Array = products / np.maximum(size, 1e-12)
    return cosine


def _pitch_stability(cqt: Array, onsets_s: Array) -> float:
    lag = round(SUSTAIN_LAG_S * CHROMA_HZ)
    times_s = np.arange(cqt.shape[1] - lag) / CHROMA_HZ
    # Compare two frames only if no onset is between them, including the margins.
    begins = np.searchsorted(onsets_s, times_s - AFTER_ONSET_S)
    ends = np.searchsorted(onsets_s, times_s + lag / CHROMA_HZ + BEFORE_ONSET_S)
    energy = np.linalg.norm(cqt, axis=0)
    sustained = (begins == ends) & (energy[:-lag] > 0.02 * energy.max())
    if not sustained.any():
        return 0.0
    return float(cosine_similarity(cqt[:, :-lag], cqt[:, lag:])[sustained].mean())


def _key_clarity(mean_chroma: Array) -> float:
    if np.ptp(mean_chroma) == 0:
        return 0.0
    profiles = (MAJOR_PROFILE, MINOR_PROFILE)
    keys = [np.roll(profile, tonic) for profile in profiles for tonic in range(12)]
    return float(max(np.corrcoef(mean_chroma, key)[0, 1] for key in keys))


def _repetition(chroma: Array) -> float:
    centred = chroma - chroma.mean(axis=1, keepdims=True)
    low, high = (round(lag_s * CHROMA_HZ) for lag_s in REPETITION_LAGS_S)
    high = min(high, chroma.shape[1] // 2)
    similarities = [
        float(cosine_similarity(centred[:, :-lag], centred[:, lag:]).mean())
        for lag in range(low, high)
    ]
    return float(max(similarities) - np.mean(similarities)) if similarities else 0.0
