"""Metrics of a recording against a motion, against itself over time, and against another."""

import numpy as np
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
from loris_cli.system.librosa_import import import_librosa_module

Array = NDArray[np.float64]


def loudness_motion_correlation(samples: Samples, motion_energy: Array) -> float:
    """Rank correlation of loudness with motion energy, -1 to 1; 0 where either is constant.

    Args:
        samples: mono, 22,050 Hz.
        motion_energy: 0..1 at 16 Hz, of the same duration.
    """
    loud = loudness_db(samples)
    times_s = (np.arange(len(loud)) + 1) * LOUDNESS_WINDOW_S / 2
    energy = np.interp(times_s, np.arange(len(motion_energy)) / POSE_FPS, motion_energy)
    if np.ptp(loud) == 0 or np.ptp(energy) == 0:
        return 0.0
    return float(spearmanr(loud, energy).statistic)


def tempo_stability(beats_s: Array) -> float:
    """1 less the spread of the beat intervals, relative to their median; 0 to 1."""
    if len(beats_s) < 4:
        return 0.0
    gaps = np.diff(beats_s)
    spread = float(np.median(np.abs(gaps - np.median(gaps))) / np.median(gaps))
    return max(1.0 - spread, 0.0)


def chroma_distance(first_samples: Samples, second_samples: Samples) -> float:
    """Harmonic distance of two recordings: 1 less the mean cosine of their chroma."""
    chroma_cqt = import_librosa_module("feature.spectral").chroma_cqt
    pair = [
        chroma_cqt(y=samples, sr=SAMPLE_RATE_HZ, hop_length=HOP_SAMPLES)
        for samples in (first_samples, second_samples)
    ]
    n = min(chroma.shape[1] for chroma in pair)
    a, b = (chroma[:, :n] for chroma in pair)
    return 1.0 - float(np.mean(cosine_similarity(a, b)))
