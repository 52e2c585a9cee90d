"""Onset detection and matching of onsets with reference times.

librosa detects the onsets (spectral flux, peak picking of Boeck et al. 2012) with the
parameters below, which are the same for all reported scores. Matching is one-to-one, by
mir_eval: an onset matches at most one reference, so a drum roll scores no better than a single
hit.
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
"""Peak-picking parameters in frames of 11.6 ms; ``delta`` applies to an envelope in 0..1."""

ONSET_DELAY_S = 0.0135
"""Delay of detected onsets, which is subtracted from every onset. It is the median over 20
clicks with sample-accurate start times (noise bursts: 9 ms, low kicks: 16 ms)."""

ONSET_TOLERANCE_S = 0.05
"""Maximum time between two matched onsets."""


@dataclass(frozen=True, kw_only=True)
class OnsetMatch:
    """Recall and precision of onsets against reference times, each from 0 to 1."""

    recall: float
    """Fraction of the reference times that match an onset; 0 if there are none."""
    precision: float
    """Fraction of the onsets that match a reference time; 0 if there are none."""
    n_reference: int
    n_estimated: int


def compute_onset_envelope(samples: Samples) -> Samples:
    """Return the onset strength (spectral flux) of a waveform, one value every 11.6 ms.

    Args:
        samples: mono, 22,050 Hz, ``(samples,)``.

    Returns:
        onset envelope, ``(frames,)``, at least 0, not normalized.
    """
    envelope: Samples = librosa.onset.onset_strength(
        y=samples, sr=SAMPLE_RATE_HZ, hop_length=ONSET_HOP_LENGTH
    )
    return envelope


def detect_onsets(samples: Samples, *, onset_envelope: Samples | None = None) -> Array:
    """Return the onset times of a waveform.

    Args:
        samples: mono, 22,050 Hz, ``(samples,)``.
        onset_envelope: result of `compute_onset_envelope`, ``(frames,)``, if already computed.

    Returns:
        onset times in seconds, ``(onsets,)``, ascending; empty for silence.

    Raises:
        InputError: the audio is not mono or contains NaN or infinite values.
    """
    if samples.ndim != 1 or not np.isfinite(samples).all():
        raise InputError("onset detection needs mono audio, (samples,), with finite values")
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
    reference_s: Array, estimated_s: Array, *, tolerance_s: float = ONSET_TOLERANCE_S
) -> OnsetMatch:
    """Match onsets one-to-one with reference times.

    Args:
        reference_s: reference times, ``(references,)``, ascending.
        estimated_s: detected onsets, ``(onsets,)``, ascending.
        tolerance_s: maximum time between two matched onsets.
    """
    import mir_eval  # the import takes two seconds, and onset detection does not need it

    pairs = mir_eval.util.match_events(reference_s, estimated_s, tolerance_s)
    return OnsetMatch(
        recall=len(pairs) / len(reference_s) if len(reference_s) else 0.0,
        precision=len(pairs) / len(estimated_s) if len(estimated_s) else 0.0,
        n_reference=len(reference_s),
        n_estimated=len(estimated_s),
    )


def compute_onset_deviations(
    reference_s: Array, estimated_s: Array, *, tolerance_s: float = 0.15
) -> Array:
    """Return the signed time from each reference to its nearest onset; positive if late.

    Args:
        reference_s: reference times, ``(references,)``.
        estimated_s: detected onsets, ``(onsets,)``.
        tolerance_s: reference times without an onset within this time are omitted.

    Returns:
        deviations in seconds, ``(deviations,)``, at most one per reference time, within
        ``tolerance_s`` of 0.
    """
    if not len(estimated_s):
        return np.zeros(0)
    distance = estimated_s[None, :] - reference_s[:, None]
    nearest: Array = distance[np.arange(len(reference_s)), np.abs(distance).argmin(axis=1)]
    return nearest[np.abs(nearest) <= tolerance_s]
