"""Generator of D2M-GAN.

    motion -> motion vector; motion, visual and genre vectors -> fused vector -> code vectors

After Zhu et al., "Quantized GAN for Complex Music Generation from Dance Videos" (ECCV 2022) and
their released code (d2m/d2m_modules.py). The generator has no noise input: equal videos have
equal music (docs/differences.md, N8).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from loris_cli.baselines.d2mgan.config import (
    FIRST_KERNEL,
    GENERATOR_PADDING,
    LAST_KERNEL,
    MIDDLE_KERNEL,
    MOTION_KERNELS,
    N_STRIDED,
    D2mGanConfig,
    MotionSizes,
)
from loris_cli.models.weight_norm import WeightNormConv1d

LEAKY_SLOPE = 0.2
INITIAL_STD = 0.02
"""Standard deviation of initial convolution weights, as in DCGAN."""
LAST_GAIN = 0.2
"""Initial gain of the last convolution: the root mean square of code vectors is about this
fraction of their maximum, which limits the output."""
OFFICIAL_OUTPUT_SCALE = 100.0
"""Scale of the output in the released code, for the codebook of Jukebox."""
MIN_OUTPUT_SCALE = 1e-3


class ResidualBlock(nn.Module):
    """Residual block of MelGAN (Kumar et al., 2019), with a dilated convolution."""

    def __init__(self, width: int, dilation: int) -> None:
        """Build a block."""
        super().__init__()
        self.dilation = dilation
        self.dilated = WeightNormConv1d(width, width, 3, dilation=dilation)
        self.pointwise = WeightNormConv1d(width, width, 1)
        self.shortcut = WeightNormConv1d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(batch, width, length)`` to the same shape."""
        padding = (self.dilation, self.dilation)
        hidden = functional.pad(functional.leaky_relu(x, LEAKY_SLOPE), padding, mode="reflect")
        hidden = functional.leaky_relu(self.dilated(hidden), LEAKY_SLOPE)
        out: Tensor = self.shortcut(x) + self.pointwise(hidden)
        return out


def _build_stage(conv: nn.Conv1d, n_blocks: int, *activations: nn.Module) -> list[nn.Module]:
    """Return a convolution, activations, and its residual blocks."""
    nn.init.normal_(conv.weight, 0.0, INITIAL_STD)
    blocks = [ResidualBlock(conv.out_channels, 3**k) for k in range(n_blocks)]
    return [conv, *activations, *blocks]


class MotionEncoder(nn.Module):
    """Encoder of motion whose channels are the frames, and whose length is the features."""

    def __init__(self, config: MotionSizes) -> None:
        """Build the encoder with random weights."""
        super().__init__()
        self.expand = nn.Linear(config.motion_width, config.motion_hidden)
        widths = (config.n_motion_frames, *config.motion_channels)
        layers: list[nn.Module] = []
        for k, width in enumerate(config.motion_channels):
            conv = nn.Conv1d(widths[k], width, MOTION_KERNELS[k])
            layers += [nn.LeakyReLU(LEAKY_SLOPE)] if k else []
            layers += _build_stage(conv, config.n_blocks, *([] if k else [nn.ReLU()]))
        last = nn.Conv1d(widths[-1], 1, MOTION_KERNELS[-1])
        layers += [nn.LeakyReLU(LEAKY_SLOPE), *_build_stage(last, 0)]
        self.layers = nn.Sequential(*layers)
        self.project = nn.Linear(config.motion_length, config.motion_features)

    def forward(self, motion: Tensor) -> Tensor:
        """Map ``(batch, frames, motion_width)`` to ``(batch, 1, motion_features)``."""
        vector: Tensor = self.project(self.layers(self.expand(motion)))
        return vector


class D2mGanNetwork(nn.Module):
    """Network from motion, visual and genre vectors to vectors of the VQ-VAE."""

    output_scale: Tensor

    def __init__(self, config: D2mGanConfig) -> None:
        """Build the network with random weights."""
        super().__init__()
        self.config = config
        self.motion_encoder = MotionEncoder(config)
        # An embedding of a one-hot vector; an unknown genre is the zero vector.
        self.embed_genre = nn.Linear(config.n_genres, config.genre_features, bias=False)
        n_fused = config.motion_features + config.visual_width + config.genre_features
        self.fuse = nn.Linear(n_fused, config.generator_input)
        layers: list[nn.Module] = []
        widths = (1, *config.generator_channels)
        for k, width in enumerate(config.generator_channels):
            kernel, stride = MIDDLE_KERNEL if k else FIRST_KERNEL, 2 if k < N_STRIDED else 1
            conv = nn.Conv1d(widths[k], width, kernel, stride, GENERATOR_PADDING)
            layers += [nn.LeakyReLU(LEAKY_SLOPE)] if k else []
            layers += _build_stage(conv, config.n_blocks)
        last = nn.Conv1d(widths[-1], config.code_width, LAST_KERNEL, 1, GENERATOR_PADDING)
        layers += [nn.LeakyReLU(LEAKY_SLOPE), *_build_stage(last, 0), nn.Tanh()]
        self.layers = nn.Sequential(*layers)
        if config.compat == "paper" and not last.weight.is_meta:
            _preserve_variance(self)
            last.weight.detach().mul_(LAST_GAIN)
        self.register_buffer(
            "output_scale", torch.full((config.code_width, 1), OFFICIAL_OUTPUT_SCALE)
        )

    def set_output_scale(self, codebook: Tensor) -> None:
        """Limit the output to the range of a codebook, ``(n_codes, code_width)``.

        The scale of the released code fits the codebook of Jukebox, whose weights are not
        available; for another codebook its output saturates or hardly leaves zero. ``official``
        keeps the scale (docs/differences.md, N1).
        """
        if self.config.compat == "paper":
            scale = codebook.abs().amax(dim=0).clamp(min=MIN_OUTPUT_SCALE)
            self.output_scale.copy_(scale[:, None])

    def forward(self, motion: Tensor, genre: Tensor, visual: Tensor | None = None) -> Tensor:
        """Return vectors of the VQ-VAE.

        Args:
            motion: ``(batch, n_motion_frames, motion_width)``.
            genre: one-hot vector, ``(batch, n_genres)``; zeros for an unknown genre.
            visual: ``(batch, visual_width)``; None if that is 0.

        Returns:
            ``(batch, code_width, n_frames)``, limited to ``output_scale``.
        """
        parts = [self.motion_encoder(motion)]
        if self.config.visual_width:
            assert visual is not None
            parts.append(visual[:, None])
        parts.append(self.embed_genre(genre)[:, None])
        vectors: Tensor = self.layers(self.fuse(torch.cat(parts, dim=2))) * self.output_scale
        return vectors


def _preserve_variance(network: nn.Module) -> None:
    """Initialize a network so that its output depends on its input from the beginning.

    With the initialization of the release the standard deviation over videos is a thousandth of
    that over codes. The generator then learns one output for all videos, which the
    discriminator recognizes (docs/differences.md, N9).
    """
    for module in network.modules():
        if isinstance(module, ResidualBlock):
            nn.init.dirac_(module.shortcut.weight)
            nn.init.ones_(module.shortcut.gain)
        elif isinstance(module, nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
        elif type(module) is nn.Conv1d:
            nn.init.kaiming_normal_(module.weight, LEAKY_SLOPE)
