"""Sub-frame time of the impact that follows an onset peak.

    peak frames, motion -> times, strengths

An onset envelope is high where motion begins. Viewers perceive the beat where motion stops, for
example when a foot reaches the floor or a punch ends; Davis and Agrawala (2018) call this a
visual impact. Each peak is therefore picked on the paper's envelope and moved to the impact
that follows it.

The time of a stop between two frames can be computed. Let a point move at speed v and stop at
fraction f of the interval (k, k + 1). The displacements in the previous, this and the next
interval are v, f v and 0. The speed drops by (1 - f) v at frame k and by f v at frame k + 1,
so the centroid of the two drops is k + f, the exact time of the stop. A rebound at speed u
only replaces v by v + u. The vertex of a parabola through the drops would be up to 10 ms off
at 16 fps. For a smooth turn, the drops form a wide maximum; after subtraction of its base, the
centroid of four drops locates the maximum within 7 ms.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from loris_cli.array_types import Array
from loris_cli.rhythm.peak_picking import FrameIndices

PeakPlacement = Literal["impact", "onset"]

SEARCH_FRAMES_BEFORE = 2
"""Search range before the peak: the peak can be at the rebound that follows an impact."""

SEARCH_FRAMES_AFTER = 4
"""Search range after the peak: a burst lasts 120 to 250 ms, at most four frames of 62.5 ms."""

FINAL_ACCELERATION = 0.25
"""Speed gained in the last partial interval before a stop, as a fraction of the gain in the
previous interval (measured)."""

LOCAL_MAX_RADIUS_FRAMES = 2
"""An impact is the largest speed drop within this number of frames on both sides."""


def locate_impacts(
    peak_frames: FrameIndices, denoised_displacements: Array, displacements: Array
) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Locate the most abrupt stop of motion near each peak.

    The displacements of all joints form one vector. The speed drop is measured along the
    direction of this vector over two intervals. The drop of a limb that rebounds is thus twice
    that of a limb that stops, although its speed, and with it the 180-degree directogram,
    hardly changes.

    Args:
        peak_frames: peaks, ``(peaks,)``.
        denoised_displacements: denoised motion, ``(frames, joints, 2)``; defines the direction
            of motion.
        displacements: measured motion, same shape; its projection onto that direction is free
            of the bias that shrinkage introduces.

    Returns:
        Times in frames, ``(peaks,)``; the largest speed drops, in pixels per frame; and whether
        each drop is a local maximum, so that the motion stops there instead of decelerating
        further.
    """
    if not len(peak_frames):
        return np.zeros(0), np.zeros(0), np.zeros(0, dtype=bool)
    radius, n_frames = LOCAL_MAX_RADIUS_FRAMES, len(displacements)
    before, after = SEARCH_FRAMES_BEFORE + radius, SEARCH_FRAMES_AFTER + radius + 2
    # Motion is extrapolated beyond both ends, so that the end of the video is not an impact.
    moved, measured = (
        np.pad(d.reshape(n_frames, -1), ((before, after), (0, 0)), mode="edge")
        for d in (denoised_displacements, displacements)
    )
    speed = np.linalg.norm(moved, axis=-1)
    heading = moved / np.maximum(speed, 1e-12)[:, None]
    drop = np.zeros(len(moved))
    drop[:-2] = np.einsum("fd,fd->f", heading[:-2], moved[:-2] - measured[2:])

    offsets = np.arange(-SEARCH_FRAMES_BEFORE, SEARCH_FRAMES_AFTER)
    # The last interval of motion before the stop.
    last = peak_frames + before
    last = last + offsets[drop[last[:, None] + offsets].argmax(axis=-1)]

    intervals = last[:, None] + np.arange(-1, 4)
    along = np.einsum("pkd,pd->pk", measured[intervals], heading[last])
    drops = -np.diff(along, axis=-1)  # at the frames last - 1, last, last + 1, last + 2
    foot = np.minimum(drops[:, :1], drops[:, -1:]).clip(min=0)
    weight = (drops - foot).clip(min=0)
    # Speed increases up to the impact, so the drop exceeds the mean speed of the last interval.
    weight[:, 1] += FINAL_ACCELERATION * (-drops[:, 0]).clip(min=0)
    centre = (weight @ np.arange(-1, 3)) / np.maximum(weight.sum(axis=-1), 1e-12)
    around = drop[last[:, None] + np.arange(-radius, radius + 1)]
    is_local_max = drop[last] >= around.max(axis=-1) - 1e-9 * speed.max()  # allow for rounding
    return last - before + centre, drop[last], is_local_max


def interpolate_peaks(peak_frames: FrameIndices, envelope: Array) -> Array:
    """Refine peaks to the maxima of the envelope by parabolic interpolation.

    These maxima are the rhythm points of the paper.

    Args:
        peak_frames: peaks, ``(peaks,)``.
        envelope: ``(frames,)``.

    Returns:
        Times in frames, ``(peaks,)``: vertices of parabolas through each peak and its
        neighbours.
    """
    if not len(peak_frames):
        return np.zeros(0)
    padded = np.pad(envelope, 1, mode="edge")
    left, top, right = padded[peak_frames], padded[peak_frames + 1], padded[peak_frames + 2]
    bend = left - 2 * top + right
    shift = np.where(bend < 0, (left - right) / np.where(bend < 0, 2 * bend, 1), 0)
    return np.asarray(peak_frames + shift.clip(-0.5, 0.5))
