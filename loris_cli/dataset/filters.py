"""Quality measures of a clip and rejection reasons.

audio, poses, gaps -> quality measures -> rejection reasons

The filters replace the manual review by the authors (LORIS, Sec. 4.1 and B.2), which removed
clips with no music, residual voice, noise, missing frames or more than one person. Rejected
clips can be accepted manually.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loris_cli.array_types import Array, Samples
from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.dataset.clip_cutting import Segment
from loris_cli.dataset.clip_media import ClipMedia
from loris_cli.system.librosa_import import librosa

LEVEL_WINDOW_S = 0.5
SILENCE_DBFS = -50.0
"""RMS level of a window, relative to full scale, below which the window is silent."""
FULL_SCALE = 0.999
MIN_CLIPPED_RUN = 3
"""Minimum number of consecutive full-scale samples; a single one may be an unclipped peak."""
VOICE_DOMINANCE_DB = 10.0
"""Level of the voices above the music from which vocal separation leaves audible residue."""
LOUD_FRAME_QUANTILE = 0.5
"""Spectral flatness is measured in frames above this power quantile, because quiet frames are
noise-like in any recording."""

ACCEPTED_RANGES: dict[str, tuple[str, float, float]] = {
    "silent_fraction": ("silence", 0.0, 0.3),
    "clipped_fraction": ("clipping", 0.0, 0.001),
    # White noise has 0.56; the pieces of the synthetic data set are below 0.05.
    "spectral_flatness": ("no music", 0.0, 0.2),
    "voice_fraction": ("residual voice", 0.0, 0.3),
    "person_fraction": ("no person", 0.5, 1.0),
    "multi_person_fraction": ("more than one person", 0.0, 0.25),
    "missing_frame_fraction": ("missing frames", 0.0, 0.1),
}
"""Rejection reason, lowest and highest accepted value, by measure."""


@dataclass(frozen=True, kw_only=True)
class QualityMeasures:
    """Quality measures of a clip, 0..1; all except the spectral flatness are fractions."""

    silent_fraction: float
    """Fraction of windows of 0.5 s that are silent."""
    clipped_fraction: float
    """Fraction of samples in runs at full scale."""
    spectral_flatness: float
    """0 for a tone, 0.56 for white noise."""
    voice_fraction: float | None
    """Fraction of windows in which voices dominate the music; None without vocal separation."""
    person_fraction: float | None
    """Fraction of frames with a detected person; None without a pose estimator."""
    multi_person_fraction: float | None
    """Fraction of frames with more than one person, not counting bystanders; None if persons
    were not counted."""
    missing_frame_fraction: float
    """Fraction of the duration without frames."""


def measure_quality(media: ClipMedia, segment: Segment, *, separated: bool) -> QualityMeasures:
    """Measure the quality of a clip.

    Args:
        media: audio and poses of the clip.
        segment: position of the clip in its source.
        separated: whether voices were removed from the accompaniment.
    """
    level_db = _rms_levels_db(media.accompaniment)
    voice_db = _rms_levels_db(media.mix - media.accompaniment)
    voiced = (voice_db > level_db + VOICE_DOMINANCE_DB) & (voice_db > SILENCE_DBFS)
    persons = media.persons_per_frame
    start_s, stop_s = segment.start_s, segment.stop_s
    gap_s = sum(max(0.0, min(end, stop_s) - max(start, start_s)) for start, end in media.gaps_s)
    return QualityMeasures(
        silent_fraction=_true_fraction(level_db < SILENCE_DBFS),
        clipped_fraction=_clipped_fraction(media.mix),
        spectral_flatness=_spectral_flatness(media.accompaniment),
        voice_fraction=_true_fraction(voiced) if separated else None,
        person_fraction=media.person_fraction,
        multi_person_fraction=None
        if persons is None
        else _true_fraction(np.asarray(persons) > 1),
        missing_frame_fraction=round(gap_s / (stop_s - start_s), 4),
    )


def list_rejection_reasons(measures: QualityMeasures) -> list[str]:
    """Return the reasons to reject a clip; empty if all measures are in range."""
    return [
        reason
        for name, (reason, low, high) in ACCEPTED_RANGES.items()
        if (value := getattr(measures, name)) is not None and (value < low or value > high)
    ]


def _true_fraction(flags: NDArray[np.bool_]) -> float:
    return round(float(np.mean(flags)), 4) if len(flags) else 0.0


def _rms_levels_db(samples: Samples) -> Array:
    """RMS level of each window in dBFS."""
    size = round(LEVEL_WINDOW_S * SAMPLE_RATE_HZ)
    windows = samples[: len(samples) // size * size].astype(np.float64).reshape(-1, size)
    levels_db: Array = 10 * np.log10(np.maximum((windows**2).mean(axis=1), 1e-12))
    return levels_db


def _clipped_fraction(samples: Samples) -> float:
    """Fraction of samples in runs at full scale."""
    full = np.abs(samples) >= FULL_SCALE
    edges = np.flatnonzero(np.diff(np.concatenate([[False], full, [False]]).astype(np.int8)))
    runs = edges[1::2] - edges[::2]
    return round(float(runs[runs >= MIN_CLIPPED_RUN].sum()) / max(len(samples), 1), 6)


def _spectral_flatness(samples: Samples) -> float:
    """Median spectral flatness of the louder half of the frames; 0 for silence."""
    spectrum = np.abs(librosa.stft(samples, n_fft=2048, hop_length=2048)) ** 2
    power = spectrum.sum(axis=0)
    loud = spectrum[:, power > max(float(np.quantile(power, LOUD_FRAME_QUANTILE)), 1e-6)]
    if not loud.shape[1]:
        return 0.0
    flatness = librosa.feature.spectral_flatness(S=loud, power=1.0, amin=1e-10)
    return round(float(np.median(flatness)), 4)
