"""Poses of a window: interpolation to 22 Hz, and augmentation by a moving camera."""

import numpy as np

from loris_cli.array_types import Array, Float32Array
from loris_cli.baselines.foley.config import N_POSE_FRAMES, POSE_RATE_HZ
from loris_cli.config import POSE_FPS

ANGLES_DEG = (-10.0, -5.0, 0.0, 5.0, 10.0)
SCALES = (0.9, 1.0, 1.1)
OFFSETS = (-0.2, -0.1, 0.0, 0.1, 0.2)
"""Candidates of the augmentation: released values. Offsets are in heights of the performer."""


def interpolate_pose(pose: Array | Float32Array, start_s: float) -> Float32Array:
    """Return the poses of a window.

    Args:
        pose: normalized keypoints of the entire clip, ``(frames, 17, 3)`` at 16 Hz.
        start_s: start of the window. Frames after the end of the clip repeat the last one.

    Returns:
        ``(132, 17, 3)`` at 22 Hz, interpolated linearly.
    """
    positions = (start_s + np.arange(N_POSE_FRAMES) / POSE_RATE_HZ) * POSE_FPS
    positions = positions.clip(0, len(pose) - 1)
    before = np.floor(positions).astype(np.int64)
    after = np.minimum(before + 1, len(pose) - 1)
    weight = (positions - before)[:, None, None]
    return ((1 - weight) * pose[before] + weight * pose[after]).astype(np.float32)


def move_camera(pose: Float32Array, rng: np.random.Generator) -> Float32Array:
    """Return poses under a random affine motion: the augmentation ``random_move``.

    Yan et al., "Spatial Temporal Graph Convolutional Networks" (AAAI 2018), Sec. 4.2: angle,
    scale and offset are drawn from a few candidates for the first and the last frame, and
    interpolated between them.

    Args:
        pose: ``(frames, 17, 3)``: x, y, score; zeros where no joint is detected.
        rng: random generator.

    Returns:
        ``(frames, 17, 3)``; joints that are not detected remain zero.
    """
    fraction = np.linspace(0, 1, len(pose))

    def draw_ramp(candidates: tuple[float, ...]) -> Array:
        first, last = rng.choice(candidates, 2)
        return np.asarray(first + fraction * (last - first))

    angles, scales = np.deg2rad(draw_ramp(ANGLES_DEG)), draw_ramp(SCALES)
    offsets = np.stack([draw_ramp(OFFSETS), draw_ramp(OFFSETS)], axis=1)
    cos, sin = scales * np.cos(angles), scales * np.sin(angles)
    matrices = np.stack([cos, -sin, sin, cos], axis=1).reshape(-1, 2, 2)
    points = np.einsum("fij,fkj->fki", matrices, pose[..., :2]) + offsets[:, None]
    moved = np.concatenate([points, pose[..., 2:]], axis=2) * (pose[..., 2:] > 0)
    return moved.astype(np.float32)
