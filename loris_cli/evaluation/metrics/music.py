"""Is it music? Figures of one sound, by what listeners miss first.

    sound -> constant-Q chroma, loudness, spectrum -> harmony, structure, dynamics, texture

None of them says that music is good; each says that something of it is missing. They are read
beside the same figures of true music, never alone.
"""

from dataclasses import dataclass

import mir_eval
import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from loris_cli.config import POSE_FPS, SAMPLE_RATE_HZ
from loris_cli.errors import InputError
from loris_cli.system.librosa_import import import_librosa_module, librosa

Array = NDArray[np.float64]
Samples = NDArray[np.float32]

HOP_SAMPLES = 1024
CHROMA_HZ = SAMPLE_RATE_HZ / HOP_SAMPLES
CQT_FMIN_HZ = 65.4  # C2
N_CQT_BINS = 60  # five octaves of semitones
SUSTAIN_LAG_S = 0.23
"""Two moments of a held note so far apart: five frames."""
AFTER_ONSET_S, BEFORE_ONSET_S = 0.1, 0.05
"""Around an onset the pitch is not held."""
BEAT_WINDOW_S = 0.07
REPETITION_LAGS_S = (1.5, 10.0)
"""Bars and phrases come again after so long."""
LOUDNESS_WINDOW_S = 0.5
"""Loudness is that of half a second."""
SILENCE_THRESHOLD_DB = -50.0
"""Below the loudest moment by this much is silence."""

KEY_PROFILES = np.array(
    [
        [6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88],
        [6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17],
    ]
)
"""How well each pitch class fits C major and C minor (Krumhansl and Kessler, 1982)."""


@dataclass(frozen=True, kw_only=True)
class AudioTexture:
    """Figures of a sound that need nothing beside it."""

    pitch_stability: float
    """How alike spectra 0.23 s apart are where no note begins, 0 to 1: wavering lowers it."""
    key_clarity: float
    """Correlation of the pitch classes with the best of 24 keys, -1 to 1."""
    pitch_class_entropy: float
    """Of the mean chroma, bits: 0 is one note, 3.58 is all twelve alike."""
    repetition: float
    """How much more alike the best lag of 1.5 to 10 s is than lags are in the mean."""
    spectral_flatness: float
    """Spectral flatness, mean over frames that sound: 0 a tone, 1 white noise."""
    dynamic_range_db: float
    """Between the 10th and the 95th percentile of loudness over half seconds."""
    silent_fraction: float
    """Share of half seconds more than 50 dB below the loudest."""


def measure_texture(samples: Samples, onsets_s: Array) -> AudioTexture:
    """Figures of one sound.

    Args:
        samples: mono, 22,050 Hz, a few seconds at least.
        onsets_s: its onsets, from `onsets.detect_onsets`.

    Raises:
        InputError: it is too short, or silent.
    """
    if len(samples) < 4 * SAMPLE_RATE_HZ or not np.any(samples):
        raise InputError("texture is told of four seconds of sound or more")
    pitch = np.abs(
        import_librosa_module("core.constantq").cqt(
            samples,
            sr=SAMPLE_RATE_HZ,
            hop_length=HOP_SAMPLES,
            fmin=CQT_FMIN_HZ,
            n_bins=N_CQT_BINS,
        )
    )
    power = np.square(pitch)  # of magnitudes too much leaks into the next semitone
    chroma = power.reshape(-1, 12, pitch.shape[1]).sum(axis=0)
    mean = chroma.mean(axis=1)
    share = mean / mean.sum()
    loud = loudness_db(samples)
    flat = librosa.feature.spectral_flatness(y=samples, n_fft=2048, hop_length=HOP_SAMPLES)[0]
    rms = librosa.feature.rms(y=samples, frame_length=2048, hop_length=HOP_SAMPLES)[0]
    sounding = rms > rms.max() * 10 ** (SILENCE_THRESHOLD_DB / 20)
    return AudioTexture(
        pitch_stability=_pitch_stability(pitch, onsets_s),
        key_clarity=_key_clarity(mean),
        pitch_class_entropy=float(-(share * np.log2(share + 1e-12)).sum()),
        repetition=_repetition(chroma),
        spectral_flatness=float(flat[: len(sounding)][sounding].mean()),
        dynamic_range_db=float(np.subtract(*np.percentile(loud, [95, 10]))),
        silent_fraction=float(np.mean(loud < loud.max() + SILENCE_THRESHOLD_DB)),
    )


