"""Losses of D2M-GAN: one forward pass for the generator and the discriminator.

    motion, genre, visual -> generator -> vectors -> adversarial, feature, L1 and audio losses

The released code updates the discriminator, then the generator, with two optimizers. Here both
are updated at once: the generator's losses use the discriminator with detached parameters, and
the discriminator's loss uses detached vectors (docs/differences.md, N2).
"""

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from loris_cli.audio.mel import compute_mel_filterbank
from loris_cli.baselines.d2mgan.config import require_codec
from loris_cli.baselines.d2mgan.discriminator import (
    Discriminator,
    Features,
    discriminator_hinge_loss,
    feature_matching_loss,
    generator_hinge_loss,
)
from loris_cli.baselines.d2mgan.networks import D2mGanNetwork
from loris_cli.baselines.learned_method import Example
from loris_cli.baselines.spectral_distance import compute_magnitudes

FEATURE_WEIGHT, VECTOR_WEIGHT, CODE_WEIGHT = 3.0, 5.0, 8.0
AUDIO_WEIGHT, MEL_WEIGHT = 40.0, 15.0
"""Weights of the losses in the released code (d2m_aist.py)."""
MEL_RESOLUTION = (1024, 256, 1024)
MIN_MEL = 1e-5
AUDIO_CROP_FRAMES = 64
"""Codes of each window that are decoded for the losses of the audio: 0.37 s."""
MIN_RMS = 1e-3


class D2mGanLoss(nn.Module):
    """Sum of the losses of generator and discriminator."""

    def __init__(self, network: D2mGanNetwork, codec: nn.Module | None) -> None:
        """Build the discriminator, and freeze the codec.

        Raises:
            WeightsError: the codec does not fit the network.
        """
        super().__init__()
        self.network = network
        self.codec = require_codec(network.config, codec).requires_grad_(False)
        self.discriminator = Discriminator(network.config)
        codebook = self.codec.quantizer.codebook
        network.set_output_scale(codebook)
        is_official = network.config.compat == "official"
        # The weights of the losses are for vectors of unit power (docs/differences.md, N1).
        rms = codebook.square().mean().sqrt().clamp(min=MIN_RMS)
        self.vector_unit = 1.0 if is_official else float(rms)
        self.train()

    def train(self, mode: bool = True) -> "D2mGanLoss":
        """Set training mode, in which the codec remains in evaluation mode."""
        super().train(mode)
        self.codec.eval()
        return self

    def forward(self, batch: Example) -> Tensor:
        """Return the loss of a batch, a scalar; in evaluation mode that of the reconstruction.

        Validation omits the adversarial losses, which do not measure the quality of the music.

        Args:
            batch: ``motion``, ``(batch, n_motion_frames, motion_width)``; ``genre``, one-hot,
                ``(batch, n_genres)``; ``codes``, ``(batch, n_frames)`` int64; ``vectors``, the
                encoder's output, ``(batch, code_width, n_frames)``; optional ``visual``,
                ``(batch, visual_width)``.
        """
        fake = self.network(batch["motion"], batch["genre"], batch.get("visual"))
        real = batch["vectors"]
        loss = self._compute_vector_loss(fake, real, batch["codes"])
        if self.network.config.compat == "paper":
            loss = loss + self._compute_audio_loss(fake, batch["codes"])
        if not self.training:
            return loss
        fake, real = fake / self.vector_unit, real / self.vector_unit
        real_features: list[Features] = self.discriminator(real)
        loss = loss + self._compute_generator_loss(fake, real_features)
        return loss + discriminator_hinge_loss(real_features, self.discriminator(fake.detach()))

    def _compute_vector_loss(self, fake: Tensor, real: Tensor, codes: Tensor) -> Tensor:
        """Return the L1 distances from the encoder's output and from the code vectors."""
        loss = VECTOR_WEIGHT * functional.l1_loss(fake, real)
        loss = loss + CODE_WEIGHT * functional.l1_loss(fake, self.codec.embed_codes(codes))
        return loss / self.vector_unit

    def _compute_generator_loss(self, fake: Tensor, real: list[Features]) -> Tensor:
        """Return the losses of the generator, without gradients for the discriminator."""
        parameters = {name: p.detach() for name, p in self.discriminator.named_parameters()}
        features: list[Features] = functional_call(self.discriminator, parameters, (fake,))
        matching = feature_matching_loss(real, features)
        return generator_hinge_loss(features) + FEATURE_WEIGHT * matching

    def _compute_audio_loss(self, fake: Tensor, codes: Tensor) -> Tensor:
        """Return the L1 distances of samples and log-mel from the decoded reference codes.

        The released code computes these losses without a gradient. Here the gradient passes the
        quantization unchanged, and the frozen decoder (docs/differences.md, N3). A random crop
        of each window is decoded, in evaluation mode the middle.
        """
        n_spare = max(codes.shape[1] - AUDIO_CROP_FRAMES, 0)
        start = int(torch.randint(n_spare + 1, ())) if self.training else n_spare // 2
        crop = slice(start, start + AUDIO_CROP_FRAMES)
        with torch.autocast(fake.device.type, enabled=False):
            vectors = fake[:, :, crop].float()
            nearest = self.codec.embed_codes(self.codec.nearest_codes(vectors))
            output = self.codec.decode_vectors(vectors + (nearest - vectors).detach())
            with torch.no_grad():
                target = self.codec.decode_codes(codes[:, crop])
            mel_loss = functional.l1_loss(_compute_log_mel(output), _compute_log_mel(target))
            return AUDIO_WEIGHT * functional.l1_loss(output, target) + MEL_WEIGHT * mel_loss


def _compute_log_mel(samples: Tensor) -> Tensor:
    """Return the base-10 logarithm of mel magnitudes, ``(batch, 128, frames)``."""
    filters = torch.from_numpy(compute_mel_filterbank()).to(samples.device)
    mel = filters @ compute_magnitudes(samples, MEL_RESOLUTION)
    return mel.clamp(min=MIN_MEL).log10()
