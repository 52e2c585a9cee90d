"""Condition tokens of CDCD from poses, visual features and genre.

official: poses -> encoder with time as channels -> one token, no temporal information
paper:    poses -> dilated convolutions over time -> a token per frame, with its time
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from loris_cli.array_types import Array
from loris_cli.baselines.cdcd.config import N_GENRES, POSE_CHANNELS, CdcdConfig
from loris_cli.baselines.windows import VISUAL_ROWS_PER_S
from loris_cli.config import POSE_FPS

PaddingMode = Literal["zeros", "reflect"]
DILATIONS = (1, 3, 9, 27)
"""Dilations of the residual blocks of a stage of the motion encoder in the release."""
LEAKY_SLOPE = 0.2
KERNEL_SIZES = (6, 4, 4, 4)
"""Kernels of the convolutions between the stages in the release."""
MIN_FREQUENCY_HZ, MAX_FREQUENCY_HZ = 0.05, 8.0
"""Frequencies of the time embedding: periods from three windows to two pose frames."""


class CdcdCondition(NamedTuple):
    """Inputs of the condition encoder for a window."""

    pose: Tensor
    """Normalized keypoints, ``(batch, frames, 17, 3)`` at 16 Hz; zeros without a person."""
    visual: Tensor
    """Visual features, ``(batch, rows, width)``, 2 rows per second."""
    genre: Tensor
    """Index of the genre, ``(batch,)``, int64; the last index is an unknown genre."""


class ConditionTokens(NamedTuple):
    """Condition for the attention of the transformer."""

    tokens: Tensor
    """``(batch, tokens, width)``"""
    times: Tensor | None
    """Embedded times, ``(tokens, width)``, zero for a token without a time; None if there are
    none."""


def embed_times(times_s: Array, width: int) -> Tensor:
    """Return sines and cosines of times, ``(times, width)``, with a mean square of 1.

    Args:
        times_s: ``(times,)``.
        width: number of features, even.
    """
    frequencies_hz = np.geomspace(MIN_FREQUENCY_HZ, MAX_FREQUENCY_HZ, width // 2)
    phase = 2 * np.pi * times_s[:, None] * frequencies_hz
    values = np.sqrt(2) * np.concatenate([np.sin(phase), np.cos(phase)], axis=1)
    return torch.from_numpy(values.astype(np.float32))  # not on "meta": without gradients


class DilatedBlock(nn.Module):
    """Residual block with a dilated convolution, as in MelGAN."""

    def __init__(self, channels: int, dilation: int, padding_mode: PaddingMode) -> None:
        """Build a block; the release pads by reflection."""
        super().__init__()
        self.dilated = nn.Conv1d(
            channels,
            channels,
            3,
            dilation=dilation,
            padding=dilation,
            padding_mode=padding_mode,
        )
        self.pointwise = nn.Conv1d(channels, channels, 1)
        self.shortcut = nn.Conv1d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(batch, channels, length)`` to the same shape."""
        h = self.dilated(functional.leaky_relu(x, LEAKY_SLOPE))
        out: Tensor = self.shortcut(x) + self.pointwise(functional.leaky_relu(h, LEAKY_SLOPE))
        return out


class TimeAsChannelsEncoder(nn.Module):
    """Motion encoder of the release: frames are channels, so the result has no time axis."""

    def __init__(self, n_frames: int, width: int, channels: Sequence[int], out: int) -> None:
        """Build the encoder.

        Args:
            n_frames: pose frames of a window.
            width: width of the projected poses, over which the convolutions run.
            channels: channels of the three stages.
            out: features of the token.
        """
        super().__init__()
        self.project = nn.Linear(POSE_CHANNELS, width)
        self.down = nn.ModuleList()
        self.stages = nn.ModuleList()
        n_in = n_frames
        for n_out, kernel in zip(channels, KERNEL_SIZES[:-1], strict=True):
            self.down.append(nn.Conv1d(n_in, n_out, kernel))
            blocks = [DilatedBlock(n_out, dilation, "reflect") for dilation in DILATIONS]
            self.stages.append(nn.Sequential(*blocks))
            n_in = n_out
        self.last = nn.Conv1d(n_in, 1, KERNEL_SIZES[-1])
        self.out = nn.Linear(width - sum(kernel - 1 for kernel in KERNEL_SIZES), out)

    def forward(self, pose: Tensor) -> Tensor:
        """Map ``(batch, frames, 17, 3)`` to ``(batch, 1, out)``."""
        x = self.down[0](self.project(pose.flatten(2)))
        x = self.stages[0](functional.leaky_relu(x, LEAKY_SLOPE))
        for down, stage in zip(self.down[1:], self.stages[1:], strict=True):
            x = stage(down(functional.leaky_relu(x, LEAKY_SLOPE)))
        x = self.last(functional.leaky_relu(x, LEAKY_SLOPE))
        out: Tensor = self.out(x)
        return out


