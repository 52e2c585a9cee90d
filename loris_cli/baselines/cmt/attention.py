"""Causal self-attention that continues from a state: softmax, or linear in the length.

    new tokens, state of the earlier ones -> outputs, new state

A sequence may be given at once, token by token or in parts of any length; the outputs are
equal.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

AttentionKind = Literal["softmax", "linear"]
LINEAR_EPSILON = 1e-6
"""Added to the denominator of linear attention (fast-transformers)."""
LINEAR_CHUNK = 128
"""Tokens that linear attention processes at once; limits the memory, not the context."""


class AttentionState(NamedTuple):
    """What attention needs of the earlier tokens.

    Softmax: keys and values, ``(batch, heads, tokens, features)``. Linear: sum of the outer
    products of keys and values, ``(batch, heads, features, features)``, and of the keys,
    ``(batch, heads, features)``.
    """

    first: Tensor
    second: Tensor


class CausalAttention(nn.Module):
    """Multi-head self-attention to the same and earlier tokens."""

    def __init__(self, width: int, heads: int, kind: AttentionKind) -> None:
        """Build the projections."""
        super().__init__()
        self.heads, self.kind = heads, kind
        self.to_query, self.to_key = nn.Linear(width, width), nn.Linear(width, width)
        self.to_value, self.to_out = nn.Linear(width, width), nn.Linear(width, width)

    def forward(
        self, x: Tensor, state: AttentionState | None = None
    ) -> tuple[Tensor, AttentionState]:
        """Return outputs ``(batch, tokens, width)`` and the state after these tokens."""
        query, key, value = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer in (self.to_query, self.to_key, self.to_value)
        )
        attend = attend_softmax if self.kind == "softmax" else attend_linear
        out, state = attend(query, key, value, state)
        return self.to_out(out.transpose(1, 2).flatten(2)), state


def attend_softmax(
    query: Tensor, key: Tensor, value: Tensor, state: AttentionState | None
) -> tuple[Tensor, AttentionState]:
    """Return softmax attention, ``(batch, heads, tokens, features)``, and the new state."""
    n_new = query.shape[2]
    if state is None:
        out = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        return out, AttentionState(key, value)
    key = torch.cat([state.first, key], dim=2)
    value = torch.cat([state.second, value], dim=2)
    mask = None
    if n_new > 1:
        n_all = key.shape[2]
        mask = torch.ones(n_new, n_all, dtype=torch.bool, device=key.device)
        mask = mask.tril(n_all - n_new)
    out = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    return out, AttentionState(key, value)


def attend_linear(
    query: Tensor, key: Tensor, value: Tensor, state: AttentionState | None
) -> tuple[Tensor, AttentionState]:
    """Return linear attention and the new state.

    Katharopoulos et al. (2020), "Transformers are RNNs", Eq. 12, with the feature map
    ``elu(x) + 1``. Inside a chunk the sums are masked products; between chunks they are the
    state of the recurrent form (Eqs. 18 to 20).

    Args:
        query: ``(batch, heads, tokens, features)``.
        key: like ``query``.
        value: like ``query``.
        state: sums over earlier tokens.
    """
    query, key = functional.elu(query) + 1, functional.elu(key) + 1
    if state is None:
        n_features = key.shape[-1]
        state = AttentionState(
            key.new_zeros(*key.shape[:2], n_features, n_features),
            key.new_zeros(*key.shape[:2], n_features),
        )
    outputs = []
    for first in range(0, query.shape[2], LINEAR_CHUNK):
        q, k, v = (x[:, :, first : first + LINEAR_CHUNK] for x in (query, key, value))
        weights = (q @ k.transpose(2, 3)).tril()
        numerator = weights @ v + q @ state.first
        denominator = weights.sum(3) + (q @ state.second[..., None])[..., 0] + LINEAR_EPSILON
        outputs.append(numerator / denominator[..., None])
        state = AttentionState(state.first + k.transpose(2, 3) @ v, state.second + k.sum(2))
    return torch.cat(outputs, dim=2), state
