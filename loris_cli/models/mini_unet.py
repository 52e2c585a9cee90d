"""Network of the ``mini`` preset: audio-diffusion-pytorch's 1-D U-Net on latents.

As in the paper, the U-Net has cross-attention to rhythm and motion tokens. Its blocks have no
information about the absolute time of a frame, so they cannot place a beat by attention. The
tokens are therefore also attended to by time, once for all noise levels, and the result is an
input as channels aligned with the latent frames. So are rhythm and energy, the harmony, and the
latents of the note spectrogram, as far as they are known.
"""

from typing import NamedTuple

import torch
from audio_diffusion_pytorch.modules import UNet1d
from torch import Tensor, nn
from torch.nn import functional

from loris_cli.composition.production import PRODUCTION_CHANNELS
from loris_cli.config import LATENT_FPS, POSE_FPS
from loris_cli.models.condition_routes import ROUTES
from loris_cli.models.fused_attention import fuse_attention_and_norms
from loris_cli.models.hawkes import MiniRhythmEncoder
from loris_cli.models.mini_config import MiniDenoiserConfig
from loris_cli.models.stgcn import MiniMotionEncoder
from loris_cli.models.time_attention import TokenAlignment


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
    production: Tensor
    """Production of the music (`composition.production`), ``(batch, 15)``; zeros if unknown."""
    note_latent: Tensor
    """Latents of the note spectrogram, ``(batch, channels, frames)``; zeros if unknown."""
    known_routes: Tensor
    """1 for each of `ROUTES` that is known, else 0, ``(batch, routes)``."""


class EncodedMiniCondition(NamedTuple):
    """Inputs of the U-Net from a `MiniCondition`; they do not depend on the noise level."""

    tokens: Tensor
    """Rhythm and motion tokens, ``(batch, tokens, features)``."""
    aligned: Tensor
    """All channels that are aligned with the latent frames, ``(batch, channels, frames)``."""
    global_features: Tensor
    """Genre and production, ``(batch, features)``."""


class MiniDenoiser(nn.Module):
    """Raw network F of Karras et al. (2022), Eq. 7, without preconditioning."""

    def __init__(self, config: MiniDenoiserConfig) -> None:
        """Build the network with random weights."""
        super().__init__()
        self.config, features = config, config.rhythm_features
        widths = {
            "aligned_rhythm": config.rhythm_channels,
            "harmony": config.harmony_channels,
            "notes": config.note_latent_channels,
        }
        n_aligned = sum(widths.values()) + config.alignment_channels
        self.rhythm_encoder = MiniRhythmEncoder(
            features, heads=config.heads, head_features=config.head_features
        )
        self.unet = UNet1d(
            in_channels=config.latent_channels,
            **config.unet_options(),
            context_features=config.n_genres + PRODUCTION_CHANNELS,
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
        self.null_routes = nn.ParameterDict(
            {name: torch.zeros(1, width, 1) for name, width in widths.items() if width}
        )
        self.no_rhythm = nn.Parameter(torch.zeros(1, 1, features))
        self.alignment = TokenAlignment(
            features,
            config.alignment_channels,
            heads=config.heads,
            frame_rate_hz=LATENT_FPS,
            token_rate_hz=POSE_FPS,
        )

    def encode_condition(self, condition: MiniCondition) -> EncodedMiniCondition:
        """Encode a condition once for all noise levels."""
        tokens = self.rhythm_encoder(condition.peaks, condition.time_since_peak_s)
        known = condition.known_routes[:, ROUTES.index("rhythm_tokens"), None, None] > 0
        events = tokens = torch.where(known, tokens, self.no_rhythm)
        if self.config.motion_width:
            known = condition.pose.flatten(1).any(dim=1)[:, None, None]
            motion = torch.where(known, self.motion_encoder(condition.pose), self.no_motion)
            # Motion tokens are fewer: each of them covers several rhythm tokens.
            events = tokens + _resample_tokens(motion, tokens.shape[1])
            tokens = torch.cat([tokens, motion], dim=1)
        aligned = [
            *self._list_aligned_channels(condition),
            self.alignment(events, condition.aligned_rhythm.shape[2]),
        ]
        global_features = [condition.genre, condition.production]
        return EncodedMiniCondition(
            tokens, torch.cat(aligned, dim=1), torch.cat(global_features, dim=1)
        )

    def _list_aligned_channels(self, condition: MiniCondition) -> list[Tensor]:
        """Return the channels aligned with the latent frames, with null values if unknown."""
        values = {"aligned_rhythm": condition.aligned_rhythm}
        if self.config.harmony_channels:
            values["harmony"] = condition.aligned_harmony
        if self.config.note_latent_channels:
            values["notes"] = condition.note_latent
        known = {name: condition.known_routes[:, k] > 0 for k, name in enumerate(ROUTES)}
        return [
            torch.where(known[name][:, None, None], value, self.null_routes[name])
            for name, value in values.items()
        ]

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
        features = torch.where(drop_mask[:, None], 0.0, condition.global_features)
        x = self.unet(x, c_noise, features=features, channels_list=[aligned], embedding=tokens)
        return x


def _resample_tokens(tokens: Tensor, n_tokens: int) -> Tensor:
    """Return the nearest token of ``(batch, tokens, features)`` for ``n_tokens`` positions."""
    return functional.interpolate(tokens.transpose(1, 2), n_tokens).transpose(1, 2)