class OneTokenCondition(nn.Module):
    """Condition of the release: one token for the entire window (docs/differences.md, X1)."""

    def __init__(self, config: CdcdConfig) -> None:
        """Build the encoders."""
        super().__init__()
        self.motion = TimeAsChannelsEncoder(
            config.n_frames, config.motion_width, config.motion_channels, config.motion_features
        )
        self.genre = nn.Embedding(N_GENRES, config.genre_features)
        widths = config.motion_features, config.visual_features, config.genre_features
        self.join = nn.Linear(sum(widths), config.width)
        # The release computes both encoders without gradients (X2).
        self.motion.requires_grad_(False)
        self.genre.requires_grad_(False)

    def forward(self, condition: CdcdCondition) -> ConditionTokens:
        """Return the condition token."""
        motion = self.motion(condition.pose)[:, 0]
        parts = [motion, condition.visual.mean(dim=1), self.genre(condition.genre)]
        return ConditionTokens(self.join(torch.cat(parts, dim=1))[:, None], None)


class FrameTokensCondition(nn.Module):
    """Condition tokens with times: pose frames, rows of visual features, and the genre."""

    times: Tensor

    def __init__(self, config: CdcdConfig) -> None:
        """Build the encoders."""
        super().__init__()
        channels = config.motion_channels[-1]
        # Velocities beside positions: two thirds of the values of a pose.
        self.project = nn.Conv1d(POSE_CHANNELS + POSE_CHANNELS * 2 // 3, channels, 3, padding=1)
        self.motion = nn.Sequential(
            *(DilatedBlock(channels, dilation, "zeros") for dilation in DILATIONS)
        )
        self.motion_out = nn.Conv1d(channels, config.motion_features, 1)
        self.motion_to_width = nn.Linear(config.motion_features, config.width)
        times_s = (np.arange(config.n_frames, dtype=np.float64) + 0.5) / POSE_FPS
        self.visual: nn.Linear | None = None
        if config.visual_features:
            self.visual = nn.Linear(config.visual_features, config.width)
            rows_s = (np.arange(config.n_visual_rows) + 0.5) / VISUAL_ROWS_PER_S
            times_s = np.concatenate([times_s, rows_s])
        self.genre = nn.Embedding(N_GENRES, config.genre_features)
        self.genre_to_width = nn.Linear(config.genre_features, config.width)
        self.norm = nn.LayerNorm(config.width)
        times = functional.pad(embed_times(times_s, config.width), (0, 0, 0, 1))
        self.register_buffer("times", times, persistent=False)

    def forward(self, condition: CdcdCondition) -> ConditionTokens:
        """Return ``frames + rows + 1`` condition tokens."""
        pose = condition.pose
        points = pose[..., :2]
        velocity = torch.cat([torch.zeros_like(points[:, :1]), points.diff(dim=1)], dim=1)
        values = torch.cat([pose.flatten(2), velocity.flatten(2) * POSE_FPS], dim=2)
        h = self.motion_out(self.motion(self.project(values.transpose(1, 2))))
        tokens = [self.motion_to_width(h.transpose(1, 2))]
        if self.visual is not None:
            tokens.append(self.visual(condition.visual))
        tokens.append(self.genre_to_width(self.genre(condition.genre))[:, None])
        return ConditionTokens(self.norm(torch.cat(tokens, dim=1)), self.times)
