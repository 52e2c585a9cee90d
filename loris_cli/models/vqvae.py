"""VQ-VAE of audio with the interface of Jukebox's top level: 172 codes per second.

    samples -> encoder -> vectors -> nearest codes -> code vectors -> decoder -> samples

After Jukebox (Dhariwal et al., 2020, Sec. 3), whose weights are not available here. D2M-GAN and
CDCD generate its codes: 22,050 Hz mono, one of 2,048 codes of width 64 per 128 samples.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

from loris_cli.models.ema_codebook import EmaCodebook

DILATION_GROWTH = 3
"""Ratio of the dilations of successive residual blocks."""
MAX_HOP, MAX_WIDTH, MAX_DEPTH = 4096, 1024, 6


@dataclass(frozen=True, kw_only=True)
class VqVaeConfig:
    """Sizes of the VQ-VAE; the defaults can be trained on a CPU."""

    strides: tuple[int, ...] = (8, 4, 4)
    """Stride of each convolution of the encoder; their product is the hop."""
    widths: tuple[int, ...] = (32, 64, 192)
    """Channels after each of them."""
    levels: tuple[int, ...] = (3,)
    """Number of strided convolutions before each projection to ``code_width`` channels. Jukebox
    has three such levels, all of which the top level uses."""
    depth: int = 3
    """Residual blocks after each strided convolution, with dilations 1, 3, 9 and so on."""
    output_width: int = 16
    """Channels at the sample rate, before the last convolution."""
    code_width: int = 64
    n_codes: int = 2048
    compat: Literal["paper", "official"] = "paper"
    """``official`` restarts codes, and computes the loss, as Jukebox (docs/differences.md, V2
    and V3)."""

    def __post_init__(self) -> None:
        """Check that the sizes fit together and are bounded.

        Raises:
            ValueError: one of them is invalid.
        """
        sizes = (*self.strides, *self.widths, *self.levels)
        numbers = (self.depth, self.output_width, self.code_width, self.n_codes)
        if min(*sizes, *numbers, 1) < 1 or not self.strides:
            raise ValueError("sizes of the VQ-VAE must be positive")
        if any(stride % 2 for stride in self.strides) or self.hop > MAX_HOP:
            raise ValueError(f"strides are {self.strides}: not even, or a hop above {MAX_HOP}")
        if not len(self.widths) == len(self.strides) == sum(self.levels):
            raise ValueError("strides, widths and levels do not fit")
        if self.depth > MAX_DEPTH:
            raise ValueError(f"depth is {self.depth}, at most {MAX_DEPTH}")
        if max(*self.widths, self.output_width, self.code_width) > MAX_WIDTH:
            raise ValueError(f"a width is above {MAX_WIDTH}")
        if self.compat not in ("paper", "official"):
            raise ValueError(f"unknown compat {self.compat!r}")

    @property
    def hop(self) -> int:
        """Samples per code."""
        return math.prod(self.strides)

    @property
    def receptive_margin_frames(self) -> int:
        """Frames on either side that affect a code, or a decoded frame, rounded up."""
        hops = [math.prod(self.strides[: k + 1]) for k in range(len(self.strides))]
        dilations = sum(DILATION_GROWTH**k for k in range(self.depth))
        n_samples: int = sum(2 * hop + dilations * hop for hop in hops)
        # A projection has three taps, and the output of the decoder is one more.
        return -(-n_samples // self.hop) + len(self.levels) + 1


JUKEBOX_CONFIG = VqVaeConfig(
    strides=(2,) * 7, widths=(32,) * 7, levels=(3, 2, 2), depth=4, output_width=64
)
"""Top level of Jukebox 5b: width 32, depth 4, downsampling by 8, 4 and 4."""


class ResidualBlock(nn.Module):
    """Dilated convolution of three taps and a pointwise one, with a residual connection."""

    def __init__(self, width: int, dilation: int) -> None:
        """Build a block."""
        super().__init__()
        self.dilated = nn.Conv1d(width, width, 3, padding=dilation, dilation=dilation)
        self.pointwise = nn.Conv1d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(batch, width, frames)`` to the same shape."""
        hidden = functional.relu(self.dilated(functional.relu(x)))
        out: Tensor = x + self.pointwise(hidden)
        return out


