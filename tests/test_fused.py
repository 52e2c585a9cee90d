"""Fused attention and norms: equal to the modules of audio-diffusion-pytorch."""

import copy

import pytest
import torch
from audio_diffusion_pytorch.modules import (
    AttentionBase,
    CrossAttention,
    LayerNorm,
    TransformerBlock1d,
)
from tiny_models import TINY_DENOISER
from torch import nn

from loris_cli.models.fused_attention import (
    FUSED_CLASSES,
    FusedAttention,
    FusedLayerNorm,
    fuse_attention_and_norms,
)
from loris_cli.models.mini_unet import MiniDenoiser


class AttentionNetwork(nn.Module):
    """Self-attention and cross-attention, as in a block of the U-Net."""

    def __init__(self) -> None:
        super().__init__()
        self.self_attention = TransformerBlock1d(channels=32, num_heads=4, head_features=8)
        self.cross_attention = CrossAttention(
            features=32, context_features=16, num_heads=4, head_features=8
        )

    def forward(self, x: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.cross_attention(
            self.self_attention(x).transpose(1, 2), context
        )
        return output


@pytest.mark.parametrize("frames", [1, 24])
def test_fused_network_has_the_same_output_and_gradients(frames: int) -> None:
    torch.manual_seed(0)
    plain = AttentionNetwork()
    for parameter in plain.parameters():  # initial gains of 1 and shifts of 0 would hide errors
        nn.init.normal_(parameter, std=0.3)
    fused = copy.deepcopy(plain)
    fuse_attention_and_norms(fused)
    assert sum(type(module) in FUSED_CLASSES for module in plain.modules()) > 4
    assert not any(type(module) in FUSED_CLASSES for module in fused.modules())
    assert plain.state_dict().keys() == fused.state_dict().keys()

    x, context = torch.randn(2, 32, frames), torch.randn(2, 7, 16)
    outputs = [network(x, context) for network in (plain, fused)]
    torch.testing.assert_close(outputs[1], outputs[0], atol=1e-5, rtol=1e-4)

    weights = torch.randn_like(outputs[0])
    for output in outputs:
        (output * weights).sum().backward()
    for expected, actual in zip(plain.parameters(), fused.parameters(), strict=True):
        assert expected.grad is not None
        torch.testing.assert_close(actual.grad, expected.grad, atol=1e-3, rtol=1e-3)


def test_mini_denoiser_has_only_fused_attention_and_norms() -> None:
    classes = {type(module) for module in MiniDenoiser(TINY_DENOISER).unet.modules()}
    assert {FusedAttention, FusedLayerNorm} <= classes
    assert not classes & {AttentionBase, LayerNorm}
