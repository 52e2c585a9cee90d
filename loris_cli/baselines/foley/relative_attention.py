"""Causal self-attention with relative positions, for sequences and with a cache of keys.

Huang et al., "Music Transformer" (ICLR 2019), Sec. 3.4: the score of a query for a key is
``(q k + q e) / sqrt(head features)`` with an embedding ``e`` of the distance between them,
which is shared by all heads.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass
class KeyValueCache:
    """Keys and values of earlier positions, ``(rows, heads, max_length, head features)``."""

    keys: Tensor
    values: Tensor

    def select_rows(self, rows: Tensor) -> None:
        """Replace the sequences by copies of the given rows."""
        self.keys, self.values = self.keys[rows], self.values[rows]


def split_heads(x: Tensor, heads: int) -> Tensor:
    """Map ``(batch, length, features)`` to ``(batch, heads, length, head features)``."""
    return x.reshape(*x.shape[:2], heads, -1).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """Map ``(batch, heads, length, head features)`` to ``(batch, length, features)``."""
    return x.transpose(1, 2).flatten(2)


def skew(distance_scores: Tensor) -> Tensor:
    """Move scores from columns of distances to columns of keys.

    The queries are the last positions of the keys. In the input, column ``c`` is for the
    distance ``keys - 1 - c``. Padding by one column and reading the result with rows that are
    one shorter shifts row ``i`` by ``queries - 1 - i`` to the left.

    Args:
        distance_scores: ``(..., queries, keys)``.

    Returns:
        ``(..., queries, keys)``; entries of keys after the query have no meaning.
    """
    n_queries = distance_scores.shape[-2]
    padded = functional.pad(distance_scores, (1, 0)).flatten(-2)
    return padded[..., n_queries:].reshape(distance_scores.shape)


class RelativeAttention(nn.Module):
    """Multi-head self-attention with relative positions."""

    def __init__(self, features: int, heads: int, max_length: int, dropout: float) -> None:
        """Build the layer for sequences of at most ``max_length``."""
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.qkv = nn.Linear(features, 3 * features)
        self.distances = nn.Parameter(torch.empty(max_length, features // heads))
        """Embeddings of the distances ``max_length - 1`` to 0."""
        self.out = nn.Linear(features, features)
        for weight in (self.qkv.weight, self.distances, self.out.weight):
            nn.init.xavier_uniform_(weight)
        nn.init.zeros_(self.qkv.bias)
        nn.init.zeros_(self.out.bias)

    def create_cache(self, n_rows: int) -> KeyValueCache:
        """Return an empty cache for a number of sequences."""
        max_length, head_features = self.distances.shape
        shape = n_rows, self.heads, max_length, head_features
        return KeyValueCache(self.distances.new_zeros(shape), self.distances.new_zeros(shape))

    def forward(self, x: Tensor, cache: KeyValueCache | None = None, start: int = 0) -> Tensor:
        """Return the attention output.

        Args:
            x: positions ``start`` and following, ``(batch, length, features)``.
            cache: keys and values of the positions before, to which those of ``x`` are added;
                None if ``start`` is 0.
            start: number of positions before ``x``.

        Returns:
            ``(batch, length, features)``
        """
        query, key, value = (split_heads(part, self.heads) for part in self.qkv(x).chunk(3, -1))
        n_keys = start + x.shape[1]
        if cache is not None:
            cache.keys[:, :, start:n_keys] = key
            cache.values[:, :, start:n_keys] = value
            key, value = cache.keys[:, :, :n_keys], cache.values[:, :, :n_keys]
        query = query * query.shape[-1] ** -0.5
        scores = query @ key.transpose(-1, -2)
        scores = scores + skew(query @ self.distances[len(self.distances) - n_keys :].T)
        positions = torch.arange(n_keys, device=x.device)
        is_later = positions > positions[start:, None]
        weights = scores.masked_fill(is_later, -torch.inf).softmax(dim=-1)
        weights = functional.dropout(weights, self.dropout, self.training)
        out: Tensor = self.out(merge_heads(weights @ value))
        return out
