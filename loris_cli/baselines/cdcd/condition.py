"""Condition tokens of CDCD from poses, visual features and genre.

official: motion -> encoder of D2M-GAN, with time as channels -> one token without times
paper:    motion -> dilated convolutions over time -> a token per frame, with its time
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from loris_cli.baselines.cdcd.config import DILATIONS, MOTION_WIDTH, N_GENRES, CdcdConfig
from loris_cli.baselines.d2mgan.networks import LEAKY_SLOPE, MotionEncoder
from loris_cli.baselines.windows import VISUAL_ROWS_PER_S
from loris_cli.config import POSE_FPS
from loris_cli.models.time_attention import embed_times


class CdcdCondition(NamedTuple):
    """Inputs of the condition encoder for a window."""

    motion: Tensor
    """Positions and velocities of joints, ``(batch, n_motion_frames, 68)``."""
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


class DilatedBlock(nn.Module):
    """Residual block with a dilated convolution over frames."""

    def __init__(self, channels: int, dilation: int) -> None:
        """Build a block."""
        super().__init__()
        self.dilated = nn.Conv1d(channels, channels, 3, dilation=dilation, padding=dilation)
        self.pointwise = nn.Conv1d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(batch, channels, frames)`` to the same shape."""
        h = functional.leaky_relu(
            self.dilated(functional.leaky_relu(x, LEAKY_SLOPE)), LEAKY_SLOPE
        )
        out: Tensor = x + self.pointwise(h)
        return out


class OneTokenCondition(nn.Module):
    """Condition of the release: one token for the entire window (docs/differences.md, X1)."""

    def __init__(self, config: CdcdConfig) -> None:
        """Build the encoders."""
        super().__init__()
        self.motion = MotionEncoder(config)
        self.genre = nn.Embedding(N_GENRES, config.genre_features)
        widths = config.motion_features, config.visual_width, config.genre_features
        self.join = nn.Linear(sum(widths), config.width)
        # The release computes both encoders without gradients (X2).
        self.motion.requires_grad_(False)
        self.genre.requires_grad_(False)

    def forward(self, condition: CdcdCondition) -> ConditionTokens:
        """Return the condition token."""
        motion = self.motion(condition.motion)[:, 0]
        parts = [motion, condition.visual.mean(dim=1), self.genre(condition.genre)]
        return ConditionTokens(self.join(torch.cat(parts, dim=1))[:, None], None)


class FrameTokensCondition(nn.Module):
    """Condition tokens with times: pose frames, rows of visual features, and the genre."""

    times: Tensor

    def __init__(self, config: CdcdConfig) -> None:
        """Build the encoders."""
        super().__init__()
        channels = config.motion_channels[-1]
        self.project = nn.Conv1d(MOTION_WIDTH, channels, 3, padding=1)
        self.motion = nn.Sequential(
            *(DilatedBlock(channels, dilation) for dilation in DILATIONS)
        )
        self.motion_out = nn.Conv1d(channels, config.motion_features, 1)
        self.motion_to_width = nn.Linear(config.motion_features, config.width)
        times_s = (np.arange(config.n_motion_frames, dtype=np.float64) + 0.5) / POSE_FPS
        self.visual: nn.Linear | None = None
        if config.visual_width:
            self.visual = nn.Linear(config.visual_width, config.width)
            rows_s = (np.arange(config.n_visual_rows) + 0.5) / VISUAL_ROWS_PER_S
            times_s = np.concatenate([times_s, rows_s])
        self.genre = nn.Embedding(N_GENRES, config.genre_features)
        self.genre_to_width = nn.Linear(config.genre_features, config.width)
        self.norm = nn.LayerNorm(config.width)
        times = functional.pad(embed_times(times_s, config.width), (0, 0, 0, 1))
        self.register_buffer("times", times, persistent=False)

    def forward(self, condition: CdcdCondition) -> ConditionTokens:
        """Return ``frames + rows + 1`` condition tokens."""
        h = self.motion_out(self.motion(self.project(condition.motion.transpose(1, 2))))
        tokens = [self.motion_to_width(h.transpose(1, 2))]
        if self.visual is not None:
            tokens.append(self.visual(condition.visual))
        tokens.append(self.genre_to_width(self.genre(condition.genre))[:, None])
        return ConditionTokens(self.norm(torch.cat(tokens, dim=1)), self.times)
