"""Fused attention and layer norms for the networks of audio-diffusion-pytorch.

The package computes both with separate operations. The fused kernels of torch are equivalent up
to rounding.
"""

from audio_diffusion_pytorch.modules import AttentionBase, LayerNorm
from torch import Tensor, nn
from torch.nn import functional


class FusedAttention(AttentionBase):  # type: ignore[misc]
    """Scaled dot-product attention with torch's fused kernel, which also needs less memory."""

    def forward(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        mask: Tensor | None = None,
        attention_bias: Tensor | None = None,
    ) -> Tensor:
        """Map q, k, v of ``(batch, length, heads * width)`` to ``(batch, queries, out)``."""
        assert mask is None
        assert attention_bias is None
        queries, keys, values = (
            x.reshape(*x.shape[:2], self.num_heads, -1).transpose(1, 2) for x in (q, k, v)
        )
        h = functional.scaled_dot_product_attention(queries, keys, values, scale=self.scale)
        out: Tensor = self.to_out(h.transpose(1, 2).flatten(2))
        return out


class FusedLayerNorm(LayerNorm):  # type: ignore[misc]
    """Layer norm over the last axis."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalize ``(..., features)`` over the last axis."""
        return functional.layer_norm(x, self.g.shape, self.g, self.b, self.eps)


FUSED_CLASSES: dict[type[nn.Module], type[nn.Module]] = {
    AttentionBase: FusedAttention,
    LayerNorm: FusedLayerNorm,
}
"""The norm over channels is not replaced: its axis is not the last, so there is no gain."""


def fuse_attention_and_norms(network: nn.Module) -> None:
    """Replace attention and layer norms by their fused versions, in place.

    Only the class of a module changes, so parameters keep their names and order.
    """
    for module in network.modules():
        module.__class__ = FUSED_CLASSES.get(type(module), type(module))
