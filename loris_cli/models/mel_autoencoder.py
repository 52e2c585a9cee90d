"""Mel autoencoder: the latent space of the ``mini`` diffusion model.

    log-mel (n_mels, frames) -> mean, log-variance -> z (channels, frames / 4)
    z -> log-magnitude (bins, frames)

A variational autoencoder (Kingma and Welling, 2014) of ConvNeXt blocks (Liu et al., 2022) along
time. The released LORIS has no autoencoder: its diffusion runs on the waveform, and the "latent
encoder" of the paper is the U-Net's patcher. Diffusion on a 25 s waveform is too slow on a CPU,
so ``mini`` adds this autoencoder. One latent frame covers 1,024 samples (46 ms).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from loris_cli.audio.mel import HOP_LENGTH, MelConfig
from loris_cli.config import SAMPLES_PER_LATENT_FRAME
from loris_cli.models.unet_config import MAX_BLOCKS

MEL_FRAMES_PER_LATENT_FRAME = SAMPLES_PER_LATENT_FRAME // HOP_LENGTH


@dataclass(frozen=True, kw_only=True)
class MelAutoencoderConfig:
    """Sizes of the autoencoder."""

    n_mels: int = 128
    n_fft: int = 1024
    latent_channels: int = 32
    width: int = 272
    expansion: int = 3
    n_blocks: int = 3
    """Encoder blocks, which run at the latent frame rate; the decoder has two more."""
    fine_width: int = 256
    """Width of the decoder blocks at the frame rate of the spectrogram."""
    n_fine_blocks: int = 3
    """Number of these blocks."""

    stride = MEL_FRAMES_PER_LATENT_FRAME
    """Log-mel frames per latent frame."""

    def __post_init__(self) -> None:
        """Validate the mel bands and the number of blocks.

        Raises:
            ValueError: one of them is invalid.
        """
        _ = self.bands
        for name in ("n_blocks", "n_fine_blocks"):
            if (value := getattr(self, name)) > MAX_BLOCKS:
                raise ValueError(f"{name} is {value}, at most {MAX_BLOCKS}")

    @property
    def bands(self) -> MelConfig:
        """Mel bands of the encoded frames."""
        return MelConfig(n_fft=self.n_fft, n_mels=self.n_mels)

    @property
    def n_decoded_bins(self) -> int:
        """STFT bins of a decoded frame."""
        return self.n_fft // 2 + 1


class ConvNextBlock(nn.Module):
    """ConvNeXt block along time."""

    def __init__(self, width: int, expansion: int) -> None:
        """Build a block that is initially close to the identity."""
        super().__init__()
        self.depthwise = nn.Conv1d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width)
        self.widen = nn.Linear(width, expansion * width)
        self.narrow = nn.Linear(expansion * width, width)
        self.gain = nn.Parameter(torch.full((width,), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(batch, width, frames)`` to the same shape."""
        h = self.norm(self.depthwise(x).transpose(1, 2))
        h = self.narrow(functional.gelu(self.widen(h))) * self.gain
        out: Tensor = x + h.transpose(1, 2)
        return out


class MelAutoencoder(nn.Module):
    """Mel autoencoder, with the statistics that normalize log-mel and latents."""

    mel_mean: Tensor
    mel_std: Tensor
    output_mean: Tensor
    output_std: Tensor
    code_mean: Tensor
    code_std: Tensor

    def __init__(self, config: MelAutoencoderConfig) -> None:
        """Build the autoencoder with random weights."""
        super().__init__()
        self.config = config
        width, patch = config.width, config.n_mels * config.stride

        def make_blocks(n: int, width: int) -> list[nn.Module]:
            return [ConvNextBlock(width, config.expansion) for _ in range(n)]

        self.encoder = nn.Sequential(
            FramesToPatches(),
            nn.Conv1d(patch, width, 3, padding=1),
            *make_blocks(config.n_blocks, width),
            nn.Conv1d(width, 2 * config.latent_channels, 1),
        )
        self.decoder = nn.Sequential(
            nn.Conv1d(config.latent_channels, width, 3, padding=1),
            *make_blocks(config.n_blocks + 2, width),
            nn.Conv1d(width, config.stride * config.fine_width, 3, padding=1),
            PatchesToFrames(),
            *make_blocks(config.n_fine_blocks, config.fine_width),
            nn.Conv1d(config.fine_width, config.n_decoded_bins, 1),
        )
        self.register_buffer("output_mean", torch.zeros(config.n_decoded_bins, 1))
        self.register_buffer("output_std", torch.ones(()))
        self.register_buffer("mel_mean", torch.zeros(config.n_mels, 1))
        self.register_buffer("mel_std", torch.ones(()))
        self.register_buffer("code_mean", torch.zeros(config.latent_channels, 1))
        self.register_buffer("code_std", torch.ones(config.latent_channels, 1))

    def encode_posterior(self, log_mel: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance of the latents, before normalization to unit variance.

        Args:
            log_mel: natural logarithm of mel magnitudes (see `audio.mel`),
                ``(batch, n_mels, frames)``; ``frames`` must be a multiple of 4.

        Returns:
            mean and log-variance, each ``(batch, channels, frames / 4)``.
        """
        mean, log_variance = self.encoder((log_mel - self.mel_mean) / self.mel_std).chunk(2, 1)
        return mean, log_variance.clamp(-10, 4)

    def decode_unnormalized(self, latents: Tensor) -> Tensor:
        """Return the frames of unnormalized latents (see `encode_posterior` and `decode`)."""
        frames: Tensor = self.decoder(latents).float()
        return frames * self.output_std + self.output_mean

    def encode(self, log_mel: Tensor) -> Tensor:
        """Return the latents of log-mel frames, with unit variance over the training set.

        Args:
            log_mel: ``(batch, n_mels, frames)``; ``frames`` must be a multiple of 4.

        Returns:
            ``(batch, channels, frames / 4)``.
        """
        return (self.encode_posterior(log_mel)[0] - self.code_mean) / self.code_std

    def decode(self, latents: Tensor) -> Tensor:
        """Return the log-magnitude frames of normalized latents.

        Args:
            latents: ``(batch, channels, frames)``.

        Returns:
            ``(batch, n_decoded_bins, 4 * frames)``; see `audio.magnitudes`.
        """
        return self.decode_unnormalized(latents * self.code_std + self.code_mean)

    @property
    def receptive_margin_frames(self) -> int:
        """Latent frames on either side that affect a decoded frame.

        The decoder has blocks of kernel size 7 and two convolutions of kernel size 3.
        """
        config = self.config
        return 3 * (config.n_blocks + 2) + 2 + -(-3 * config.n_fine_blocks // config.stride)


class FramesToPatches(nn.Module):
    """Fold ``(batch, mels, 4 * frames)`` into ``(batch, 4 * mels, frames)``."""

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(batch, mels, 4 * frames)`` to ``(batch, 4 * mels, frames)``."""
        patches = x.reshape(*x.shape[:2], -1, MelAutoencoderConfig.stride)
        return patches.transpose(2, 3).flatten(1, 2)


class PatchesToFrames(nn.Module):
    """The inverse of `FramesToPatches`."""

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(batch, 4 * mels, frames)`` to ``(batch, mels, 4 * frames)``."""
        patches = x.reshape(len(x), -1, MelAutoencoderConfig.stride, x.shape[2])
        return patches.transpose(2, 3).flatten(2)
