"""Unfused attention and norms of audio-diffusion-pytorch, for comparison."""

from torch import nn

from loris_cli.models.fused_attention import FUSED_CLASSES


def restore_unfused(network: nn.Module) -> None:
    """Undo `fuse_attention_and_norms` in place."""
    unfused = {fused: original for original, fused in FUSED_CLASSES.items()}
    for module in network.modules():
        module.__class__ = unfused.get(type(module), type(module))
