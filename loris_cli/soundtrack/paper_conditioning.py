"""What the paper's network is told of one window of a video.

features of the whole video -> window on the grid of half seconds -> rhythm, picture, genre
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from loris_cli.config import GENRES, POSE_FPS
from loris_cli.models.generator_interface import ClipFeatures
from loris_cli.models.paper_condition import Told
from loris_cli.models.paper_config import PaperConfig
from loris_cli.models.paper_unet import LEAD, PaperModel
from loris_cli.rhythm.directogram import normalised, onset_envelope
from loris_cli.rhythm.pose_rhythm import body_directogram, rhythm_from_poses
from loris_cli.soundtrack.conditioning import CODE_HZ, body_of
from loris_cli.soundtrack.visual_features import VISUAL_FPS

Array = NDArray[np.float64]

POSES_A_ROW = round(POSE_FPS / VISUAL_FPS)


@dataclass(frozen=True, kw_only=True)
class Window:
    """A stretch of video as the network is told of it, as long as its configuration says."""

    rhythm: Array
    """1 where a peak is, ``(steps,)``; step ``n`` belongs to pose frame ``n + 2``."""
    envelope: Array
    """How much motion begins at each step, ``(steps,)``, 0..1."""
    motion: Array
    """The body, ``(pose_length, 17, 3)``."""
    visual: Array | None
    """``(video_length, visual_features)``"""
    genre: int | None


def window_of(features: ClipFeatures, config: PaperConfig, row: int, *, alone: bool) -> Window:
    """What there is to be told of a window.

    Args:
        features: of the whole video.
        config: of the network.
        row: where the window begins, in half seconds.
        alone: whether it is the only one: then the released reading takes poses that are too
            many as its code does.
    """
    body = _body(features.keypoints, config, row, alone=alone)
    start_s = row / VISUAL_FPS
    visual = None
    if features.visual is not None and config.visual != "none":
        visual = _stretch(features.visual, row, config.video_length)
    genre = None if features.genre is None else GENRES.index(features.genre)
    return Window(
        rhythm=_rhythm(features, config, body, start_s),
        envelope=_envelope(features, config, body, start_s),
        motion=body_of(features.keypoints, start_s * CODE_HZ, config.pose_length),
        visual=visual,
        genre=genre if genre is not None and genre < config.n_genres else None,
    )


def tell(
    network: PaperModel, window: Window, device: torch.device, generator: torch.Generator
) -> Told:
    """A window as a batch of one, encoded."""

    def batch(values: Array | None) -> torch.Tensor | None:
        return None if values is None else torch.from_numpy(values)[None].float().to(device)

    rhythm = batch(window.rhythm)
    assert rhythm is not None
    return network.tell(
        batch(window.visual),
        rhythm,
        None if window.genre is None else torch.tensor([window.genre], device=device),
        envelope=batch(window.envelope),
        motion=batch(window.motion),
        generator=generator,
    )


def decimated(keypoints: Array, n_frames: int) -> Array:
    """Poses thinned out as the released code does it, by leaving out one in so many (D4)."""
    if len(keypoints) <= n_frames:
        return keypoints
    rate = math.ceil(len(keypoints) / (len(keypoints) - n_frames))
    kept: Array = keypoints[np.arange(len(keypoints)) % rate != 0][:n_frames]
    return kept


def _stretch(rows: Array, start: int, n: int) -> Array:
    """``n`` rows from one on; behind the end the last is repeated."""
    return rows[np.minimum(np.arange(start, start + n), len(rows) - 1)]


def _body(
    keypoints: Array | None, config: PaperConfig, row: int, *, alone: bool
) -> Array | None:
    """Poses of the window, ``(pose_length, 17, 3)``; behind the end they stand still."""
    if keypoints is None or not keypoints[..., 2].any():
        return None
    if alone and config.compat == "official":
        keypoints = decimated(keypoints, config.pose_length)
    return _stretch(keypoints, row * POSES_A_ROW, config.pose_length)


def _rhythm(
    features: ClipFeatures, config: PaperConfig, body: Array | None, start_s: float
) -> Array:
    """Peaks by the reading of the network, or those that were found in another way."""
    times_s = features.peaks_s - start_s
    found = features.method == "directogram"
    if config.compat == "official" and found and body is not None:
        times_s = rhythm_from_poses(body, compat="official").times_s
    return _at_steps(times_s, np.ones_like(times_s), config)


def _envelope(
    features: ClipFeatures, config: PaperConfig, body: Array | None, start_s: float
) -> Array:
    """The onset envelope (Eq. 6); of peaks alone, where there is no body, their strengths."""
    if body is not None:
        return normalised(onset_envelope(body_directogram(body)))[LEAD:]
    return _at_steps(features.peaks_s - start_s, features.strengths, config)


def _at_steps(times_s: Array, values: Array, config: PaperConfig) -> Array:
    steps = np.zeros(config.pose_length - LEAD)
    index = np.round(times_s * POSE_FPS).astype(int) - LEAD
    inside = (index >= 0) & (index < len(steps))
    steps[index[inside]] = values[inside]
    return steps
