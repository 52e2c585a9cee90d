"""The paper's encoder of rhythm: peaks as tokens, with Hawkes positions (Sec. 3.3)."""

import torch
from audio_diffusion_pytorch.modules import TransformerBlock1d
from torch import Tensor, nn


class HawkesPosition(nn.Module):
    """A sinusoid of position, its phase shifted by the time since the last peak (Eq. 9).

    Sines first, then cosines: the layout of the released checkpoints. They were trained on
    a constant interval of one, which says nothing of the peaks; ours is the one the text asks
    for, the seconds since the last peak.
    """

    frequencies: Tensor

    def __init__(self, features: int) -> None:
        """Make the sinusoid of a width, which is even."""
        super().__init__()
        exponent = torch.arange(0, features, 2) / features
        self.register_buffer("frequencies", 10_000.0**-exponent)
        self.Wt = nn.Linear(1, features // 2, bias=False)

    def forward(self, interval_s: Tensor) -> Tensor:
        """Positions ``(batch, tokens, features)`` from seconds ``(batch, tokens)``."""
        index = torch.arange(interval_s.shape[1], device=interval_s.device)
        phase = index[:, None] * self.frequencies + self.Wt(interval_s[..., None])
        return torch.cat([phase.sin(), phase.cos()], dim=-1)


class RhythmEncoder(nn.Module):
    """Peaks as tokens: embedding, Hawkes position, one transformer block (Eq. 10).

    One encoder is shared by all blocks of the U-Net (the light option of the
    specification, M4); the embedding is not scaled up by the root of its width (M3),
    which would drown the positions.
    """

    def __init__(self, features: int, *, heads: int, head_features: int) -> None:
        """Make an encoder of tokens of a width."""
        super().__init__()
        self.embedding = nn.Embedding(2, features)
        self.pos_emb = HawkesPosition(features)
        self.transformer = TransformerBlock1d(
            channels=features, num_heads=heads, head_features=head_features, multiplier=2
        )

    def forward(self, peaks: Tensor, interval_s: Tensor) -> Tensor:
        """Tokens to attend to.

        Args:
            peaks: 1 where a peak is, else 0, ``(batch, tokens)`` at 16 Hz.
            interval_s: time since the last peak, ``(batch, tokens)``.

        Returns:
            ``(batch, tokens, features)``
        """
        tokens = self.embedding(peaks.long()) + self.pos_emb(interval_s)
        encoded: Tensor = self.transformer(tokens.transpose(1, 2)).transpose(1, 2)
        return encoded
