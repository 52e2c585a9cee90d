"""Directogram, the speed of motion in each direction, and its onset envelope.

    keypoints -> motion -> directogram -> onset envelope

References: LORIS (Yu et al., "Long-Term Rhythmic Video Soundtracker", ICML 2023), Eq. 4-6, and
the directogram of Davis and Agrawala, "Visual Rhythm and Beat" (SIGGRAPH 2018).
"""

from typing import Literal

import numpy as np

from loris_cli.array_types import Array

Compat = Literal["paper", "official", "strict"]
"""The paper with additions, the released code, or the paper's equations without additions."""

N_DIRECTION_BINS = 10
"""Number of direction bins (paper, Sec. 5.1)."""


def frame_displacements(positions: Array) -> Array:
    """Return the displacement of every joint from the previous frame.

    Args:
        positions: ``(frames, joints, 2)``, in pixels.

    Returns:
        Pixels per frame, same shape. Row ``k`` is the displacement from frame ``k - 1`` to
        ``k``; row 0 is zero.
    """
    return np.diff(positions, axis=0, prepend=positions[:1])


def directogram(
    displacements: Array,
    *,
    n_bins: int = N_DIRECTION_BINS,
    compat: Compat = "paper",
    angle_range_deg: float = 180.0,
) -> Array:
    """Compute the directogram: a histogram of motion directions per frame, weighted by speed.

    Eq. 4 of the paper.

    Args:
        displacements: ``(frames, joints, 2)``, in pixels per frame.
        n_bins: number of direction bins.
        compat: ``"official"`` reproduces the released code, whose bins are whole degrees modulo
            ``n_bins``, so neighbouring directions fall into different bins and 18 distant
            directions share one (docs/differences.md, R1). Others have contiguous bins.
        angle_range_deg: range of the contiguous bins. At 180 a direction and its opposite share
            a bin, so a limb that swings back and forth stays in one bin.

    Returns:
        ``(frames, n_bins)``; each row sums to the total speed of the joints in that frame.
    """
    # The released code uses float32, which assigns angles at bin edges differently.
    vectors = displacements.astype(np.float32) if compat == "official" else displacements
    speeds = np.hypot(vectors[..., 0], vectors[..., 1]).astype(np.float64)
    degrees = np.degrees(np.arctan2(vectors[..., 1], vectors[..., 0]))
    if compat == "official":
        bins = np.floor(degrees % 180).astype(int) % n_bins
    else:
        # An angle just below 0 rounds to the full range after the modulo, hence the minimum.
        fractional_bins = degrees % angle_range_deg * n_bins / angle_range_deg
        bins = np.minimum(fractional_bins.astype(int), n_bins - 1)
    cells = bins + n_bins * np.arange(len(displacements))[:, None]
    sums = np.bincount(cells.ravel(), speeds.ravel(), minlength=n_bins * len(displacements))
    return sums.astype(np.float64, copy=False).reshape(len(displacements), n_bins)


def onset_envelope(histogram: Array) -> Array:
    """Return the onset envelope of a directogram, Eq. 6 before division by the maximum.

    The envelope is the half-wave rectified difference of the directogram, summed over
    directions, analogous to the spectral flux of a spectrogram. Value ``k`` compares the
    intervals ``(k - 2, k - 1)`` and ``(k - 1, k)``.

    Args:
        histogram: a directogram, ``(frames, n_bins)``.

    Returns:
        ``(frames,)``, in the unit of the directogram. The first two values are 0, because frame
        0 has no motion and frame 1 no previous motion to compare with.
    """
    rise: Array = np.diff(histogram, axis=0, prepend=histogram[:1]).clip(min=0).sum(axis=-1)
    rise[:2] = 0
    return rise


def normalize_by_max(envelope: Array) -> Array:
    """Divide an envelope by its maximum, as in Eq. 6; an envelope of zeros stays zero.

    Args:
        envelope: ``(frames,)``, at least 0, in any unit.

    Returns:
        ``(frames,)``, 0 to 1.
    """
    maximum = float(envelope.max(initial=0.0))
    return envelope / maximum if maximum > 0 else np.zeros_like(envelope)
