"""Sizes of D2M-GAN, and the check that a codec fits them."""

from dataclasses import dataclass
from typing import Literal, Protocol

from torch import nn

from loris_cli.config import GENRES, SAMPLE_RATE_HZ
from loris_cli.errors import WeightsError
from loris_cli.models.vqvae import VqVae

MOTION_KERNELS = (6, 4, 4, 4)
"""Kernels of the motion encoder, along the features (d2m/d2m_modules.py of the authors)."""
FIRST_KERNEL, MIDDLE_KERNEL, LAST_KERNEL = 6, 41, 40
"""Kernels of the generator; the first two convolutions have stride 2."""
GENERATOR_PADDING = 1
N_STRIDED = 2
MAX_WIDTH, MAX_BLOCKS, MAX_SCALES = 4096, 6, 8


class MotionSizes(Protocol):
    """Sizes of motion and its encoder, which D2M-GAN and CDCD share."""

    @property
    def motion_width(self) -> int:
        """Features of a motion frame."""

    @property
    def n_motion_frames(self) -> int:
        """Motion frames of a window."""

    @property
    def window_s(self) -> float:
        """Duration of a window."""

    @property
    def motion_hidden(self) -> int:
        """Width of a motion frame after the first linear layer."""

    @property
    def motion_channels(self) -> tuple[int, ...]:
        """Channels of the encoder."""

    @property
    def n_blocks(self) -> int:
        """Residual blocks after each convolution."""

    @property
    def motion_length(self) -> int:
        """Length of the output of the encoder's convolutions."""

    @property
    def motion_features(self) -> int:
        """Width of the motion vector."""


@dataclass(frozen=True, kw_only=True)
class D2mGanConfig:
    """Sizes of generator and discriminator; the defaults can be trained on a CPU."""

    motion_width: int = 68
    """Features of a motion frame: position and velocity of 17 joints."""
    n_motion_frames: int = 120
    """Motion frames of a window: 2 s at 60 fps, as published."""
    motion_hidden: int = 200
    """Width of a motion frame after the first linear layer."""
    motion_channels: tuple[int, ...] = (32, 48, 64)
    motion_features: int = 256
    """Width of the motion vector."""
    visual_width: int = 0
    """Width of the visual vector, the mean of the visual features; 0 for none."""
    n_genres: int = len(GENRES)
    genre_features: int = 32
    generator_channels: tuple[int, ...] = (16, 24, 32, 48, 96)
    n_blocks: int = 3
    """Residual blocks after each convolution, with dilations 1, 3, 9 and so on."""
    n_frames: int = 344
    """Codes of a window: 2 s, as published."""
    code_width: int = 64
    hop: int = 128
    """Samples per code."""
    discriminator_channels: int = 8
    discriminator_max_channels: int = 64
    discriminator_layers: int = 4
    """Strided layers of each discriminator."""
    n_scales: int = 3
    """Discriminators, each at half the rate of the one before."""
    compat: Literal["paper", "official"] = "paper"
    """``official`` keeps the defects of the released code (docs/differences.md, N1, N3 and
    N4)."""

    def __post_init__(self) -> None:
        """Check that the sizes are bounded and fit together.

        Raises:
            ValueError: one of them is invalid.
        """
        numbers = {name: value for name, value in vars(self).items() if type(value) is int}
        for name, value in numbers.items():
            minimum = 0 if name == "visual_width" else 1
            if not minimum <= value <= MAX_WIDTH:
                raise ValueError(f"{name} is {value}, not {minimum} to {MAX_WIDTH}")
        channels = (*self.motion_channels, *self.generator_channels)
        if not all(1 <= width <= MAX_WIDTH for width in channels):
            raise ValueError(f"channels must be 1 to {MAX_WIDTH}")
        if len(self.motion_channels) != len(MOTION_KERNELS) - 1:
            raise ValueError(f"motion_channels must have {len(MOTION_KERNELS) - 1} widths")
        if not N_STRIDED <= len(self.generator_channels) <= MAX_SCALES:
            raise ValueError(f"generator_channels must have {N_STRIDED} to {MAX_SCALES} widths")
        layers = (self.n_blocks, self.discriminator_layers, self.n_scales)
        if self.n_blocks > MAX_BLOCKS or max(layers) > MAX_SCALES:
            raise ValueError("too many blocks, layers or scales")
        if self.discriminator_channels % 4 or self.discriminator_max_channels % 4:
            raise ValueError("channels of the discriminator must be multiples of 4")
        if self.motion_length < 3 ** (self.n_blocks - 1) + 1:
            raise ValueError("motion_hidden is too small for the dilations")
        if self.n_frames < 3 ** (self.n_blocks - 1) + 1:
            raise ValueError("n_frames is too small for the dilations")
        if self.compat not in ("paper", "official"):
            raise ValueError(f"unknown compat {self.compat!r}")

    @property
    def window_s(self) -> float:
        """Duration of a window."""
        return self.n_frames * self.hop / SAMPLE_RATE_HZ

    @property
    def motion_length(self) -> int:
        """Length of the output of the motion encoder's convolutions, which have no padding."""
        return self.motion_hidden - sum(kernel - 1 for kernel in MOTION_KERNELS)

    @property
    def generator_input(self) -> int:
        """Width of the fused vector for which the generator returns ``n_frames`` frames."""
        padding = 2 * GENERATOR_PADDING
        length = self.n_frames + LAST_KERNEL - 1 - padding
        for _ in self.generator_channels[N_STRIDED:]:
            length += MIDDLE_KERNEL - 1 - padding
        # Of the two lengths that a stride of 2 maps to the same one, the longer, as published.
        length = 2 * length - 1 + MIDDLE_KERNEL - padding
        return 2 * length - 2 + FIRST_KERNEL - padding


FULL_CONFIG = D2mGanConfig(
    motion_hidden=800,
    motion_channels=(256, 512, 1024),
    motion_features=1024,
    visual_width=2048,
    genre_features=256,
    generator_channels=(32, 64, 128, 256, 512),
    n_blocks=4,
    discriminator_channels=32,
    discriminator_max_channels=1024,
)
"""Sizes of the released code, except for the width of a motion frame (219 with SMPL) and the
number of genres (10)."""


def require_codec(config: D2mGanConfig, codec: nn.Module | None) -> VqVae:
    """Return the codec, if its codes have the hop and the width of a configuration.

    Raises:
        WeightsError: they differ.
    """
    assert isinstance(codec, VqVae)
    found = codec.config.hop, codec.config.code_width
    expected = config.hop, config.code_width
    if found != expected:
        raise WeightsError(
            f"the VQ-VAE has hop and code width {found}, D2M-GAN expects {expected}",
            hint="use the VQ-VAE with which D2M-GAN was trained",
        )
    return codec
