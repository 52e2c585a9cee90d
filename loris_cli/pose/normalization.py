"""Keypoints in units of the performer's height, for networks."""

import numpy as np

from loris_cli.array_types import Array

MAX_COORDINATE = 3.0
"""Largest normalized coordinate, in heights; beyond it lie errors of the pose estimation."""


def normalize_keypoints(keypoints: Array | None) -> Array | None:
    """Return keypoints in units of the performer's height, relative to the median position.

    Args:
        keypoints: keypoints of the entire clip, ``(frames, 17, 3)``: x px, y px, score; or
            None.

    Returns:
        ``(frames, 17, 3)``: x and y, -3..3, and score; zeros where no person is detected. None
        if no frame has a person, or if a value is not finite.
    """
    if keypoints is None or not np.isfinite(keypoints).all() or not keypoints[..., 2].any():
        return None
    points, scores = keypoints[..., :2], keypoints[..., 2:]
    heights = np.ptp(points[..., 1], axis=1)
    height = max(float(np.median(heights[scores[..., 0].any(axis=1)])), 1.0)
    center = np.median(points, axis=(0, 1))
    scaled = ((points - center) / height).clip(-MAX_COORDINATE, MAX_COORDINATE)
    return np.concatenate([scaled, scores], axis=2) * (scores > 0)
