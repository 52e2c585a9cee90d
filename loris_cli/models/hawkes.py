"""Rhythm encoders: peak tokens with Hawkes positional encoding (Sec. 3.3, Eq. 9 and 10).

    peaks -> embedding + positional encoding, phase shifted by peaks -> transformer -> tokens

In the paper's network every block has its own encoder, with the parameter names of the released
checkpoints. In ``mini`` all blocks share one small encoder.
"""

import torch
from audio_diffusion_pytorch import modules as adp
from torch import Tensor, nn

from loris_cli.config import POSE_FPS
from loris_cli.models.paper_config import HawkesPhase, PaperConfig

KERNEL_DECAY_S = 0.5
"""Time constant of the excitation that follows a peak, for ``hawkes_phase`` "kernel"."""


def sinusoid_frequencies(features: int) -> Tensor:
    """Return the frequencies of a sinusoidal encoding, ``(features / 2,)`` (Eq. 9)."""
    even = torch.arange(0, features, 2, device="cpu")  # a constant, also in `empty_networks`
    frequency: Tensor = 10_000.0 ** -(even / features)
    return frequency


class HawkesEncoding(nn.Module):
    """Sinusoidal positional encoding whose phase depends on the peaks (Eq. 9).

    Sines come first, then cosines, as in the released checkpoints (docs/differences.md, M2).
    """

    position: Tensor
    div_term: Tensor

    def __init__(self, features: int, max_steps: int, hawkes: HawkesPhase) -> None:
        """Build the encoding; ``features`` must be even."""
        super().__init__()
        self.hawkes = hawkes
        self.register_buffer("position", torch.arange(max_steps, device="cpu").float()[:, None])
        self.register_buffer("div_term", sinusoid_frequencies(features))
        if hawkes != "none":
            self.Wt = nn.Linear(1, features // 2, bias=False)

    def forward(self, rhythm: Tensor) -> Tensor:
        """Return the encoding, ``(batch, steps, features)``, of peaks ``(batch, steps)``."""
        phase = self.position[: rhythm.shape[1]] * self.div_term
        if self.hawkes != "none":
            phase = phase + self.Wt(self.phase_offsets(rhythm)[..., None])
        else:
            phase = phase.expand(len(rhythm), -1, -1)
        return torch.cat([phase.sin(), phase.cos()], dim=-1)

    def phase_offsets(self, rhythm: Tensor) -> Tensor:
        """Return the phase offset of each step before its learned scale, ``(batch, steps)``."""
        peaks = (rhythm > 0.5).to(self.div_term.dtype)
        if self.hawkes == "constant":
            return torch.ones_like(peaks)
        index = torch.arange(rhythm.shape[1], device=rhythm.device).to(peaks)
        if self.hawkes == "kernel":
            age_s = (index[:, None] - index) / POSE_FPS
            traces = torch.where(age_s >= 0, (-age_s.clamp(min=0) / KERNEL_DECAY_S).exp(), 0.0)
            return peaks @ traces.T
        last = torch.where(peaks > 0, index, -1.0).cummax(dim=1).values
        return torch.where(last >= 0, index - last, 0.0) / POSE_FPS


class PreNormTransformerBlock(nn.Module):
    """Pre-norm transformer block with full self-attention (Eq. 10)."""

    def __init__(self, features: int, *, heads: int, head_features: int) -> None:
        """Build a block for tokens of width ``features``."""
        super().__init__()
        self.attention = adp.Attention(features, num_heads=heads, head_features=head_features)
        feed_forward = adp.FeedForward1d(features, 2)
        self.feed_forward = adp.EinopsToAndFrom("b l c", "b c l", feed_forward)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(batch, steps, features)`` to the same shape."""
        x = self.attention(x) + x
        out: Tensor = self.feed_forward(x) + x
        return out


class PaperRhythmEncoder(nn.Module):
    """Rhythm encoder of the paper: embedding, Hawkes encoding, transformer (Sec. 3.3)."""

    def __init__(self, config: PaperConfig) -> None:
        """Build the encoder with random weights."""
        super().__init__()
        self.config, features = config, config.context_features
        self.embedding = nn.Embedding(2, features)
        if config.positional_encoding:
            self.pos_emb = HawkesEncoding(features, config.n_pose_frames, config.hawkes_phase)
        self.transformer = PreNormTransformerBlock(
            features, heads=config.heads, head_features=config.head_features
        )

    def forward(self, rhythm: Tensor) -> Tensor:
        """Return tokens ``(batch, steps, features)`` of peaks ``(batch, steps)`` in 0..1."""
        no_peak, peak = self.embedding.weight
        weight = rhythm[..., None].to(peak)
        tokens = ((1 - weight) * no_peak + weight * peak) * self.config.rhythm_embedding_scale
        if self.config.positional_encoding:
            tokens = tokens + self.pos_emb(rhythm)
        encoded: Tensor = self.transformer(tokens)
        return encoded


class MiniHawkesEncoding(nn.Module):
    """Positional encoding whose phase is shifted by the time since the last peak (Eq. 9).

    Sines come first, then cosines, the layout of the released checkpoints. Those were trained
    with a constant interval of one, which does not depend on the peaks; this encoding follows
    the paper's text (docs/differences.md, M1).
    """

    frequencies: Tensor

    def __init__(self, features: int) -> None:
        """Build the encoding; ``features`` must be even."""
        super().__init__()
        self.register_buffer("frequencies", sinusoid_frequencies(features))
        self.Wt = nn.Linear(1, features // 2, bias=False)

    def forward(self, interval_s: Tensor) -> Tensor:
        """Return the encoding, ``(batch, tokens, features)``, of intervals in seconds."""
        index = torch.arange(interval_s.shape[1], device=interval_s.device)
        phase = index[:, None] * self.frequencies + self.Wt(interval_s[..., None])
        return torch.cat([phase.sin(), phase.cos()], dim=-1)


class MiniRhythmEncoder(nn.Module):
    """Rhythm encoder of ``mini``: embedding, Hawkes encoding, transformer (Eq. 10).

    All blocks of the U-Net share one encoder (docs/differences.md, M4). The embedding is not
    multiplied by the square root of its width, which would mask the positional encoding
    (docs/differences.md, M3).
    """

    def __init__(self, features: int, *, heads: int, head_features: int) -> None:
        """Build an encoder for tokens of width ``features``."""
        super().__init__()
        self.embedding = nn.Embedding(2, features)
        self.pos_emb = MiniHawkesEncoding(features)
        self.transformer = adp.TransformerBlock1d(
            channels=features, num_heads=heads, head_features=head_features, multiplier=2
        )

    def forward(self, peaks: Tensor, interval_s: Tensor) -> Tensor:
        """Return tokens for cross-attention.

        Args:
            peaks: 1 at a peak, else 0, ``(batch, tokens)`` at 16 Hz.
            interval_s: time since the last peak in seconds, ``(batch, tokens)``.

        Returns:
            ``(batch, tokens, features)``
        """
        tokens = self.embedding(peaks.long()) + self.pos_emb(interval_s)
        encoded: Tensor = self.transformer(tokens.transpose(1, 2)).transpose(1, 2)
        return encoded
