"""Time of the impact that follows an onset peak, finer than a frame.

    peak frames, motion -> times, strengths

An onset envelope is high where motion begins. What viewers take for the beat is where it
stops: the foot on the floor, the end of the punch; Davis and Agrawala (2018) call it a visual
impact. So a peak is chosen on the paper's envelope and put at the impact that follows it.

Where a stop falls between two frames can be computed. Let a point move at speed v and stop at
the fraction f of the interval (k, k + 1). The motions of this interval and its neighbours are
v, f v, 0; the speed drops by (1 - f) v at frame k and by f v at frame k + 1; the centre of
gravity of the two drops is k + f, the very moment. A rebound at speed u only turns v into
v + u. A parabola through the drops would be up to 10 ms off at 16 fps. Of a smooth turn
the drops form a wide hill; with its foot taken away, the centre of gravity of four of them
finds the top within 7 ms.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from loris_cli.array_types import Array
from loris_cli.rhythm.peak_picking import FrameIndices

PeakPlacement = Literal["impact", "onset"]

SEARCH_FRAMES_BEFORE = 2
"""An impact may come this long before the peak: a rebound can be the greater rise."""

SEARCH_FRAMES_AFTER = 4
"""A burst lasts 120 to 250 ms: it ends within four frames of 62.5 ms."""

FINAL_ACCELERATION = 0.25
"""Fraction of the last gain of speed that a strike gains again before it stops (measured)."""

LOCAL_MAX_RADIUS_FRAMES = 2
"""An impact is the hardest drop among so many on both sides."""


def locate_impacts(
    peak_frames: FrameIndices, denoised_displacements: Array, displacements: Array
) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Return the times at which the movements around some frames stop most abruptly.

    All joints are taken as one vector. The drop along its own direction over two
    intervals counts, so a limb that rebounds stops twice as hard as one that rests,
    although its speed, and with it the folded directogram, barely changes.

    Args:
        peak_frames: peaks, ``(peaks,)``.
        denoised_displacements: motion with its noise taken out, ``(frames, joints, 2)``; it
            gives the direction of the movement.
        displacements: motion as measured, same shape; along that direction it is free of the
            bias that shrinking brings.

    Returns:
        times in frames, ``(peaks,)``; the greatest drops of speed, in pixels per frame; whether
        each is the greatest around, so that the movement ends there rather than goes on to
        brake.
    """
    if not len(peak_frames):
        return np.zeros(0), np.zeros(0), np.zeros(0, dtype=bool)
    radius, n_frames = LOCAL_MAX_RADIUS_FRAMES, len(displacements)
    before, after = SEARCH_FRAMES_BEFORE + radius, SEARCH_FRAMES_AFTER + radius + 2
    # A movement goes on beyond the end: that a video ends is no impact.
    moved, measured = (
        np.pad(d.reshape(n_frames, -1), ((before, after), (0, 0)), mode="edge")
        for d in (denoised_displacements, displacements)
    )
    speed = np.linalg.norm(moved, axis=-1)
    heading = moved / np.maximum(speed, 1e-12)[:, None]
    drop = np.zeros(len(moved))
    drop[:-2] = np.einsum("fd,fd->f", heading[:-2], moved[:-2] - measured[2:])

    offsets = np.arange(-SEARCH_FRAMES_BEFORE, SEARCH_FRAMES_AFTER)
    # The last interval of the movement.
    last = peak_frames + before
    last = last + offsets[drop[last[:, None] + offsets].argmax(axis=-1)]

    intervals = last[:, None] + np.arange(-1, 4)
    along = np.einsum("pkd,pd->pk", measured[intervals], heading[last])
    drops = -np.diff(along, axis=-1)  # at the frames last - 1, last, last + 1, last + 2
    foot = np.minimum(drops[:, :1], drops[:, -1:]).clip(min=0)
    weight = (drops - foot).clip(min=0)
    # A strike gathers speed to the end: it loses more than its mean over the last interval.
    weight[:, 1] += FINAL_ACCELERATION * (-drops[:, 0]).clip(min=0)
    centre = (weight @ np.arange(-1, 3)) / np.maximum(weight.sum(axis=-1), 1e-12)
    around = drop[last[:, None] + np.arange(-radius, radius + 1)]
    is_local_max = drop[last] >= around.max(axis=-1) - 1e-9 * speed.max()  # the sums round
    return last - before + centre, drop[last], is_local_max


def interpolate_peaks(peak_frames: FrameIndices, envelope: Array) -> Array:
    """Refine peaks to the maxima of the envelope, which are the paper's rhythm points.

    Args:
        peak_frames: peaks, ``(peaks,)``.
        envelope: ``(frames,)``.

    Returns:
        times in frames, each the vertex of the parabola through a peak and its neighbours.
    """
    if not len(peak_frames):
        return np.zeros(0)
    padded = np.pad(envelope, 1, mode="edge")
    left, top, right = padded[peak_frames], padded[peak_frames + 1], padded[peak_frames + 2]
    bend = left - 2 * top + right
    shift = np.where(bend < 0, (left - right) / np.where(bend < 0, 2 * bend, 1), 0)
    return np.asarray(peak_frames + shift.clip(-0.5, 0.5))
