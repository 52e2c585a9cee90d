"""Sizes shared by both U-Nets, as arguments of audio-diffusion-pytorch's `UNet1d`."""

import math
from dataclasses import dataclass
from typing import Any

MAX_BLOCKS = 256


@dataclass(frozen=True, kw_only=True)
class UNetConfig:
    """Sizes of a U-Net; the subclasses define the defaults."""

    channels: int
    """Channels of the first level."""
    multipliers: tuple[int, ...]
    """Channels of each level, as multiples of ``channels``."""
    factors: tuple[int, ...]
    """Strides between levels."""
    num_blocks: tuple[int, ...]
    """ResNet blocks of each level."""
    attentions: tuple[bool, ...]
    """Whether each level has self-attention."""
    heads: int
    """Number of heads in every attention layer."""
    head_features: int
    """Width of each attention head."""

    patch_factor = 1
    """Samples or frames that the patcher folds into channels."""

    def __post_init__(self) -> None:
        """Check that all levels are described and are not too many.

        Raises:
            ValueError: the sizes do not define a U-Net.
        """
        n_levels = len(self.factors)
        lengths = len(self.multipliers) - 1, len(self.num_blocks), len(self.attentions)
        if not n_levels or set(lengths) != {n_levels} or sum(self.num_blocks) > MAX_BLOCKS:
            raise ValueError("multipliers, factors, num_blocks and attentions do not fit")

    @property
    def stride(self) -> int:
        """Total stride; the number of input samples or frames must be a multiple of it."""
        return self.patch_factor * math.prod(self.factors)

    def unet_options(self) -> dict[str, Any]:
        """Return the arguments of `UNet1d`: the sizes, and the constants of the paper."""
        shared_fields = ("channels", "multipliers", "factors", "num_blocks", "attentions")
        return {name: getattr(self, name) for name in shared_fields} | {
            "patch_factor": self.patch_factor,
            "attention_heads": self.heads,
            "attention_features": self.head_features,
            "patch_blocks": 1,
            "attention_multiplier": 2,
            "resnet_groups": 8,
            "kernel_multiplier_downsample": 2,
            "kernel_sizes_init": [1],  # accepted but unused in 0.0.43
            "use_nearest_upsample": False,
            "use_skip_scale": True,
            "use_attention_bottleneck": True,
            "use_context_time": True,
        }
