"""Multi-scale discriminator of D2M-GAN, and its losses.

    code vectors -> one sequence -> three discriminators at decreasing rates -> features, score

After MelGAN (Kumar et al., "MelGAN", NeurIPS 2019), as in the released code of D2M-GAN.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from loris_cli.baselines.d2mgan.config import D2mGanConfig
from loris_cli.baselines.d2mgan.networks import LEAKY_SLOPE
from loris_cli.models.weight_norm import WeightNormConv1d

STRIDE = 4
FIRST_KERNEL, LATE_KERNEL, SCORE_KERNEL = 16, 5, 3
FIRST_PADDING = 7
CHANNELS_PER_GROUP = 4
"""Input channels of each group of the strided convolutions."""
FEATURE_WEIGHT = 4.0
"""Sum of the weights of the layers in the feature matching loss."""

Features = list[Tensor]
"""Output of each layer of a discriminator; the last one is the score."""


class ScaleDiscriminator(nn.Module):
    """Discriminator of a sequence at one rate."""

    def __init__(self, config: D2mGanConfig) -> None:
        """Build the discriminator with random weights."""
        super().__init__()
        width, maximum = config.discriminator_channels, config.discriminator_max_channels
        pad = nn.ReflectionPad1d(FIRST_PADDING)
        self.layers = nn.ModuleList(
            [_build_layer(WeightNormConv1d(1, width, FIRST_KERNEL), pad)]
        )
        for _ in range(config.discriminator_layers):
            in_width, width = width, min(width * STRIDE, maximum)
            conv = WeightNormConv1d(
                in_width,
                width,
                10 * STRIDE + 1,
                STRIDE,
                5 * STRIDE,
                groups=in_width // CHANNELS_PER_GROUP,
            )
            self.layers.append(_build_layer(conv))
        in_width, width = width, min(2 * width, maximum // 2)
        self.layers.append(
            _build_layer(
                WeightNormConv1d(in_width, width, LATE_KERNEL, padding=LATE_KERNEL // 2)
            )
        )
        self.layers.append(WeightNormConv1d(width, 1, SCORE_KERNEL, padding=SCORE_KERNEL // 2))

    def forward(self, x: Tensor) -> Features:
        """Return the output of each layer for ``(batch, 1, length)``."""
        features = []
        for layer in self.layers:
            x = layer(x)
            features.append(x)
        return features


def _build_layer(conv: nn.Conv1d, *before: nn.Module) -> nn.Sequential:
    return nn.Sequential(*before, conv, nn.LeakyReLU(LEAKY_SLOPE))


class Discriminator(nn.Module):
    """Discriminators of code vectors, written one channel after the other."""

    def __init__(self, config: D2mGanConfig) -> None:
        """Build the discriminators with random weights."""
        super().__init__()
        self.scales = nn.ModuleList(ScaleDiscriminator(config) for _ in range(config.n_scales))

    def forward(self, vectors: Tensor) -> list[Features]:
        """Return the features of each scale for ``(batch, code_width, frames)``."""
        x = vectors.flatten(1)[:, None]
        results = []
        for scale in self.scales:
            results.append(scale(x))
            x = functional.avg_pool1d(x, 4, stride=2, padding=1, count_include_pad=False)
        return results


def discriminator_hinge_loss(real: Sequence[Features], fake: Sequence[Features]) -> Tensor:
    """Return the hinge loss of the discriminator (Lim and Ye, 2017), summed over scales."""
    losses = [functional.relu(1 - scale[-1]).mean() for scale in real]
    losses += [functional.relu(1 + scale[-1]).mean() for scale in fake]
    return torch.stack(losses).sum()


def generator_hinge_loss(fake: Sequence[Features]) -> Tensor:
    """Return the adversarial loss of the generator, summed over scales."""
    return -torch.stack([scale[-1].mean() for scale in fake]).sum()


def feature_matching_loss(real: Sequence[Features], fake: Sequence[Features]) -> Tensor:
    """Return the L1 distance of features (Kumar et al., 2019); ``real`` is constant."""
    distances = [
        functional.l1_loss(fake_features, real_features.detach())
        for real_scale, fake_scale in zip(real, fake, strict=True)
        for real_features, fake_features in zip(real_scale[:-1], fake_scale[:-1], strict=True)
    ]
    # The released code divides by the strided layers and one more, of two more.
    n_weighted = len(real[0]) - 2
    return torch.stack(distances).sum() * (FEATURE_WEIGHT / n_weighted / len(real))
