"""The paper's encoder of rhythm at full size, one for each block (Sec. 3.3, Eq. 9 and 10).

    peaks -> embedding + position, its phase shifted by the peaks -> transformer -> tokens

Parameters are named as in the released checkpoints. `encoders` has the light
one that `mini` shares among its blocks.
"""

from typing import Literal

import torch
from audio_diffusion_pytorch.modules import Attention, EinopsToAndFrom, FeedForward1d
from torch import Tensor, nn

from loris_cli.config import POSE_FPS
from loris_cli.models.mini_encoders import sinusoid_frequencies

HawkesPhase = Literal["interval", "constant", "kernel", "none"]
EXCITATION_DECAY_S = 0.5
"""Time constant of the excitation that `kernel` lets a peak leave behind."""


class HawkesEncoding(nn.Module):
    """A sinusoid of position whose phase depends on the peaks (Eq. 9).

    Sines first, then cosines, as in the released checkpoints (M2).
    """

    position: Tensor
    div_term: Tensor

    def __init__(self, features: int, max_steps: int, hawkes: HawkesPhase) -> None:
        """Make the sinusoid of a width, which is even."""
        super().__init__()
        self.hawkes = hawkes
        self.register_buffer("position", torch.arange(max_steps).float()[:, None])
        self.register_buffer("div_term", sinusoid_frequencies(features))
        if hawkes != "none":
            self.Wt = nn.Linear(1, features // 2, bias=False)

    def forward(self, rhythm: Tensor) -> Tensor:
        """Positions ``(batch, steps, features)`` of peaks ``(batch, steps)``."""
        phase = self.position[: rhythm.shape[1]] * self.div_term
        if self.hawkes != "none":
            phase = phase + self.Wt(self.phase_offsets(rhythm)[..., None])
        else:
            phase = phase.expand(len(rhythm), -1, -1)
        return torch.cat([phase.sin(), phase.cos()], dim=-1)

    def phase_offsets(self, rhythm: Tensor) -> Tensor:
        """What moves the phase at each step, ``(batch, steps)``."""
        peaks = (rhythm > 0.5).to(self.div_term.dtype)
        if self.hawkes == "constant":
            return torch.ones_like(peaks)
        index = torch.arange(rhythm.shape[1], device=rhythm.device).to(peaks)
        if self.hawkes == "kernel":
            ago = (index[:, None] - index) / POSE_FPS
            traces = torch.where(
                ago >= 0, torch.exp(-ago.clamp(min=0) / EXCITATION_DECAY_S), 0.0
            )
            return peaks @ traces.T
        last = torch.where(peaks > 0, index, -1.0).cummax(dim=1).values
        return torch.where(last >= 0, index - last, 0.0) / POSE_FPS


class PreNormTransformerBlock(nn.Module):
    """One pre-norm transformer block, every step seeing all (Eq. 10)."""

    def __init__(self, features: int, *, heads: int, head_features: int) -> None:
        """Make a block of a width."""
        super().__init__()
        self.attention = Attention(features, num_heads=heads, head_features=head_features)
        self.feed_forward = EinopsToAndFrom("b l c", "b c l", FeedForward1d(features, 2))

    def forward(self, x: Tensor) -> Tensor:
        """``(batch, steps, features)`` to the same."""
        x = self.attention(x) + x
        out: Tensor = self.feed_forward(x) + x
        return out


class PaperRhythmEncoder(nn.Module):
    """Peaks as tokens: embedding, Hawkes position, a transformer block (Sec. 3.3)."""

    def __init__(
        self,
        features: int,
        *,
        max_steps: int,
        heads: int,
        head_features: int,
        hawkes: HawkesPhase | None,
        embedding_scale: float,
    ) -> None:
        """Make the encoder that one block has for itself.

        Args:
            features: width of a token.
            max_steps: the longest rhythm.
            heads: of the attention.
            head_features: of each head.
            hawkes: what shifts the phase of a position; None is no position at all.
            embedding_scale: of the embedding.
        """
        super().__init__()
        self.scale, self.positions = embedding_scale, hawkes is not None
        self.embedding = nn.Embedding(2, features)
        if hawkes is not None:
            self.pos_emb = HawkesEncoding(features, max_steps, hawkes)
        self.transformer = PreNormTransformerBlock(
            features, heads=heads, head_features=head_features
        )

    def forward(self, rhythm: Tensor) -> Tensor:
        """Tokens ``(batch, steps, features)`` of peaks ``(batch, steps)``, 0..1."""
        none, peak = self.embedding.weight
        share = rhythm[..., None].to(peak)
        tokens = ((1 - share) * none + share * peak) * self.scale
        if self.positions:
            tokens = tokens + self.pos_emb(rhythm)
        encoded: Tensor = self.transformer(tokens)
        return encoded