def loudness_db(samples: Samples) -> Array:
    """Root mean square of half seconds that overlap by half, in dB, ``(moments,)``."""
    size = round(LOUDNESS_WINDOW_S * SAMPLE_RATE_HZ)
    frames = librosa.util.frame(samples, frame_length=size, hop_length=size // 2)
    power = np.square(frames, dtype=np.float64).mean(axis=0)
    level: Array = 10 * np.log10(power + 1e-10)
    return level


def loudness_motion_correlation(samples: Samples, motion_energy: Array) -> float:
    """Rank correlation of loudness with the energy of a motion, -1 to 1; 0 where either rests.

    Args:
        samples: mono, 22,050 Hz.
        motion_energy: 0..1 at 16 Hz, as long.
    """
    loud = loudness_db(samples)
    moments_s = (np.arange(len(loud)) + 1) * LOUDNESS_WINDOW_S / 2
    moved = np.interp(moments_s, np.arange(len(motion_energy)) / POSE_FPS, motion_energy)
    if np.ptp(loud) == 0 or np.ptp(moved) == 0:
        return 0.0
    return float(spearmanr(loud, moved).statistic)


def beat_f_measure(reference_beats_s: Array, estimated_beats_s: Array) -> float:
    """F-measure of beats within 70 ms, one to one (mir_eval); the first seconds count too."""
    if not len(reference_beats_s) or not len(estimated_beats_s):
        return 0.0
    return float(
        mir_eval.beat.f_measure(
            reference_beats_s, estimated_beats_s, f_measure_threshold=BEAT_WINDOW_S
        )
    )


def tempo_stability(beats_s: Array) -> float:
    """1 less the spread of the intervals between beats, as a share of their median; 0 to 1."""
    if len(beats_s) < 4:
        return 0.0
    gaps = np.diff(beats_s)
    spread = float(np.median(np.abs(gaps - np.median(gaps))) / np.median(gaps))
    return max(1.0 - spread, 0.0)


def chroma_distance(first_samples: Samples, second_samples: Samples) -> float:
    """How far the harmonies of two sounds are apart: 1 less the mean cosine of their chroma."""
    pair = [
        import_librosa_module("feature.spectral").chroma_cqt(
            y=samples, sr=SAMPLE_RATE_HZ, hop_length=HOP_SAMPLES
        )
        for samples in (first_samples, second_samples)
    ]
    n = min(chroma.shape[1] for chroma in pair)
    a, b = (chroma[:, :n] for chroma in pair)
    return 1.0 - float(np.mean(_cosine_similarity(a, b)))


def _cosine_similarity(a: Array, b: Array) -> Array:
    products = (a * b).sum(axis=0)
    size = np.linalg.norm(a, axis=0) * np.linalg.norm(b, axis=0)
    cosine: Array = products / np.maximum(size, 1e-12)
    return cosine


def _pitch_stability(cqt: Array, onsets_s: Array) -> float:
    lag = round(SUSTAIN_LAG_S * CHROMA_HZ)
    moments_s = np.arange(cqt.shape[1] - lag) / CHROMA_HZ
    # From shortly after one moment to shortly before the other no note may begin.
    begins = np.searchsorted(onsets_s, moments_s - AFTER_ONSET_S)
    ends = np.searchsorted(onsets_s, moments_s + lag / CHROMA_HZ + BEFORE_ONSET_S)
    energy = np.linalg.norm(cqt, axis=0)
    held = (begins == ends) & (energy[:-lag] > 0.02 * energy.max())
    if not held.any():
        return 0.0
    return float(_cosine_similarity(cqt[:, :-lag], cqt[:, lag:])[held].mean())


def _key_clarity(mean_chroma: Array) -> float:
    keys = [np.roll(profile, tonic) for profile in KEY_PROFILES for tonic in range(12)]
    if np.ptp(mean_chroma) == 0:
        return 0.0
    return float(max(np.corrcoef(mean_chroma, key)[0, 1] for key in keys))


def _repetition(chroma: Array) -> float:
    centred = chroma - chroma.mean(axis=1, keepdims=True)
    low, high = (round(lag_s * CHROMA_HZ) for lag_s in REPETITION_LAGS_S)
    high = min(high, chroma.shape[1] // 2)
    alike = [
        float(_cosine_similarity(centred[:, :-lag], centred[:, lag:]).mean())
        for lag in range(low, high)
    ]
    if not alike:
        return 0.0
    return float(max(alike) - np.mean(alike))
