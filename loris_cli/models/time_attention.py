"""Attention between sequences of different rates, by time.

Queries and keys contain embedded times, so that attention can find the tokens of a frame.
"""

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from loris_cli.array_types import Array

MIN_FREQUENCY_HZ, MAX_FREQUENCY_HZ = 0.05, 8.0
"""Frequencies of the time embedding: periods from 20 s to two pose frames."""
INITIAL_TIME_LOGIT = 4.0
"""Initial logit of the attention between two positions of the same time."""


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


def initialize_local_attention(query: nn.Linear, key: nn.Linear, *, heads: int) -> None:
    """Initialize projections of times so that attention prefers equal times.

    Queries and keys begin with the same projection, so that their product has its maximum where
    the embedded times are equal. With independent projections the networks need more than a
    thousand steps to find the tokens of a time.
    """
    width = query.in_features
    # The logit is the mean square of the projected times by the root of the head's width.
    std = math.sqrt(INITIAL_TIME_LOGIT / (width * math.sqrt(width / heads)))
    if not query.weight.is_meta:
        nn.init.normal_(query.weight, std=std)
        key.weight.detach().copy_(query.weight.detach())


class TokenAlignment(nn.Module):
    """Cross-attention from the frames of a signal to tokens of another rate."""

    def __init__(
        self,
        features: int,
        channels: int,
        *,
        heads: int,
        frame_rate_hz: float,
        token_rate_hz: float,
    ) -> None:
        """Build the attention.

        Args:
            features: width of the tokens.
            channels: channels of the output.
            heads: attention heads.
            frame_rate_hz: frames per second.
            token_rate_hz: tokens per second.
        """
        super().__init__()
        self.heads, self.frame_rate_hz, self.token_rate_hz = heads, frame_rate_hz, token_rate_hz
        self.query = nn.Linear(features, features)
        self.key = nn.Linear(features, features)
        self.token_key = nn.Linear(features, features, bias=False)
        self.value = nn.Linear(features, features)
        self.out = nn.Linear(features, channels)
        initialize_local_attention(self.query, self.key, heads=heads)
        if not self.token_key.weight.is_meta:
            nn.init.zeros_(self.token_key.weight)

    def forward(self, tokens: Tensor, n_frames: int) -> Tensor:
        """Return the attended tokens of each frame.

        Args:
            tokens: ``(batch, tokens, features)``, the first one at the time of the first frame.
            n_frames: number of frames.

        Returns:
            ``(batch, channels, n_frames)``
        """
        width = tokens.shape[2]
        query = self.query(self._embed(n_frames, self.frame_rate_hz, width).to(tokens))[None]
        key = self.key(self._embed(tokens.shape[1], self.token_rate_hz, width).to(tokens))
        heads = [
            h.reshape(len(h), h.shape[1], self.heads, -1).transpose(1, 2)
            for h in (
                query.expand(len(tokens), -1, -1),
                key + self.token_key(tokens),
                self.value(tokens),
            )
        ]
        attended = functional.scaled_dot_product_attention(*heads)
        out: Tensor = self.out(attended.transpose(1, 2).flatten(2)).transpose(1, 2)
        return out

    @staticmethod
    def _embed(n: int, rate_hz: float, width: int) -> Tensor:
        return embed_times((np.arange(n, dtype=np.float64) + 0.5) / rate_hz, width)
