"""Training of the VQ-VAE whose codes D2M-GAN and CDCD generate.

    samples of a clip -> random crop -> VQ-VAE -> L2, spectral and commitment losses

After Jukebox (Dhariwal et al., 2020, Sec. 3).
"""

import numpy as np
import torch
from torch import Tensor, nn

from loris_cli.baselines.learned_method import (
    Example,
    LearnedMethod,
    PreparedClip,
    TrainingClip,
)
from loris_cli.baselines.spectral_distance import multi_resolution_loss
from loris_cli.errors import InputError
from loris_cli.models.vqvae import JUKEBOX_CONFIG, VqVae, VqVaeConfig

COMMITMENT_WEIGHT = 0.02
"""Weight of the commitment loss (Jukebox, App. B.1)."""
PEAK_ERROR_WEIGHT, N_PEAK_ERRORS = 0.02, 2048
"""Weight and number of the largest squared errors in the released configuration of Jukebox; its
text does not mention them."""
LOG_WEIGHT = 1.0
"""Weight of the log distance of spectrograms (docs/differences.md, V3)."""
MIN_POWER = 1e-4
"""Added to the power of a batch, -40 dB, so that silence does not amplify errors."""
CROP_FRAMES = 129
"""Codes of a training example: 0.75 s."""
GAIN_RANGE = (0.5, 1.0)
INT16_SCALE = 32767.0


class VqVaeLoss(nn.Module):
    """Reconstruction loss of a VQ-VAE, which also updates its codebook in training mode."""

    def __init__(self, network: VqVae) -> None:
        """Build the loss of a network."""
        super().__init__()
        self.network = network

    def forward(self, batch: Example) -> Tensor:
        """Return the loss of a batch, a scalar.

        Args:
            batch: ``samples``, ``(batch, samples)``.
        """
        samples = batch["samples"]
        output, commitment = self.network(samples)
        with torch.autocast(samples.device.type, enabled=False):
            output = output.float()
            # Jukebox divides by the power of the data set (docs/differences.md, V4).
            power = samples.square().mean() + MIN_POWER
            errors = (output - samples).square() / power
            loss: Tensor = errors.mean() + COMMITMENT_WEIGHT * commitment.float()
            is_official = self.network.config.compat == "official"
            if is_official:
                n_largest = min(N_PEAK_ERRORS, errors.shape[1])
                loss = loss + PEAK_ERROR_WEIGHT * errors.topk(n_largest, dim=1).values.mean()
            log_weight = 0.0 if is_official else LOG_WEIGHT
            return loss + multi_resolution_loss(samples, output, log_weight=log_weight)


def _build_loss(network: nn.Module, codec: nn.Module | None) -> VqVaeLoss:
    assert isinstance(network, VqVae)
    return VqVaeLoss(network)


def _prepare_clip(
    clip: TrainingClip, config: VqVaeConfig, codec: nn.Module | None
) -> PreparedClip:
    """Return the music of a clip as ``samples``, int16.

    Raises:
        InputError: the clip is shorter than a code or silent.
    """
    samples = clip.read_samples()
    if len(samples) < config.hop or not samples.any():
        raise InputError(
            f"{clip.clip_id} has no music to encode", hint="remove the clip from the data set"
        )
    scaled = (samples.clip(-1, 1) * INT16_SCALE).round()
    return {"samples": scaled.astype(np.int16)}


def _draw_example(
    prepared: PreparedClip, config: VqVaeConfig, rng: np.random.Generator
) -> Example:
    """Return a random crop with a random gain, ``samples``; zeros after the end of a clip.

    The released code has no gain (docs/differences.md, V5).
    """
    samples, n_crop = prepared["samples"], CROP_FRAMES * config.hop
    start = int(rng.integers(max(len(samples) - n_crop, 0) + 1))
    crop = np.zeros(n_crop, dtype=np.float32)
    taken = samples[start : start + n_crop]
    crop[: len(taken)] = taken * (rng.uniform(*GAIN_RANGE) / INT16_SCALE)
    return {"samples": torch.from_numpy(crop)}


VQVAE = LearnedMethod(
    name="vqvae",
    citation="VQ-VAE of Jukebox (Dhariwal et al., 2020)",
    configs={"compact": VqVaeConfig(), "full": JUKEBOX_CONFIG},
    build_network=VqVae,
    build_loss=_build_loss,
    prepare_clip=_prepare_clip,
    draw_example=_draw_example,
    build_generator=None,
    training_defaults={
        "batch_size": 8, "steps": 16_000, "learning_rate": 5e-4, "warmup_steps": 200,
        "beta1": 0.9, "beta2": 0.99, "weight_decay": 0.0, "max_grad_norm": 1.0,
        "ema_decay": 0.99,
    },
)  # fmt: skip
