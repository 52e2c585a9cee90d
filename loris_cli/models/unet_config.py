"""Sizes that both U-Nets have in common, as arguments of audio-diffusion-pytorch's `UNet1d`."""

import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class UNetConfig:
    """Sizes of a U-Net; the configurations of both networks give the defaults."""

    channels: int
    """Channels of the outermost level."""
    multipliers: tuple[int, ...]
    """Channels of each level, in multiples of the outermost."""
    factors: tuple[int, ...]
    """Strides between levels."""
    num_blocks: tuple[int, ...]
    """ResNet blocks of each level."""
    attentions: tuple[bool, ...]
    """Whether each level has self-attention."""
    heads: int
    """Heads of every attention."""
    head_features: int
    """Width of each head."""

    patch_factor = 1
    """Samples or frames that the patcher folds into channels."""

    @property
    def stride(self) -> int:
        """What the number of input samples or frames must be a multiple of."""
        return self.patch_factor * math.prod(self.factors)

    def unet_options(self) -> dict[str, Any]:
        """Return the arguments of `UNet1d` that follow from the sizes or are the paper's."""
        shared_fields = ("channels", "multipliers", "factors", "num_blocks", "attentions")
        return {name: getattr(self, name) for name in shared_fields} | {
            "patch_factor": self.patch_factor,
            "attention_heads": self.heads,
            "attention_features": self.head_features,
            "patch_blocks": 1,
            "attention_multiplier": 2,
            "resnet_groups": 8,
            "kernel_multiplier_downsample": 2,
            "kernel_sizes_init": [1],  # accepted and unused in 0.0.43
            "use_nearest_upsample": False,
            "use_skip_scale": True,
            "use_attention_bottleneck": True,
            "use_context_time": True,
        }
