"""Attention and norms of audio-diffusion-pytorch by torch's kernels: the same, in less time.

The package writes them out, operation by operation. Modules are turned into these in place, so
parameters keep their names; results differ by rounding.
"""

from audio_diffusion_pytorch.modules import AttentionBase, LayerNorm
from torch import Tensor, nn
from torch.nn import functional


class FusedAttention(AttentionBase):  # type: ignore[misc]
    """The package's attention, in less memory too."""

    def forward(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        mask: Tensor | None = None,
        attention_bias: Tensor | None = None,
    ) -> Tensor:
        """``(batch, queries, heads * width)`` and so on to ``(batch, queries, out)``."""
        assert mask is None
        assert attention_bias is None
        batch, n_queries, _ = q.shape
        queries, keys, values = (
            x.reshape(batch, x.shape[1], self.num_heads, -1).transpose(1, 2) for x in (q, k, v)
        )
        seen = functional.scaled_dot_product_attention(queries, keys, values, scale=self.scale)
        out: Tensor = self.to_out(seen.transpose(1, 2).reshape(batch, n_queries, -1))
        return out


class FusedLayerNorm(LayerNorm):  # type: ignore[misc]
    """The package's norm over the last axis."""

    def forward(self, x: Tensor) -> Tensor:
        """``(..., features)`` to the same."""
        return functional.layer_norm(x, self.g.shape, self.g, self.b, self.eps)


FUSED_CLASSES: dict[type[nn.Module], type[nn.Module]] = {
    AttentionBase: FusedAttention,
    LayerNorm: FusedLayerNorm,
}
"""The norm over channels would gain nothing: its axis is not the last."""


def fuse_attention_and_norms(network: nn.Module) -> None:
    """Turn what the package writes out into one kernel each, in place."""
    for module in network.modules():
        if type(module) in FUSED_CLASSES:
            module.__class__ = FUSED_CLASSES[type(module)]


def restore_unfused(network: nn.Module) -> None:
    """The package's own again, to compare with."""
    plain = {ours: theirs for theirs, ours in FUSED_CLASSES.items()}
    for module in network.modules():
        if type(module) in plain:
            module.__class__ = plain[type(module)]
