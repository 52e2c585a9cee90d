"""Conditions of the paper's network for one window of a video.

features of the video -> window on a grid of half seconds -> rhythm, visual features, genre
"""

import math
from dataclasses import dataclass

import numpy as np
import torch

from loris_cli.array_types import Array
from loris_cli.config import GENRES, LATENT_FPS, POSE_FPS
from loris_cli.models.generator_interface import VideoFeatures
from loris_cli.models.paper_condition import PaperCondition
from loris_cli.models.paper_config import PaperConfig
from loris_cli.models.paper_unet import RHYTHM_OFFSET_FRAMES, PaperModel
from loris_cli.rhythm.directogram import normalize_by_max, onset_envelope
from loris_cli.rhythm.pose_rhythm import pose_directogram, rhythm_from_poses
from loris_cli.soundtrack.conditioning import normalize_pose
from loris_cli.soundtrack.visual_features import VISUAL_FPS, slice_rows

POSES_PER_VISUAL_ROW = round(POSE_FPS / VISUAL_FPS)


@dataclass(frozen=True, kw_only=True)
class PaperWindow:
    """Conditions of a window before encoding; the network's configuration sets its length."""

    rhythm: Array
    """1 at a peak, else 0, ``(steps,)``; step ``n`` belongs to pose frame ``n + 2``."""
    envelope: Array
    """Onset envelope of the motion (Eq. 6), ``(steps,)``, 0..1."""
    motion: Array
    """Normalized keypoints, ``(n_pose_frames, 17, 3)``."""
    visual: Array | None
    """``(n_visual_frames, visual_features)``"""
    genre: int | None


def extract_window(
    features: VideoFeatures, config: PaperConfig, start_row: int, *, is_only: bool
) -> PaperWindow:
    """Return the conditions of a window before encoding.

    Args:
        features: features of the entire video.
        config: configuration of the network.
        start_row: start of the window in half seconds.
        is_only: whether this is the only window of the video. If so, the compatibility
            mode ``official`` decimates surplus poses as in the released code.
    """
    keypoints = _window_keypoints(features.keypoints, config, start_row, is_only=is_only)
    start_s = start_row / VISUAL_FPS
    visual = None
    if features.visual is not None and config.visual_projection != "none":
        visual = slice_rows(features.visual, start_row, config.n_visual_frames)
    genre = None if features.genre is None else GENRES.index(features.genre)
    return PaperWindow(
        rhythm=_rhythm_steps(features, config, keypoints, start_s),
        envelope=_envelope_steps(features, config, keypoints, start_s),
        motion=normalize_pose(features.keypoints, start_s * LATENT_FPS, config.n_pose_frames),
        visual=visual,
        genre=genre if genre is not None and genre < config.n_genres else None,
    )


def encode_window(
    network: PaperModel, window: PaperWindow, device: torch.device, generator: torch.Generator
) -> PaperCondition:
    """Return the encoded conditions of a window, as a batch of one."""

    def batch(values: Array | None) -> torch.Tensor | None:
        return None if values is None else torch.from_numpy(values)[None].float().to(device)

    rhythm = batch(window.rhythm)
    assert rhythm is not None
    return network.encode_conditions(
        batch(window.visual),
        rhythm,
        None if window.genre is None else torch.tensor([window.genre], device=device),
        onset_envelope=batch(window.envelope),
        pose=batch(window.motion),
        generator=generator,
    )


def decimate_poses(keypoints: Array, n_frames: int) -> Array:
    """Drop every nth pose, as in the released code (docs/differences.md, D4).

    Args:
        keypoints: ``(frames, joints, 3)``.
        n_frames: number of poses to retain.

    Returns:
        ``(n_frames, joints, 3)``, or the input if it has no more frames than that.
    """
    if len(keypoints) <= n_frames:
        return keypoints
    rate = math.ceil(len(keypoints) / (len(keypoints) - n_frames))
    decimated: Array = keypoints[np.arange(len(keypoints)) % rate != 0][:n_frames]
    return decimated


def _window_keypoints(
    keypoints: Array | None, config: PaperConfig, start_row: int, *, is_only: bool
) -> Array | None:
    """Return the poses of a window, ``(n_pose_frames, 17, 3)``; the last one is repeated."""
    if keypoints is None or not keypoints[..., 2].any():
        return None
    if is_only and config.compat == "official":
        keypoints = decimate_poses(keypoints, config.n_pose_frames)
    return slice_rows(keypoints, start_row * POSES_PER_VISUAL_ROW, config.n_pose_frames)


def _rhythm_steps(
    features: VideoFeatures, config: PaperConfig, window_keypoints: Array | None, start_s: float
) -> Array:
    """Return the peaks; except in the mode ``paper``, extract them again from the poses."""
    times_s = features.peaks_s - start_s
    is_extracted = config.compat != "paper" and features.rhythm_method == "directogram"
    if is_extracted and window_keypoints is not None:
        times_s = rhythm_from_poses(window_keypoints, compat=config.compat).times_s
    return _place_on_steps(times_s, np.ones_like(times_s), config)


def _envelope_steps(
    features: VideoFeatures, config: PaperConfig, window_keypoints: Array | None, start_s: float
) -> Array:
    """Return the onset envelope (Eq. 6), or the strengths of the peaks without poses."""
    if window_keypoints is not None:
        envelope = normalize_by_max(onset_envelope(pose_directogram(window_keypoints)))
        return envelope[RHYTHM_OFFSET_FRAMES:]
    return _place_on_steps(features.peaks_s - start_s, features.strengths, config)


def _place_on_steps(times_s: Array, values: Array, config: PaperConfig) -> Array:
    steps = np.zeros(config.n_pose_frames - RHYTHM_OFFSET_FRAMES)
    index = np.round(times_s * POSE_FPS).astype(int) - RHYTHM_OFFSET_FRAMES
    inside = (index >= 0) & (index < len(steps))
    steps[index[inside]] = values[inside]
    return steps
