"""Metrics of generated audio: loudness and motion, tempo stability, harmonic distance."""

import numpy as np
import soxr
from numpy.typing import NDArray
from scipy.stats import spearmanr

from loris_cli.array_types import Samples
from loris_cli.config import POSE_FPS, SAMPLE_RATE_HZ
from loris_cli.evaluation.metrics.music import (
    HOP_SAMPLES,
    LOUDNESS_WINDOW_S,
    cosine_similarity,
    loudness_db,
)
from loris_cli.system.librosa_import import librosa

ZIMTOHRLI_RATE_HZ = VISQOL_RATE_HZ = 48_000
ZIMTOHRLI_RMS = 0.1
"""Level to which both signals are scaled."""

Array = NDArray[np.float64]


def loudness_motion_correlation(samples: Samples, motion_energy: Array) -> float:
    """Spearman correlation of loudness and motion energy, -1 to 1; 0 if either is constant.

    Args:
        samples: mono audio at 22,050 Hz, ``(samples,)``.
        motion_energy: motion energy at 16 Hz, 0..1, ``(frames,)``, of the same duration.
    """
    loud = loudness_db(samples)
    times_s = (np.arange(len(loud)) + 1) * LOUDNESS_WINDOW_S / 2
    energy = np.interp(times_s, np.arange(len(motion_energy)) / POSE_FPS, motion_energy)
    if np.ptp(loud) == 0 or np.ptp(energy) == 0:
        return 0.0
    return float(spearmanr(loud, energy).statistic)


def tempo_stability(beats_s: Array) -> float:
    """Stability of the beat intervals, 0 to 1 (constant tempo); 0 for fewer than 4 beats.

    1 minus the median absolute deviation of the beat intervals, relative to their median.

    Args:
        beats_s: increasing beat times in seconds, ``(beats,)``.
    """
    if len(beats_s) < 4:
        return 0.0
    gaps = np.diff(beats_s)
    spread = float(np.median(np.abs(gaps - np.median(gaps))) / np.median(gaps))
    return max(1.0 - spread, 0.0)


def zimtohrli_mos(samples: Samples, reference: Samples) -> float:
    """Opinion score of audio compared with a reference, 1 to 5, by Zimtohrli.

    Needs ``pip install zimtohrli`` (Google, 2024). Both signals are scaled to the same level.

    Args:
        samples: mono audio at 22,050 Hz, ``(samples,)``.
        reference: mono audio of the same music.
    """
    import zimtohrli

    n = min(len(samples), len(reference))
    pair = [
        soxr.resample(x[:n], SAMPLE_RATE_HZ, ZIMTOHRLI_RATE_HZ)
        * (ZIMTOHRLI_RMS / max(float(np.sqrt(np.mean(np.square(x[:n])))), 1e-9))
        for x in (reference, samples)
    ]
    return float(zimtohrli.mos_from_signals(*(x.astype(np.float32) for x in pair)))


def visqol_mos(samples: Samples, reference: Samples) -> float:
    """Opinion score of audio compared with a reference, 1 to 5, by ViSQOL in audio mode.

    Needs ``pip install visqol-python`` (a port of Google's ViSQOL 3.3).

    Args:
        samples: mono audio at 22,050 Hz, ``(samples,)``.
        reference: mono audio of the same music.
    """
    from visqol import VisqolApi

    n = min(len(samples), len(reference))
    resampled, resampled_reference = (
        soxr.resample(x[:n].astype(np.float64), SAMPLE_RATE_HZ, VISQOL_RATE_HZ)
        for x in (samples, reference)
    )
    api = VisqolApi()
    api.create(mode="audio")
    result = api.measure_from_arrays(resampled_reference, resampled, VISQOL_RATE_HZ)
    return float(result.moslqo)


def chroma_distance(first_samples: Samples, second_samples: Samples) -> float:
    """Harmonic distance of two recordings: 1 minus the mean cosine similarity of their chroma.

    Args:
        first_samples: mono audio at 22,050 Hz, ``(samples,)``.
        second_samples: the other recording; the longer one is truncated.
    """
    chroma_cqt = librosa.feature.chroma_cqt
    pair = [
        chroma_cqt(y=samples, sr=SAMPLE_RATE_HZ, hop_length=HOP_SAMPLES)
        for samples in (first_samples, second_samples)
    ]
    n = min(chroma.shape[1] for chroma in pair)
    a, b = (chroma[:, :n] for chroma in pair)
    return 1.0 - float(np.mean(cosine_similarity(a, b)))
