"""The package's attention and norms in one kernel each: same numbers under same names."""

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


class Attentive(nn.Module):
    """To itself, then to others; as in a block of the U-Net."""

    def __init__(self) -> None:
        super().__init__()
        self.own = TransformerBlock1d(channels=32, num_heads=4, head_features=8)
        self.across = CrossAttention(
            features=32, context_features=16, num_heads=4, head_features=8
        )

    def forward(self, x: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        answer: torch.Tensor = self.across(self.own(x).transpose(1, 2), context)
        return answer


@pytest.mark.parametrize("frames", [1, 24])
def test_what_is_fused_says_the_same_and_learns_the_same(frames: int) -> None:
    torch.manual_seed(0)
    plain = Attentive()
    for parameter in plain.parameters():  # gains of 1 and shifts of 0 would hide what is lost
        nn.init.normal_(parameter, std=0.3)
    fused = copy.deepcopy(plain)
    fuse_attention_and_norms(fused)
    assert sum(type(module) in FUSED_CLASSES for module in plain.modules()) > 4
    assert not any(type(module) in FUSED_CLASSES for module in fused.modules())
    assert plain.state_dict().keys() == fused.state_dict().keys()

    x, context = torch.randn(2, 32, frames), torch.randn(2, 7, 16)
    answers = [network(x, context) for network in (plain, fused)]
    torch.testing.assert_close(answers[0], answers[1], atol=1e-5, rtol=1e-4)

    weights = torch.randn_like(answers[0])
    for answer in answers:
        (answer * weights).sum().backward()
    for one, other in zip(plain.parameters(), fused.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, atol=1e-3, rtol=1e-3)


def test_the_small_network_is_fused() -> None:
    kinds = {type(module) for module in MiniDenoiser(TINY_DENOISER).unet.modules()}
    assert {FusedAttention, FusedLayerNorm} <= kinds
    assert not kinds & {AttentionBase, LayerNorm}