class VqVae(nn.Module):
    """VQ-VAE of mono audio at 22,050 Hz."""

    def __init__(self, config: VqVaeConfig) -> None:
        """Build the network with random weights and an empty codebook."""
        super().__init__()
        self.config = config
        self.encoder, self.decoder = _build_encoder(config), _build_decoder(config)
        self.quantizer = EmaCodebook(config.n_codes, config.code_width, compat=config.compat)

    def encode_vectors(self, samples: Tensor) -> Tensor:
        """Return the output of the encoder before quantization.

        Args:
            samples: ``(batch, samples)``, padded with zeros to a multiple of the hop.

        Returns:
            ``(batch, code_width, frames)``, one frame per ``config.hop`` samples.
        """
        samples = functional.pad(samples, (0, -samples.shape[1] % self.config.hop))
        vectors: Tensor = self.encoder(samples[:, None])
        return vectors

    def encode(self, samples: Tensor) -> Tensor:
        """Return the codes ``(batch, frames)``, int64, of samples ``(batch, samples)``."""
        return self.nearest_codes(self.encode_vectors(samples))

    def nearest_codes(self, vectors: Tensor) -> Tensor:
        """Return the nearest codes ``(batch, frames)`` of ``(batch, code_width, frames)``."""
        return self.quantizer.find_nearest(vectors)

    def embed_codes(self, codes: Tensor) -> Tensor:
        """Return the vectors ``(batch, code_width, frames)`` of codes ``(batch, frames)``."""
        return self.quantizer.embed(codes)

    def decode_vectors(self, vectors: Tensor) -> Tensor:
        """Return the samples ``(batch, frames * hop)`` of ``(batch, code_width, frames)``."""
        samples: Tensor = self.decoder(vectors)
        return samples[:, 0]

    def decode_codes(self, codes: Tensor) -> Tensor:
        """Return the samples ``(batch, frames * hop)`` of codes ``(batch, frames)``."""
        return self.decode_vectors(self.embed_codes(codes))

    def forward(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Reconstruct audio; in training mode, also update the codebook.

        Args:
            samples: ``(batch, samples)``, a multiple of the hop.

        Returns:
            the reconstruction, ``(batch, samples)``, and the commitment loss, a scalar.
        """
        vectors = self.encode_vectors(samples)
        quantized, _ = self.quantizer(vectors)
        commitment = (quantized.detach() - vectors).square().mean()
        return self.decode_vectors(quantized), commitment


def _split_levels(config: VqVaeConfig) -> list[range]:
    """Return the indices of the strided convolutions of each level."""
    ends = [sum(config.levels[:k]) for k in range(len(config.levels) + 1)]
    return [range(start, end) for start, end in pairwise(ends)]


def _build_encoder(config: VqVaeConfig) -> nn.Sequential:
    layers: list[nn.Module] = []
    dilations = [DILATION_GROWTH**k for k in range(config.depth)]
    in_width = 1
    for level in _split_levels(config):
        for k in level:
            stride, width = config.strides[k], config.widths[k]
            layers.append(nn.Conv1d(in_width, width, 2 * stride, stride, stride // 2))
            layers += [ResidualBlock(width, dilation) for dilation in dilations]
            in_width = width
        layers.append(nn.Conv1d(in_width, config.code_width, 3, padding=1))
        in_width = config.code_width
    return nn.Sequential(*layers)


def _build_decoder(config: VqVaeConfig) -> nn.Sequential:
    """Build the mirror image of the encoder; the dilations are in descending order."""
    layers: list[nn.Module] = []
    dilations = [DILATION_GROWTH**k for k in reversed(range(config.depth))]
    for level in reversed(_split_levels(config)):
        layers.append(nn.Conv1d(config.code_width, config.widths[level[-1]], 3, padding=1))
        for k in reversed(level):
            stride, width = config.strides[k], config.widths[k]
            layers += [ResidualBlock(width, dilation) for dilation in dilations]
            if k > level[0]:
                out_width = config.widths[k - 1]
            else:
                out_width = config.code_width if k else config.output_width
            layers.append(nn.ConvTranspose1d(width, out_width, 2 * stride, stride, stride // 2))
    layers.append(nn.Conv1d(config.output_width, 1, 3, padding=1))
    return nn.Sequential(*layers)
