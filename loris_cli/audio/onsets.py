"""Onset detection, and matching of onsets with reference times.

Onsets are librosa's (spectral flux, peak picking of Boeck et al. 2012) with the parameters
below, fixed for every figure the project prints. Matching is one-to-one, by mir_eval: an onset
matches one reference at most, so a drum roll scores no better than a single hit.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from loris_cli.array_types import Array, Samples
from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.errors import InputError
from loris_cli.system.librosa_import import librosa

ONSET_HOP_LENGTH = 256
PEAK_PICKING: dict[str, Any] = {
    "delta": 0.15, "wait": 8, "pre_max": 3, "post_max": 3, "pre_avg": 12, "post_avg": 12,
}  # fmt: skip
"""Peak picking in frames of 11.6 ms; ``delta`` on an envelope scaled to 0..1."""

ONSET_DELAY_S = 0.0135
"""Delay of detected onsets, measured on 20 clicks whose start is known to the sample (median;
noise bursts 9 ms, low kicks 16 ms). It is subtracted from every onset."""

ONSET_WINDOW_S = 0.05
"""Tolerance of a match."""


@dataclass(frozen=True, kw_only=True)
class OnsetMatch:
    """Recall and precision of onsets against reference times, each from 0 to 1."""

    recall: float
    """Fraction of the reference times with an onset; 0 without references."""
    precision: float
    """Fraction of the onsets at a reference time; 0 without onsets."""
    n_reference: int
    n_estimated: int


def compute_onset_envelope(samples: Samples) -> Samples:
    """Onset strength (spectral flux) of a waveform, one value every 11.6 ms."""
    envelope: Samples = librosa.onset.onset_strength(
        y=samples, sr=SAMPLE_RATE_HZ, hop_length=ONSET_HOP_LENGTH
    )
    return envelope


def detect_onsets(samples: Samples, *, onset_envelope: Samples | None = None) -> Array:
    """Return the onset times of a waveform.

    Args:
        samples: mono, 22,050 Hz, ``(samples,)``.
        onset_envelope: its `compute_onset_envelope`, if already computed.

    Returns:
        rising seconds, ``(onsets,)``; empty in silence.

    Raises:
        InputError: the audio is not mono or holds values that are not finite.
    """
    if samples.ndim != 1 or not np.isfinite(samples).all():
        raise InputError("onsets are detected in finite mono audio, (samples,)")
    if onset_envelope is None:
        onset_envelope = compute_onset_envelope(samples)
    onsets: Array = librosa.onset.onset_detect(
        onset_envelope=onset_envelope,
        sr=SAMPLE_RATE_HZ,
        hop_length=ONSET_HOP_LENGTH,
        units="time",
        **PEAK_PICKING,
    )
    return np.maximum(onsets - ONSET_DELAY_S, 0.0)


def match_onsets(
    reference_s: Array, estimated_s: Array, *, window_s: float = ONSET_WINDOW_S
) -> OnsetMatch:
    """Match onsets one-to-one with reference times.

    Args:
        reference_s: reference times, rising.
        estimated_s: detected onsets, rising.
        window_s: greatest distance of a match.
    """
    import mir_eval  # takes two seconds, and onset detection does not need it

    pairs = mir_eval.util.match_events(reference_s, estimated_s, window_s)
    return OnsetMatch(
        recall=len(pairs) / len(reference_s) if len(reference_s) else 0.0,
        precision=len(pairs) / len(estimated_s) if len(estimated_s) else 0.0,
        n_reference=len(reference_s),
        n_estimated=len(estimated_s),
    )


def compute_onset_deviations(
    reference_s: Array, estimated_s: Array, *, window_s: float = 0.15
) -> Array:
    """Signed distance from reference times to the nearest onset, in seconds; late is positive.

    Args:
        reference_s: reference times.
        estimated_s: detected onsets.
        window_s: a reference time without an onset within this is left out.
    """
    if not len(estimated_s):
        return np.zeros(0)
    distance = estimated_s[None, :] - reference_s[:, None]
    nearest: Array = distance[np.arange(len(reference_s)), np.abs(distance).argmin(axis=1)]
    return nearest[np.abs(nearest) <= window_s]
