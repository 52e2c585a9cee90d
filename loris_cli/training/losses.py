"""Training losses, as modules whose forward pass is the loss of a batch of examples."""

from collections.abc import Callable
from functools import partial
from typing import Any

from audio_diffusion_pytorch.modules import UNet1d
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from loris_cli.audio.magnitudes import compute_bin_weights
from loris_cli.models.diffusion import denoising_loss
from loris_cli.models.mel_autoencoder import MelAutoencoder
from loris_cli.models.mini_unet import MiniCondition, MiniDenoiser
from loris_cli.models.paper_unet import PaperModel
from loris_cli.soundtrack.waveform_generator import SIGMA_DATA
from loris_cli.training.datasets import Example
from loris_cli.training.resynthesis_loss import compute_resynthesis_error

KL_WEIGHT = 3e-4
EDGE_LOSS_WEIGHT = 0.5
"""Weight of the differences between neighbouring frames and bands, which reduces blur."""
COMPRESSED_LOSS_WEIGHT, COMPRESSION_EXPONENT = 2.0, 0.3
"""Weight of the difference of compressed magnitudes, and their exponent, which is about that of
loudness (Stevens, 1957): strong components count more than in the logarithm."""
RESYNTHESIS_WEIGHT = 3.0
MAX_CODE_NOISE = 0.2
"""Maximum noise added to latents, in standard deviations: latents of a denoiser have errors."""


class LatentLoss(nn.Module):
    """Reconstruction loss of log-magnitudes and of their audio, with a small KL term."""

    bin_weights: Tensor

    def __init__(self, autoencoder: MelAutoencoder) -> None:
        """Build the loss of an autoencoder."""
        super().__init__()
        self.autoencoder = autoencoder
        weights = compute_bin_weights(autoencoder.config.bands)
        self.register_buffer("bin_weights", weights, persistent=False)

    def forward(self, batch: Example) -> Tensor:
        """Return the loss of a batch of `MelCropDataset`, a scalar.

        Args:
            batch: ``frames``, log-mel, ``(batch, n_mels, frames)``; ``noise``, standard normal,
                ``(batch, latent_channels, frames / 4)``; ``log_magnitude``,
                ``(batch, bins, frames)``; ``samples``, ``(batch, frames * 256)``;
                ``noise_level``, 0..1, ``(batch,)``.
        """
        mean, log_variance = self.autoencoder.encode_posterior(batch["frames"])
        variance = log_variance.exp()
        divergence = (mean.square() + variance - 1 - log_variance).mean() / 2
        level = MAX_CODE_NOISE * batch["noise_level"][:, None, None]
        variance = variance + (level * mean.detach().std(dim=(0, 2))[:, None]).square()
        decoded = self.autoencoder.decode_unnormalized(mean + batch["noise"] * variance.sqrt())
        error = self._compute_magnitude_error(decoded, batch["log_magnitude"])
        audio_error: Tensor = compute_resynthesis_error(decoded, batch["samples"])
        return error + RESYNTHESIS_WEIGHT * audio_error + KL_WEIGHT * divergence

    def _compute_magnitude_error(self, decoded: Tensor, target: Tensor) -> Tensor:
        """Return the error of log-magnitudes, weighted along the mel axis."""
        logarithmic = self.bin_weights * (decoded - target) / self.autoencoder.output_std
        exponent = COMPRESSION_EXPONENT
        compressed = (exponent * decoded).exp() - (exponent * target).exp()
        return _compute_error(logarithmic) + COMPRESSED_LOSS_WEIGHT * (
            (self.bin_weights * compressed).abs().mean()
        )


def _compute_error(difference: Tensor) -> Tensor:
    """Return the L1 norms of a difference, ``(batch, bands, frames)``, and of its edges."""
    edges = difference.diff(dim=2).abs().mean() + difference.diff(dim=1).abs().mean()
    return difference.abs().mean() + EDGE_LOSS_WEIGHT * edges


class DenoiserLoss(nn.Module):
    """Diffusion loss on latents of unit variance (LORIS Eq. 12)."""

    def __init__(self, denoiser: MiniDenoiser) -> None:
        """Build the loss of a denoiser."""
        super().__init__()
        self.denoiser = denoiser

    def forward(self, batch: Example) -> Tensor:
        """Return the loss of a batch of `LatentDataset`, a scalar.

        Args:
            batch: ``clean`` and ``noise``, ``(batch, latent_channels, frames)``; ``sigma``,
                ``(batch,)``; ``drop_mask``, ``(batch,)`` bool; and the fields of
                `MiniCondition`, with the shapes documented there.
        """
        condition = MiniCondition(**{name: batch[name] for name in MiniCondition._fields})
        return _edm_loss(self.denoiser, condition, batch, sigma_data=1.0)


class PaperLoss(nn.Module):
    """Diffusion loss on the waveform (LORIS Eq. 12).

    The denoised signal is clamped, as in the released code (docs/differences.md, M13).
    """

    def __init__(self, network: PaperModel) -> None:
        """Build the loss of a network."""
        super().__init__()
        self.network = network

    def forward(self, batch: Example) -> Tensor:
        """Return the loss of a batch of `WaveformDataset`, a scalar.

        Args:
            batch: ``clean`` and ``noise``, ``(batch, channels, samples)``; ``sigma``,
                ``(batch,)``; ``drop_mask``, ``(batch,)`` bool; ``rhythm`` and
                ``onset_envelope``, ``(batch, n_pose_frames - 2)``, 0..1; ``pose``, normalized,
                ``(batch, n_pose_frames, 17, 3)``; ``genre``, ``(batch,)`` index, -1 for none;
                optional ``visual``, ``(batch, n_visual_frames, visual_features)``.
        """
        condition = self.network.encode_conditions(
            batch.get("visual"),
            batch["rhythm"],
            batch["genre"],
            onset_envelope=batch["onset_envelope"],
            pose=batch["pose"],
        )
        return _edm_loss(self.network, condition, batch, sigma_data=SIGMA_DATA, clamp_limit=1.0)


def _edm_loss(network: nn.Module, condition: Any, batch: Example, **options: float) -> Tensor:
    """Return the EDM loss (Karras et al., 2022) of a conditional network."""
    return denoising_loss(
        lambda x, c_noise: network(x, c_noise, condition, batch["drop_mask"]),
        batch["clean"],
        noise=batch["noise"],
        sigma=batch["sigma"],
        **options,
    )


def checkpoint_activations(network: MiniDenoiser | PaperModel) -> None:
    """Enable activation checkpointing for the levels of the U-Net."""
    for level in find_unet_levels(network):
        level.forward = partial(_checkpoint_level, level.forward)


def find_unet_levels(module: nn.Module) -> list[nn.Module]:
    """Return the U-Net levels of a module in evaluation order; empty without a U-Net."""
    return [
        level
        for unet in module.modules()
        if isinstance(unet, UNet1d)
        for level in (*unet.downsamples, unet.bottleneck, *unet.upsamples)
    ]


def _checkpoint_level(forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    def run_level(*args: Any) -> Any:
        # A level pops from the list of skips, so each recomputation needs a copy.
        return forward(*(list(a) if isinstance(a, list) else a for a in args), **kwargs)

    return checkpoint(run_level, *args, use_reentrant=False)


def count_parameters(module: nn.Module) -> int:
    """Return the number of trainable parameters."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)
