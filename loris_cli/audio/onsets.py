"""Hits: do the onsets of a sound fall on given moments?

Onsets are librosa's (spectral flux, peak picking of Boeck et al. 2012) with the parameters
below, fixed for every figure the project prints. Matching is one-to-one, by mir_eval: an onset
answers for one moment at most, so a drum roll is no better than a stroke.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.errors import InputError
from loris_cli.system.librosa_import import librosa

Array = NDArray[np.float64]

ONSET_HOP_LENGTH = 256
PEAK_PICKING: dict[str, Any] = {
    "delta": 0.15,
    "wait": 8,
    "pre_max": 3,
    "post_max": 3,
    "pre_avg": 12,
    "post_avg": 12,
}
"""Peak picking in frames of 11.6 ms; ``delta`` on an envelope scaled to 0..1."""

ONSET_DELAY_S = 0.0135
"""The detector tells a click this much late, whose beginning is known to the sample: the median
over 20 clicks; of noise bursts it is 9 ms, of low kicks 16 ms. It is taken off every onset."""

ONSET_WINDOW_S = 0.05
"""An onset within this of a moment can hit it."""


@dataclass(frozen=True, kw_only=True)
class OnsetMatch:
    """Agreement of onsets with given moments, each figure from 0 to 1."""

    recall: float
    """Share of the given moments that an onset hits; 0 where none is given."""
    precision: float
    """Share of the onsets that hit a moment; 0 where there is none."""
    n_reference: int
    n_estimated: int


def compute_onset_envelope(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """How much of the spectrum begins, every 11.6 ms: what onsets are the peaks of."""
    rise: NDArray[np.float32] = librosa.onset.onset_strength(
        y=samples, sr=SAMPLE_RATE_HZ, hop_length=ONSET_HOP_LENGTH
    )
    return rise


def detect_onsets(
    samples: NDArray[np.float32], *, onset_envelope: NDArray[np.float32] | None = None
) -> Array:
    """Moments at which a sound begins.

    Args:
        samples: mono, 22,050 Hz, ``(samples,)``.
        onset_envelope: its `compute_onset_envelope`, where that is known already.

    Returns:
        rising seconds, ``(onsets,)``; none in silence.

    Raises:
        InputError: the sound is not mono or holds values that are not finite.
    """
    if samples.ndim != 1 or not np.isfinite(samples).all():
        raise InputError("onsets are found in finite mono sound, (samples,)")
    onsets: Array = librosa.onset.onset_detect(
        onset_envelope=compute_onset_envelope(samples)
        if onset_envelope is None
        else onset_envelope,
        sr=SAMPLE_RATE_HZ,
        hop_length=ONSET_HOP_LENGTH,
        units="time",
        **PEAK_PICKING,
    )
    return np.maximum(onsets - ONSET_DELAY_S, 0.0)


def match_onsets(
    reference_s: Array, estimated_s: Array, *, window_s: float = ONSET_WINDOW_S
) -> OnsetMatch:
    """One-to-one hits of onsets on given moments.

    Args:
        reference_s: moments that ought to be hit, rising.
        estimated_s: what was found, rising.
        window_s: greatest distance of a hit.
    """
    import mir_eval  # takes two seconds, and who only finds onsets needs none of it

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
    """Distance from given moments to the nearest onset, in seconds, later ones positive.

    Args:
        reference_s: moments.
        estimated_s: what was found.
        window_s: a moment without an onset within this is left out.
    """
    if not len(estimated_s):
        return np.zeros(0)
    distance = estimated_s[None, :] - reference_s[:, None]
    nearest: Array = distance[np.arange(len(reference_s)), np.abs(distance).argmin(axis=1)]
    return nearest[np.abs(nearest) <= window_s]
