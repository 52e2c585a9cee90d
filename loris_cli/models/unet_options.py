"""What our two U-Nets have in common: arguments of audio-diffusion-pytorch's `UNet1d`."""

from typing import Any, Protocol


class UNetConfig(Protocol):
    """Sizes of a U-Net, by the names that both configurations have for them."""

    @property
    def channels(self) -> int:
        """Of the outermost level."""

    @property
    def multipliers(self) -> tuple[int, ...]:
        """Channels of each level, in those of the outermost."""

    @property
    def factors(self) -> tuple[int, ...]:
        """Strides between levels."""

    @property
    def num_blocks(self) -> tuple[int, ...]:
        """ResNet blocks of each level."""

    @property
    def attentions(self) -> tuple[bool, ...]:
        """Which levels attend to themselves."""

    @property
    def heads(self) -> int:
        """Of every attention."""

    @property
    def head_features(self) -> int:
        """Of each head."""


def make_unet_options(config: UNetConfig) -> dict[str, Any]:
    """Arguments that follow from the sizes, and those of the paper (specification, 3.1)."""
    return {
        "channels": config.channels,
        "multipliers": list(config.multipliers),
        "factors": list(config.factors),
        "num_blocks": list(config.num_blocks),
        "attentions": list(config.attentions),
        "attention_heads": config.heads,
        "attention_features": config.head_features,
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
