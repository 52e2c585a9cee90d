"""What is trained, as modules whose forward pass is the loss of a batch of examples."""

from collections.abc import Callable
from functools import partial
from typing import Any

from audio_diffusion_pytorch.modules import UNet1d
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from loris_cli.models.diffusion import denoising_loss
from loris_cli.models.mel_autoencoder import MelAutoencoder
from loris_cli.models.mini_unet import MiniCondition, MiniDenoiser
from loris_cli.models.paper_unet import PaperModel

KL_WEIGHT = 3e-4
EDGE_LOSS_WEIGHT = 0.5
"""Weight of the differences between neighbouring frames and bands, against blur."""


class LatentLoss(nn.Module):
    """An L1 reconstruction of standardised log-mel, weakly regularised."""

    def __init__(self, coder: MelAutoencoder) -> None:
        """Train a coder."""
        super().__init__()
        self.coder = coder

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """The loss of ``frames (batch, n_mels, frames)`` with ``noise`` in their codes."""
        frames = batch["frames"]
        mean, log_variance = self.coder.encode_posterior(frames)
        code = mean + batch["noise"] * (log_variance / 2).exp()
        off = (self.coder.decode_unnormalized(code) - frames) / self.coder.mel_std
        edges = off.diff(dim=2).abs().mean() + off.diff(dim=1).abs().mean()
        divergence = (mean.square() + log_variance.exp() - 1 - log_variance).mean() / 2
        return off.abs().mean() + EDGE_LOSS_WEIGHT * edges + KL_WEIGHT * divergence


class DenoiserLoss(nn.Module):
    """The diffusion loss on codes of unit variance (LORIS Eq. 12)."""

    def __init__(self, denoiser: MiniDenoiser) -> None:
        """Train a denoiser."""
        super().__init__()
        self.denoiser = denoiser

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """The loss of ``clean``, with ``noise``, ``sigma``, ``dropped`` and the condition."""
        told = MiniCondition(**{name: batch[name] for name in MiniCondition._fields})
        return denoising_loss(
            lambda x, c_noise: self.denoiser(x, c_noise, told, batch["dropped"]),
            batch["clean"],
            noise=batch["noise"],
            sigma=batch["sigma"],
            sigma_data=1.0,
        )


def checkpoint_activations(network: MiniDenoiser | PaperModel) -> None:
    """Keep no activations inside the U-Net's levels: they are computed again going back."""
    for level in find_unet_levels(network):
        level.forward = partial(_checkpoint_level, level.forward)


def find_unet_levels(module: nn.Module) -> list[nn.Module]:
    """The levels of the U-Net within, in the order they work; none where there is no U-Net."""
    return [
        level
        for unet in module.modules()
        if isinstance(unet, UNet1d)
        for level in (*unet.downsamples, unet.bottleneck, *unet.upsamples)
    ]


def _checkpoint_level(forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """A level of the U-Net; it empties the list of skips, so each time it gets its own."""

    def once(*given: Any) -> Any:
        own = [list(value) if isinstance(value, list) else value for value in given]
        return forward(*own, **kwargs)

    return checkpoint(once, *args, use_reentrant=False)


def count_parameters(module: nn.Module) -> int:
    """Parameters that are trained."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)
