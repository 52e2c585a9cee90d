"""Directogram, the speed of motion in each direction, and its onset envelope.

    keypoints -> motion -> directogram -> onset envelope

After LORIS (Yu et al., "Long-Term Rhythmic Video Soundtracker", ICML 2023), Eq. 4-6, and the
directogram of Davis and Agrawala, "Visual Rhythm and Beat" (SIGGRAPH 2018).
"""

from typing import Literal

import numpy as np

from loris_cli.array_types import Array

Compat = Literal["paper", "official"]

N_DIRECTION_BINS = 10
"""Number of directions (paper, Sec. 5.1)."""


def frame_displacements(positions: Array) -> Array:
    """Return the displacement of every joint since the frame before.

    Args:
        positions: ``(frames, joints, 2)``, in pixels.

    Returns:
        pixels per frame, same shape; row ``k`` is the displacement from frame ``k - 1`` to
        ``k`` and row 0 is zero.
    """
    return np.diff(positions, axis=0, prepend=positions[:1])


def directogram(
    displacements: Array,
    *,
    n_bins: int = N_DIRECTION_BINS,
    compat: Compat = "paper",
    angle_range_deg: float = 180.0,
) -> Array:
    """Return the speed in each direction: a histogram of motion for every frame, Eq. 4.

    Args:
        displacements: ``(frames, joints, 2)``, in pixels per frame.
        n_bins: number of directions.
        compat: ``"paper"`` cuts the half circle into contiguous slices; ``"official"`` is the
            released code, whose bins are whole degrees modulo ``n_bins``: neighbours in
            direction fall apart and 18 distant directions share one bin.
        angle_range_deg: degrees that the paper's bins cover. At 180 a direction and its
            opposite share a bin, so a limb that swings back and forth stays in one.

    Returns:
        ``(frames, n_bins)``; a row sums to the speed of its frame over all joints.
    """
    # The released code works in float32, where angles on a bin's edge fall its own way.
    vectors = displacements.astype(np.float32) if compat == "official" else displacements
    speeds = np.hypot(vectors[..., 0], vectors[..., 1]).astype(np.float64)
    degrees = np.degrees(np.arctan2(vectors[..., 1], vectors[..., 0]))
    if compat == "official":
        bins = np.floor(degrees % 180).astype(int) % n_bins
    else:
        # An angle just under 0 wraps to the full turn in floating point, hence the minimum.
        fractional_bins = degrees % angle_range_deg * n_bins / angle_range_deg
        bins = np.minimum(fractional_bins.astype(int), n_bins - 1)
    cells = bins + n_bins * np.arange(len(displacements))[:, None]
    sums = np.bincount(cells.ravel(), speeds.ravel(), minlength=n_bins * len(displacements))
    return sums.astype(np.float64, copy=False).reshape(len(displacements), n_bins)


def onset_envelope(histogram: Array) -> Array:
    """Return the onset envelope of a directogram, Eq. 6 before its division by the maximum.

    The half-wave rectified difference of the directogram, summed over directions: what
    spectral flux is to a spectrogram. Value ``k`` compares the intervals ``(k - 2, k - 1)`` and
    ``(k - 1, k)``.

    Args:
        histogram: a directogram, ``(frames, n_bins)``.

    Returns:
        ``(frames,)``, in the unit of the directogram; the first two are 0, since frame 0 has
        no motion and frame 1 nothing to rise from.
    """
    rise: Array = np.diff(histogram, axis=0, prepend=histogram[:1]).clip(min=0).sum(axis=-1)
    rise[:2] = 0
    return rise


def normalize_by_max(envelope: Array) -> Array:
    """Divide by the maximum over time, as Eq. 6 does; an envelope of zeros stays zero."""
    maximum = float(envelope.max(initial=0.0))
    return envelope / maximum if maximum > 0 else np.zeros_like(envelope)
