"""Input of D2M-GAN: motion, genre and visual vector of a window.

    normalized poses at 16 Hz -> positions and velocities -> interpolated to 60 fps

The authors use joint rotations of SMPL at 60 fps, which are not available for most videos. Here
keypoints replace them (docs/differences.md, N5).
"""

import numpy as np
import torch
from torch import Tensor

from loris_cli.array_types import Array, Float32Array
from loris_cli.baselines.d2mgan.config import D2mGanConfig, MotionSizes
from loris_cli.config import GENRES, POSE_FPS
from loris_cli.models.generator_interface import VideoFeatures

MAX_SPEED = 8.0
"""Largest component of a velocity, in heights per second; beyond it lie errors of the pose
estimation."""


def compute_motion(keypoints: Array) -> Float32Array:
    """Return positions and velocities of the joints.

    Args:
        keypoints: normalized keypoints, ``(frames, 17, 3)`` at 16 Hz
            (`loris_cli.pose.normalization`).

    Returns:
        ``(frames, 68)``: x and y of each joint in heights, then the velocities in heights per
        second, zero where a joint is missing in one of two frames.
    """
    points, is_present = keypoints[..., :2], keypoints[..., 2] > 0
    velocities = np.zeros_like(points)
    is_pair = (is_present[1:] & is_present[:-1])[..., None]
    velocities[1:] = np.diff(points, axis=0) * POSE_FPS * is_pair
    velocities = velocities.clip(-MAX_SPEED, MAX_SPEED)
    flat = [values.reshape(len(values), -1) for values in (points, velocities)]
    return np.concatenate(flat, axis=1).astype(np.float32)


def slice_motion(motion: Float32Array, first: int, config: MotionSizes) -> Float32Array:
    """Return the motion of a window from a frame on, ``(n_motion_frames, motion_width)``.

    Frames between those of the poses are interpolated linearly; after the end of the clip the
    last frame is repeated.
    """
    times_s = np.arange(config.n_motion_frames) * (config.window_s / config.n_motion_frames)
    positions = (first + times_s * POSE_FPS).clip(max=len(motion) - 1)
    lower = np.floor(positions).astype(int)
    upper = np.minimum(lower + 1, len(motion) - 1)
    fraction = (positions - lower)[:, None].astype(np.float32)
    window: Float32Array = motion[lower] * (1 - fraction) + motion[upper] * fraction
    return window


def encode_genre(genre: str | None, config: D2mGanConfig) -> Tensor:
    """Return the one-hot vector of a genre, ``(n_genres,)``; zeros if it is unknown."""
    vector = torch.zeros(config.n_genres)
    if genre in GENRES[: config.n_genres]:
        vector[GENRES.index(genre)] = 1
    return vector


def compute_visual_vector(features: VideoFeatures, config: D2mGanConfig) -> Float32Array | None:
    """Return the mean of the visual features of a window, ``(visual_width,)``, or None.

    Clips without features of this width have the zero vector.
    """
    if not config.visual_width:
        return None
    rows = features.visual
    if not has_visual_features(features, config) or rows is None:
        return np.zeros(config.visual_width, dtype=np.float32)
    return np.asarray(rows.mean(axis=0), dtype=np.float32)


def has_visual_features(features: VideoFeatures, config: D2mGanConfig) -> bool:
    """Return whether a clip has the visual features of a configuration."""
    rows = features.visual
    return rows is not None and len(rows) > 0 and rows.shape[1] == config.visual_width
