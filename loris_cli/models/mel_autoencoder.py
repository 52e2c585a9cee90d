"""Mel autoencoder: the latents in which the diffusion of ``mini`` runs.

    log-mel (n_mels, frames) -> mean, log-variance -> z (channels, frames / 4) -> log-mel

A variational autoencoder (Kingma and Welling, 2014) of ConvNeXt blocks (Liu et al., 2022) along
time. The released LORIS has no latent at all: its diffusion runs on the waveform (the paper's
"latent encoder" is the U-Net's patcher). On a CPU a waveform of 25 s is out of reach, so this
preset is our own; one latent frame is 1,024 samples, 46 ms.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from loris_cli.audio.mel import MelConfig


@dataclass(frozen=True, kw_only=True)
class MelAutoencoderConfig:
    """Sizes of the autoencoder."""

    n_mels: int = 128
    n_fft: int = 1024
    latent_channels: int = 32
    width: int = 272
    expansion: int = 3
    n_blocks: int = 3
    """Blocks of the encoder, at the rate of the latents; the decoder has two more."""

    stride = 4
    """Log-mel frames of one latent frame."""

    def __post_init__(self) -> None:
        """Check the mel bands.

        Raises:
            ValueError: the bands are impossible.
        """
        _ = self.bands

    @property
    def bands(self) -> MelConfig:
        """Mel bands of the encoded frames."""
        return MelConfig(n_fft=self.n_fft, n_mels=self.n_mels)


class ConvNextBlock(nn.Module):
    """Residual block along time."""

    def __init__(self, width: int, expansion: int) -> None:
        """Make a block that is close to the identity at first."""
        super().__init__()
        self.depthwise = nn.Conv1d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width)
        self.widen = nn.Linear(width, expansion * width)
        self.narrow = nn.Linear(expansion * width, width)
        self.gain = nn.Parameter(torch.full((width,), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        """``(batch, width, frames)`` to the same."""
        h = self.norm(self.depthwise(x).transpose(1, 2))
        h = self.narrow(functional.gelu(self.widen(h))) * self.gain
        out: Tensor = x + h.transpose(1, 2)
        return out


class MelAutoencoder(nn.Module):
    """The autoencoder, with the statistics that scale log-mel and latents to unit variance."""

    mel_mean: Tensor
    mel_std: Tensor
    code_mean: Tensor
    code_std: Tensor

    def __init__(self, config: MelAutoencoderConfig) -> None:
        """Make an autoencoder of these sizes, with random weights."""
        super().__init__()
        self.config = config
        width, patch = config.width, config.n_mels * config.stride

        def make_blocks(n: int) -> list[nn.Module]:
            return [ConvNextBlock(width, config.expansion) for _ in range(n)]

        self.encoder = nn.Sequential(
            FramesToPatches(),
            nn.Conv1d(patch, width, 3, padding=1),
            *make_blocks(config.n_blocks),
            nn.Conv1d(width, 2 * config.latent_channels, 1),
        )
        self.decoder = nn.Sequential(
            nn.Conv1d(config.latent_channels, width, 3, padding=1),
            *make_blocks(config.n_blocks + 2),
            nn.Conv1d(width, patch, 3, padding=1),
            PatchesToFrames(),
        )
        self.register_buffer("mel_mean", torch.zeros(config.n_mels, 1))
        self.register_buffer("mel_std", torch.ones(()))
        self.register_buffer("code_mean", torch.zeros(config.latent_channels, 1))
        self.register_buffer("code_std", torch.ones(config.latent_channels, 1))

    def encode_posterior(self, log_mel: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance of the latents, before they are scaled to unit variance.

        Args:
            log_mel: ``(batch, n_mels, frames)``, frames a multiple of 4.

        Returns:
            two of ``(batch, channels, frames / 4)``.
        """
        mean, log_variance = self.encoder((log_mel - self.mel_mean) / self.mel_std).chunk(2, 1)
        return mean, log_variance.clamp(-10, 4)

    def decode_unnormalized(self, latents: Tensor) -> Tensor:
        """Return the log-mel frames of latents as `encode_posterior` returns them."""
        frames: Tensor = self.decoder(latents) * self.mel_std + self.mel_mean
        return frames

    def encode(self, log_mel: Tensor) -> Tensor:
        """Return the latents of log-mel frames, of unit variance over the training set."""
        return (self.encode_posterior(log_mel)[0] - self.code_mean) / self.code_std

    def decode(self, latents: Tensor) -> Tensor:
        """Return log-mel frames, ``(batch, n_mels, 4 * frames)``, of unit-variance latents."""
        return self.decode_unnormalized(latents * self.code_std + self.code_mean)

    @property
    def receptive_margin_frames(self) -> int:
        """Latent frames on either side that a decoded frame can depend on.

        The decoder has blocks of kernel 7 and two convolutions of kernel 3.
        """
        return 3 * (self.config.n_blocks + 2) + 2


class FramesToPatches(nn.Module):
    """``(batch, mels, 4 frames)`` to ``(batch, 4 mels, frames)``."""

    def forward(self, x: Tensor) -> Tensor:
        """Stack the frames of each patch as channels."""
        patches = x.reshape(*x.shape[:2], -1, MelAutoencoderConfig.stride)
        return patches.transpose(2, 3).flatten(1, 2)


class PatchesToFrames(nn.Module):
    """The inverse of `FramesToPatches`."""

    def forward(self, x: Tensor) -> Tensor:
        """Lay the frames of each patch one after the other."""
        patches = x.reshape(len(x), -1, MelAutoencoderConfig.stride, x.shape[2])
        return patches.transpose(2, 3).flatten(2)
