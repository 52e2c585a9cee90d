"""Network of the ``mini`` preset: audio-diffusion-pytorch's 1-D U-Net on latents.

As in the paper, the U-Net has cross-attention to rhythm and motion tokens. It has no
information about the absolute time of a frame, so attention alone cannot place a beat. The
rhythm is therefore also an input as channels aligned with the latent frames, and so are the
harmony and the latents of the note spectrogram.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from audio_diffusion_pytorch.modules import UNet1d
from torch import Tensor, nn

from loris_cli.models.fused_attention import fuse_attention_and_norms
from loris_cli.models.hawkes import MiniRhythmEncoder
from loris_cli.models.stgcn import MiniMotionEncoder
from loris_cli.models.unet_config import UNetConfig


@dataclass(frozen=True, kw_only=True)
class MiniDenoiserConfig(UNetConfig):
    """Sizes of the U-Net and its conditioning; 0 disables a condition."""

    latent_channels: int = 32
    rhythm_channels: int = 20
    harmony_channels: int = 0
    """32, or 0 without harmony conditioning."""
    motion_width: int = 0
    """Width of the motion encoder, or 0 for none."""
    note_latent_channels: int = 0
    """Channels of the note spectrogram's latents, or 0 without note conditioning."""
    trained_with_harmony: bool = True
    trained_with_notes: bool = True
    """These are False if no training clip had harmony or notes; generation then omits them."""
    timing_jitter_channels: int = 0
    """1 with the timing jitter as a condition, else 0."""
    n_genres: int = 12
    channels: int = 160
    multipliers: tuple[int, ...] = (1, 1, 2, 2)
    factors: tuple[int, ...] = (2, 2, 2)
    num_blocks: tuple[int, ...] = (2, 2, 2)
    attentions: tuple[bool, ...] = (False, True, True)
    heads: int = 5
    head_features: int = 32
    rhythm_features: int = 160
    window_frames: int = 256
    """Length of a training example and of a generation window, in latent frames."""


class MiniCondition(NamedTuple):
    """Conditioning tensors of a window of latent frames."""

    aligned_rhythm: Tensor
    """Rhythm and energy aligned with the latent frames, ``(batch, 20, frames)``."""
    peaks: Tensor
    """1 at a peak, else 0, ``(batch, tokens)`` at 16 Hz."""
    time_since_peak_s: Tensor
    """Time since the last peak, ``(batch, tokens)``."""
    genre: Tensor
    """One-hot, ``(batch, n_genres)``; zeros if no style is given."""
    aligned_harmony: Tensor
    """Chords and beats aligned with the latent frames, ``(batch, 32, frames)``; zeros if
    unknown."""
    pose: Tensor
    """Normalized poses, ``(batch, tokens, 17, 3)`` at 16 Hz; zeros if unknown."""
    timing_jitter: Tensor
    """Timing deviation of the peaks from the accents, ``(batch, 1)``, 0 (none) to 1 (40 ms)."""
    note_latent: Tensor
    """Latents of the note spectrogram, ``(batch, channels, frames)``; zeros if unknown."""


class EncodedMiniCondition(NamedTuple):
    """Inputs of the U-Net from a `MiniCondition`; they do not depend on the noise level."""

    tokens: Tensor
    """Rhythm and motion tokens, ``(batch, tokens, features)``."""
    aligned: Tensor
    """All channels that are aligned with the latent frames, ``(batch, channels, frames)``."""
    genre: Tensor
    """Genre and timing jitter, ``(batch, n_genres + timing_jitter_channels)``."""


class MiniDenoiser(nn.Module):
    """Raw network F of Karras et al. (2022), Eq. 7, without preconditioning."""

    def __init__(self, config: MiniDenoiserConfig) -> None:
        """Build the network with random weights."""
        super().__init__()
        self.config, features = config, config.rhythm_features
        n_aligned = (
            config.rhythm_channels + config.harmony_channels + config.note_latent_channels
        )
        self.rhythm_encoder = MiniRhythmEncoder(
            features, heads=config.heads, head_features=config.head_features
        )
        self.unet = UNet1d(
            in_channels=config.latent_channels,
            **config.unet_options(),
            context_features=config.n_genres + config.timing_jitter_channels,
            context_channels=[n_aligned],
            context_embedding_features=features,
        )
        fuse_attention_and_norms(self.unet)
        # Learned null conditions for guidance. The released code uses a one-hot arg-max
        # instead, which receives no gradient (docs/differences.md, M9).
        self.null_aligned = nn.Parameter(torch.zeros(1, n_aligned, 1))
        self.null_token = nn.Parameter(torch.zeros(1, 1, features))
        if config.motion_width:
            self.motion_encoder = MiniMotionEncoder(features, width=config.motion_width)
            self.no_motion = nn.Parameter(torch.zeros(1, 1, features))

    def encode_condition(self, condition: MiniCondition) -> EncodedMiniCondition:
        """Encode a condition once for all noise levels."""
        tokens = self.rhythm_encoder(condition.peaks, condition.time_since_peak_s)
        if self.config.motion_width:
            known = condition.pose.flatten(1).any(dim=1)[:, None, None]
            motion = self.motion_encoder(condition.pose)
            tokens = torch.cat([tokens, torch.where(known, motion, self.no_motion)], dim=1)
        channels, genre = [condition.aligned_rhythm], condition.genre
        if self.config.harmony_channels:
            channels.append(condition.aligned_harmony)
        if self.config.note_latent_channels:
            channels.append(condition.note_latent)
        if self.config.timing_jitter_channels:
            genre = torch.cat([genre, condition.timing_jitter], dim=1)
        return EncodedMiniCondition(tokens, torch.cat(channels, dim=1), genre)

    def forward(
        self,
        x: Tensor,
        c_noise: Tensor,
        condition: MiniCondition | EncodedMiniCondition,
        drop_mask: Tensor,
    ) -> Tensor:
        """Evaluate the network.

        Args:
            x: scaled noisy latents, ``(batch, latent_channels, frames)``; ``frames`` must be a
                multiple of 8.
            c_noise: scaled noise level, ``(batch,)``.
            condition: conditioning tensors of the same batch and frames, or their encoding.
            drop_mask: where to use the null condition instead, ``(batch,)`` bool.

        Returns:
            ``(batch, latent_channels, frames)``
        """
        if isinstance(condition, MiniCondition):
            condition = self.encode_condition(condition)
        drop = drop_mask[:, None, None]
        tokens = torch.where(drop, self.null_token, condition.tokens)
        aligned = torch.where(drop, self.null_aligned, condition.aligned)
        genre = torch.where(drop_mask[:, None], 0.0, condition.genre)
        x = self.unet(x, c_noise, features=genre, channels_list=[aligned], embedding=tokens)
        return x
