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

from loris_cli.models.fused_attention import fuse
from loris_cli.models.mini_encoders import MotionEncoder, RhythmEncoder
from loris_cli.models.unet_options import options


@dataclass(frozen=True, kw_only=True)
class DenoiserConfig:
    """Sizes of the U-Net and of its conditioning."""

    code_channels: int = 32
    aligned_channels: int = 20
    harmony_channels: int = 0
    """32, or 0 for a network that is told of no plan."""
    motion_width: int = 0
    """Of the encoder of motion, 0 for none."""
    sketch_channels: int = 0
    """Those of the code, or 0 for a network that is told of no notes."""
    learned_chords: bool = True
    learned_notes: bool = True
    """False if no clip that it learned from told any; a soundtrack tells it none, then."""
    told_looseness: int = 0
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
    window: int = 256
    """Frames of the code that it is trained on, and asked for, at a time."""

    @property
    def stride(self) -> int:
        """What the number of code frames must be a multiple of."""
        return int(torch.tensor(self.factors).prod())


class Condition(NamedTuple):
    """What the network is told about a stretch of code frames."""

    aligned: Tensor
    """Rhythm and energy on the code's own time, ``(batch, 20, frames)``."""
    peaks: Tensor
    """1 where a peak is, ``(batch, tokens)`` at 16 Hz."""
    interval_s: Tensor
    """Time since the last peak, ``(batch, tokens)``."""
    genre: Tensor
    """One-hot, ``(batch, n_genres)``; zeros where the style is free."""
    harmony: Tensor
    """Chords and pulse on the code's own time, ``(batch, 32, frames)``; zeros if unknown."""
    motion: Tensor
    """The body, ``(batch, tokens, 17, 3)`` at 16 Hz; zeros where it is not known."""
    looseness: Tensor
    """How far peaks may lie from what they are meant for, ``(batch, 1)``, 0..1."""
    sketch: Tensor
    """Code of what the notes would about sound like, ``(batch, channels, frames)``; zeros if
    they are unknown."""


class MiniDenoiser(nn.Module):
    """F of Karras et al. (2022), Eq. 7: raw network, without preconditioning."""

    def __init__(self, config: DenoiserConfig) -> None:
        """Make a network of these sizes, with random weights."""
        super().__init__()
        self.config = config
        n_aligned = config.aligned_channels + config.harmony_channels + config.sketch_channels
        self.rhythm_encoder = RhythmEncoder(
            config.rhythm_features, heads=config.heads, head_features=config.head_features
        )
        self.unet = UNet1d(
            in_channels=config.code_channels,
            patch_factor=1,
            **options(config),
            context_features=config.n_genres + config.told_looseness,
            context_channels=[n_aligned],
            context_embedding_features=config.rhythm_features,
        )
        fuse(self.unet)
        # What stands for "no condition" in guidance; learned, where the released code takes
        # the one-hot of an arg-max that never sees a gradient (M9).
        self.null_aligned = nn.Parameter(torch.zeros(1, n_aligned, 1))
        self.null_token = nn.Parameter(torch.zeros(1, 1, config.rhythm_features))
        if config.motion_width:
            self.motion_encoder = MotionEncoder(
                config.rhythm_features, width=config.motion_width
            )
            self.no_motion = nn.Parameter(torch.zeros(1, 1, config.rhythm_features))

    def forward(
        self, x: Tensor, c_noise: Tensor, condition: Condition, dropped: Tensor
    ) -> Tensor:
        """Evaluate the network.

        Args:
            x: scaled noisy code, ``(batch, 32, frames)``, frames a multiple of 8.
            c_noise: noise level as the network sees it, ``(batch,)``.
            condition: of the same batch and frames.
            dropped: where the null condition is used instead, ``(batch,)`` bool.

        Returns:
            ``(batch, 32, frames)``
        """
        tokens = self.rhythm_encoder(condition.peaks, condition.interval_s)
        if self.config.motion_width:
            known = condition.motion.flatten(1).any(dim=1)[:, None, None]
            motion = self.motion_encoder(condition.motion)
            tokens = torch.cat([tokens, torch.where(known, motion, self.no_motion)], dim=1)
        aligned, genre = condition.aligned, condition.genre
        if self.config.harmony_channels:
            aligned = torch.cat([aligned, condition.harmony], dim=1)
        if self.config.sketch_channels:
            aligned = torch.cat([aligned, condition.sketch], dim=1)
        if self.config.told_looseness:
            genre = torch.cat([genre, condition.looseness], dim=1)
        drop = dropped[:, None, None]
        tokens = torch.where(drop, self.null_token, tokens)
        aligned = torch.where(drop, self.null_aligned, aligned)
        genre = torch.where(dropped[:, None], 0.0, genre)
        out: Tensor = self.unet(
            x, c_noise, features=genre, channels_list=[aligned], embedding=tokens
        )
        return out
