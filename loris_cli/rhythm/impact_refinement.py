"""Impact times from the frames of the video, at their own times.

    impacts found at 16 Hz, displacements between the frames -> impacts to a fraction of a frame

Peaks are detected on trajectories that are resampled to 16 Hz, which blurs the timing of videos
at any other rate. The derivation in `impact_timing` holds for frames at any times: a point that
moves at speed v and stops at fraction f of the interval between two frames has the mean speeds
v, f v and 0, so the centroid of the two drops of speed is the time of the stop.

At high rates the displacement between two frames is within the noise of optical flow. An impact
is therefore located at 16 Hz first, then at twice the rate, while its drop of speed is kept.
"""

import numpy as np

from loris_cli.array_types import Array
from loris_cli.rhythm.impact_timing import FINAL_ACCELERATION

FINEST_RATE_HZ = 256.0
MIN_DROP_RATIO = 0.7
"""An impact is timed at a finer scale if the speed drops there by at least this fraction of the
drop at the coarser scale. An abrupt stop keeps its drop, a smooth turn halves it."""
MAX_INTERVAL_RATIO = 1.7
"""Maximum interval between the frames around an impact, relative to the period of a scale."""
MAX_INTERVAL_S = 0.085
"""Maximum interval at all scales; impacts between sparser frames are not moved."""
WINDOW_PERIODS = 8
"""Periods of the coarsest scale that are read before and after an impact."""


def refine_impact(impact_s: float, positions: Array, times_s: Array, *, fps: float) -> float:
    """Locate an impact on the frames of the video, at twice the resolution in every step.

    Args:
        impact_s: approximate time of the impact.
        positions: positions in the frames around the impact, ``(frames, points, 2)``.
        times_s: times of the frames, ``(frames,)``, increasing.
        fps: rate at which the impact was found, the coarsest scale.

    Returns:
        Time of the impact in seconds; ``impact_s`` if the frames are few or far apart.
    """
    if len(times_s) < 6:
        return impact_s
    refined, drop = impact_s, 0.0
    rate_hz = fps
    while rate_hz <= FINEST_RATE_HZ:
        frames = _nearest_frames(times_s, rate_hz)
        located = _locate_impact(
            positions[frames],
            times_s[frames],
            refined,
            1 / rate_hz,
            min(MAX_INTERVAL_RATIO / rate_hz, MAX_INTERVAL_S),
        )
        if located is not None and located[1] > MIN_DROP_RATIO * drop:
            refined, drop = located
        rate_hz *= 2
    return refined


def _nearest_frames(times_s: Array, rate_hz: float) -> Array:
    """Return the indices of the frames nearest to the ticks of a constant rate."""
    ticks_s = np.arange(times_s[0], times_s[-1] + 1 / rate_hz, 1 / rate_hz)
    right = np.searchsorted(times_s, ticks_s).clip(1, len(times_s) - 1)
    is_left = ticks_s - times_s[right - 1] < times_s[right] - ticks_s
    return np.unique(right - is_left)


def _locate_impact(
    positions: Array, times_s: Array, near_s: float, period_s: float, max_interval_s: float
) -> tuple[float, float] | None:
    """Return time and speed drop of the hardest impact within a period of a time.

    None if there are too few frames, or if they are too far apart.
    """
    intervals_s = np.diff(times_s)
    velocities = np.diff(positions, axis=0).reshape(len(intervals_s), -1)
    velocities /= intervals_s[:, None]
    speeds = np.linalg.norm(velocities, axis=-1)
    headings = velocities / np.maximum(speeds, 1e-12)[:, None]
    # The last interval of motion, with one interval before it and three after it.
    last = np.arange(1, len(intervals_s) - 3)
    last = last[np.abs(times_s[last + 1] - near_s) <= period_s]
    if not len(last):
        return None
    drops = np.einsum("id,id->i", headings[last], velocities[last] - velocities[last + 2])
    best = int(last[drops.argmax()])
    if (intervals_s[best - 1 : best + 4] > max_interval_s).any():
        return None
    along = velocities[best - 1 : best + 4] @ headings[best]
    falls = -np.diff(along)  # at the frames best, best + 1, best + 2, best + 3
    weight = (falls - max(min(falls[0], falls[-1]), 0.0)).clip(min=0)
    weight[1] += FINAL_ACCELERATION * max(-falls[0], 0.0)
    if not weight.any():
        return None
    return float(weight @ times_s[best : best + 4] / weight.sum()), float(drops.max())
