"""The network of the ``mini`` preset: audio-diffusion-pytorch's 1-d U-Net on the latent code.

The paper's conditioning reaches it as cross-attention on tokens of rhythm and motion. A U-Net
has no notion of where it is in time, so attention alone cannot place a beat; the rhythm is
therefore given a second time, aligned with the code frame by frame, as channels beside the
noisy code, and with it the plan of chords and pulse and a sketch of the notes.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from audio_diffusion_pytorch.modules import UNet1d
from torch import Tensor, nn

from loris_cli.models.fused_attention import fuse_attention_and_norms
from loris_cli.models.mini_encoders import MiniMotionEncoder, MiniRhythmEncoder
from loris_cli.models.unet_options import make_unet_options


@dataclass(frozen=True, kw_only=True)
class MiniDenoiserConfig:
    """Sizes of the U-Net and of its conditioning."""

    latent_channels: int = 32
    rhythm_channels: int = 20
    harmony_channels: int = 0
    """32, or 0 for a network that is told of no plan."""
    motion_width: int = 0
    """Of the encoder of motion, 0 for none."""
    note_latent_channels: int = 0
    """Those of the code, or 0 for a network that is told of no notes."""
    trained_with_harmony: bool = True
    trained_with_notes: bool = True
    """False if no clip that it learned from told any; a soundtrack tells it none, then."""
    timing_jitter_channels: int = 0
    """1 if the network is told how loosely a body keeps time."""
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
    """Frames of the code that it is trained on, and asked for, at a time."""

    @property
    def stride(self) -> int:
        """What the number of code frames must be a multiple of."""
        return int(torch.tensor(self.factors).prod())


class MiniCondition(NamedTuple):
    """What the network is told about a stretch of code frames."""

    aligned_rhythm: Tensor
    """Rhythm and energy on the code's own time, ``(batch, 20, frames)``."""
    peaks: Tensor
    """1 where a peak is, ``(batch, tokens)`` at 16 Hz."""
    time_since_peak_s: Tensor
    """Time since the last peak, ``(batch, tokens)``."""
    genre: Tensor
    """One-hot, ``(batch, n_genres)``; zeros where the style is free."""
    aligned_harmony: Tensor
    """Chords and pulse on the code's own time, ``(batch, 32, frames)``; zeros if unknown."""
    pose: Tensor
    """The body, ``(batch, tokens, 17, 3)`` at 16 Hz; zeros where it is not known."""
    timing_jitter: Tensor
    """How far peaks may lie from what they are meant for, ``(batch, 1)``, 0..1."""
    note_latent: Tensor
    """Code of what the notes would about sound like, ``(batch, channels, frames)``; zeros if
    they are unknown."""


class MiniDenoiser(nn.Module):
    """F of Karras et al. (2022), Eq. 7: raw network, without preconditioning."""

    def __init__(self, config: MiniDenoiserConfig) -> None:
        """Make a network of these sizes, with random weights."""
        super().__init__()
        self.config = config
        n_aligned = (
            config.rhythm_channels + config.harmony_channels + config.note_latent_channels
        )
        self.rhythm_encoder = MiniRhythmEncoder(
            config.rhythm_features, heads=config.heads, head_features=config.head_features
        )
        self.unet = UNet1d(
            in_channels=config.latent_channels,
            patch_factor=1,
            **make_unet_options(config),
            context_features=config.n_genres + config.timing_jitter_channels,
            context_channels=[n_aligned],
            context_embedding_features=config.rhythm_features,
        )
        fuse_attention_and_norms(self.unet)
        # What stands for "no condition" in guidance; learned, where the released code takes
        # the one-hot of an arg-max that never sees a gradient (M9).
        self.null_aligned = nn.Parameter(torch.zeros(1, n_aligned, 1))
        self.null_token = nn.Parameter(torch.zeros(1, 1, config.rhythm_features))
        if config.motion_width:
            self.motion_encoder = MiniMotionEncoder(
                config.rhythm_features, width=config.motion_width
            )
            self.no_motion = nn.Parameter(torch.zeros(1, 1, config.rhythm_features))

    def forward(
        self, x: Tensor, c_noise: Tensor, condition: MiniCondition, drop_mask: Tensor
    ) -> Tensor:
        """Evaluate the network.

        Args:
            x: scaled noisy code, ``(batch, 32, frames)``, frames a multiple of 8.
            c_noise: noise level as the network sees it, ``(batch,)``.
            condition: of the same batch and frames.
            drop_mask: where the null condition is used instead, ``(batch,)`` bool.

        Returns:
            ``(batch, 32, frames)``
        """
        tokens = self.rhythm_encoder(condition.peaks, condition.time_since_peak_s)
        if self.config.motion_width:
            known = condition.pose.flatten(1).any(dim=1)[:, None, None]
            motion = self.motion_encoder(condition.pose)
            tokens = torch.cat([tokens, torch.where(known, motion, self.no_motion)], dim=1)
        aligned, genre = condition.aligned_rhythm, condition.genre
        if self.config.harmony_channels:
            aligned = torch.cat([aligned, condition.aligned_harmony], dim=1)
        if self.config.note_latent_channels:
            aligned = torch.cat([aligned, condition.note_latent], dim=1)
        if self.config.timing_jitter_channels:
            genre = torch.cat([genre, condition.timing_jitter], dim=1)
        drop = drop_mask[:, None, None]
        tokens = torch.where(drop, self.null_token, tokens)
        aligned = torch.where(drop, self.null_aligned, aligned)
        genre = torch.where(drop_mask[:, None], 0.0, genre)
        out: Tensor = self.unet(
            x, c_noise, features=genre, channels_list=[aligned], embedding=tokens
        )
        return out
