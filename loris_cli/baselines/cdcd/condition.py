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
INITIAL_TIME_STD = 0.5
"""Standard deviation of the initial time embedding of condition tokens, about that of the
encoded poses."""
MIN_FREQUENCY_HZ, MAX_FREQUENCY_HZ = 0.05, 8.0
"""Frequencies of the initial time embedding: from periods of three windows to those of two pose
frames."""


class CdcdCondition(NamedTuple):
    """Inputs of the condition encoder for a window."""

    pose: Tensor
    """Normalized keypoints, ``(batch, frames, 17, 3)`` at 16 Hz; zeros without a person."""
    visual: Tensor
    """Visual features, ``(batch, rows, width)``, 2 rows per second."""
    genre: Tensor
    """Index of the genre, ``(batch,)``, int64; the last index is an unknown genre."""


def build_time_embedding(times_s: Array, width: int, std: float) -> nn.Parameter:
    """Return a trainable embedding of times, initially sines and cosines.

    Tokens and condition tokens of the same time begin with similar embeddings, so that
    attention can find the condition of a token.

    Args:
        times_s: times of the tokens, ``(tokens,)``.
        width: number of features, even.
        std: root mean square of the initial values.
    """
    frequencies_hz = np.geomspace(MIN_FREQUENCY_HZ, MAX_FREQUENCY_HZ, width // 2)
    phase = 2 * np.pi * times_s[:, None] * frequencies_hz
    values = std * np.sqrt(2) * np.concatenate([np.sin(phase), np.cos(phase)], axis=1)
    return nn.Parameter(torch.from_numpy(values.astype(np.float32)))


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

    def forward(self, condition: CdcdCondition) -> Tensor:
        """Return the condition token, ``(batch, 1, width)``."""
        motion = self.motion(condition.pose)[:, 0]
        parts = [motion, condition.visual.mean(dim=1), self.genre(condition.genre)]
        out: Tensor = self.join(torch.cat(parts, dim=1))[:, None]
        return out


class FrameTokensCondition(nn.Module):
    """Condition tokens with times: pose frames, rows of visual features, and the genre."""

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
        self.frame_times = build_time_embedding(times_s, config.width, INITIAL_TIME_STD)
        self.visual: nn.Linear | None = None
        if config.visual_features:
            self.visual = nn.Linear(config.visual_features, config.width)
            times_s = (
                np.arange(config.n_visual_rows, dtype=np.float64) + 0.5
            ) / VISUAL_ROWS_PER_S
            self.row_times = build_time_embedding(times_s, config.width, INITIAL_TIME_STD)
        self.genre = nn.Embedding(N_GENRES, config.genre_features)
        self.genre_to_width = nn.Linear(config.genre_features, config.width)
        self.norm = nn.LayerNorm(config.width)

    def forward(self, condition: CdcdCondition) -> Tensor:
        """Return the condition tokens, ``(batch, frames + rows + 1, width)``."""
        pose = condition.pose
        points = pose[..., :2]
        velocity = torch.cat([torch.zeros_like(points[:, :1]), points.diff(dim=1)], dim=1)
        values = torch.cat([pose.flatten(2), velocity.flatten(2) * POSE_FPS], dim=2)
        h = self.motion_out(self.motion(self.project(values.transpose(1, 2))))
        tokens = [self.motion_to_width(h.transpose(1, 2)) + self.frame_times]
        if self.visual is not None:
            tokens.append(self.visual(condition.visual) + self.row_times)
        tokens.append(self.genre_to_width(self.genre(condition.genre))[:, None])
        out: Tensor = self.norm(torch.cat(tokens, dim=1))
        return out
