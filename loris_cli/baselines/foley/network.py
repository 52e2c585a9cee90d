"""Network of Foley Music: pose tokens from an ST-GCN, events from a Transformer decoder.

    poses -> ST-GCN -> 33 tokens;  events, tokens -> decoder with relative attention -> logits

Gan et al., "Foley Music: Learning to Generate Music from Videos" (ECCV 2020).
"""

import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from loris_cli.baselines.foley.config import DROPOUT, FoleyConfig
from loris_cli.baselines.foley.events import N_SYMBOLS
from loris_cli.baselines.foley.relative_attention import (
    KeyValueCache,
    RelativeAttention,
    merge_heads,
    split_heads,
)
from loris_cli.models.stgcn import PaperMotionEncoder


class CrossAttention(nn.Module):
    """Multi-head attention to the pose tokens."""

    def __init__(self, features: int, heads: int) -> None:
        """Build the layer."""
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(features, features)
        self.key_value = nn.Linear(features, 2 * features)
        self.out = nn.Linear(features, features)
        for layer in (self.query, self.key_value, self.out):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def project_tokens(self, tokens: Tensor) -> KeyValueCache:
        """Return keys and values of tokens, ``(batch, tokens, features)``."""
        key, value = self.key_value(tokens).chunk(2, dim=-1)
        return KeyValueCache(split_heads(key, self.heads), split_heads(value, self.heads))

    def forward(self, x: Tensor, tokens: KeyValueCache) -> Tensor:
        """Return the attention output, ``(batch, length, features)``."""
        out: Tensor = functional.scaled_dot_product_attention(
            split_heads(self.query(x), self.heads),
            tokens.keys,
            tokens.values,
            dropout_p=DROPOUT if self.training else 0.0,
        )
        out = self.out(merge_heads(out))
        return out


@dataclass
class LayerCache:
    """Keys and values of earlier events and of the pose tokens in one layer."""

    events: KeyValueCache
    tokens: KeyValueCache


@dataclass
class DecoderCache:
    """State of decoding: caches of all layers, and the number of events."""

    layers: list[LayerCache]
    n_events: int = 0

    def select_rows(self, rows: Tensor) -> None:
        """Replace the sequences by copies of the given rows."""
        for layer in self.layers:
            layer.events.select_rows(rows)
            layer.tokens.select_rows(rows)


class DecoderLayer(nn.Module):
    """Self-attention, cross-attention and feed-forward network, with post-normalization."""

    def __init__(self, config: FoleyConfig) -> None:
        """Build a layer."""
        super().__init__()
        features = config.features
        self.attention = RelativeAttention(features, config.heads, config.max_events, DROPOUT)
        self.cross_attention = CrossAttention(features, config.heads)
        self.expand = nn.Linear(features, config.ff_features)
        self.contract = nn.Linear(config.ff_features, features)
        self.norms = nn.ModuleList(nn.LayerNorm(features) for _ in range(3))
        self.dropout = nn.Dropout(DROPOUT)
        for layer in (self.expand, self.contract):
            nn.init.xavier_uniform_(layer.weight)

    def create_cache(self, tokens: Tensor) -> LayerCache:
        """Return the cache before the first event, for tokens ``(batch, tokens, features)``."""
        return LayerCache(
            self.attention.create_cache(len(tokens)),
            self.cross_attention.project_tokens(tokens),
        )

    def forward(
        self, x: Tensor, tokens: KeyValueCache, past: KeyValueCache | None, start: int
    ) -> Tensor:
        """Map ``(batch, length, features)`` to the same shape."""
        x = self.norms[0](x + self.dropout(self.attention(x, past, start)))
        x = self.norms[1](x + self.dropout(self.cross_attention(x, tokens)))
        hidden = self.dropout(functional.relu(self.expand(x)))
        out: Tensor = self.norms[2](x + self.dropout(self.contract(hidden)))
        return out


class FoleyNetwork(nn.Module):
    """Pose encoder and event decoder."""

    positions: Tensor

    def __init__(self, config: FoleyConfig) -> None:
        """Build the network with random weights."""
        super().__init__()
        self.config = config
        units = tuple(zip(config.unit_channels, config.unit_strides, strict=True))
        self.pose_norm = nn.BatchNorm1d(3 * config.n_joints)
        self.pose_encoder = PaperMotionEncoder(config.features, units)
        self.token_norm = nn.LayerNorm(config.features)
        self.embedding = nn.Embedding(N_SYMBOLS, config.features)
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.n_layers))
        self.out_norm = nn.LayerNorm(config.features)
        self.out = nn.Linear(config.features, N_SYMBOLS)
        self.dropout = nn.Dropout(DROPOUT)
        n_positions = max(config.max_events, config.n_pose_tokens)
        with torch.device("cpu"):  # constant, not in checkpoints, so not on "meta"
            positions = encode_positions(n_positions, config.features)
        self.register_buffer("positions", positions, persistent=False)

    def encode_pose(self, pose: Tensor) -> Tensor:
        """Return the pose tokens.

        Args:
            pose: normalized keypoints, ``(batch, 132, 17, 3)`` at 22 Hz.

        Returns:
            ``(batch, tokens, features)``
        """
        normalized = self.pose_norm(pose.flatten(2).transpose(1, 2)).transpose(1, 2)
        n_tokens = self.config.n_pose_tokens
        tokens = self.pose_encoder(normalized.reshape(pose.shape), n_tokens)
        if self.config.compat == "paper":
            # Released: tokens have no positions (docs/differences.md, F3).
            tokens = tokens + self.positions[:n_tokens]
        out: Tensor = self.token_norm(tokens)
        return out

    def start_decoding(self, tokens: Tensor) -> DecoderCache:
        """Return an empty cache for pose tokens, ``(batch, tokens, features)``."""
        return DecoderCache([layer.create_cache(tokens) for layer in self._list_layers()])

    def decode(self, symbols: Tensor, cache: DecoderCache) -> Tensor:
        """Return the logits after the next symbols, and add these to the cache.

        Args:
            symbols: ``(batch, length)``.
            cache: state after the symbols before, at most ``max_events`` in all.

        Returns:
            Logits of the symbol after each given one, ``(batch, length, 243)``.
        """
        start = cache.n_events
        x = self._embed(symbols, start)
        for layer, layer_cache in zip(self.layers, cache.layers, strict=True):
            x = layer(x, layer_cache.tokens, layer_cache.events, start)
        cache.n_events += symbols.shape[1]
        logits: Tensor = self.out(self.out_norm(x))
        return logits

    def forward(self, pose: Tensor, symbols: Tensor) -> Tensor:
        """Return the logits of entire sequences.

        Args:
            pose: as in `encode_pose`.
            symbols: from `START` on, ``(batch, length)``, at most ``max_events``.

        Returns:
            Logits of the symbol after each given one, ``(batch, length, 243)``.
        """
        tokens = self.encode_pose(pose)
        x = self._embed(symbols, 0)
        for layer in self._list_layers():
            x = layer(x, layer.cross_attention.project_tokens(tokens), None, 0)
        logits: Tensor = self.out(self.out_norm(x))
        return logits

    def _list_layers(self) -> list[DecoderLayer]:
        return cast(list[DecoderLayer], list(self.layers))

    def _embed(self, symbols: Tensor, start: int) -> Tensor:
        positions = self.positions[start : start + symbols.shape[1]]
        embedded: Tensor = self.dropout(self.embedding(symbols) + positions)
        return embedded


def encode_positions(n_positions: int, features: int) -> Tensor:
    """Return sinusoidal positions (Vaswani et al., 2017), ``(positions, features)``."""
    rates = torch.exp(torch.arange(0, features, 2) * (-math.log(10_000.0) / features))
    angles = torch.arange(n_positions)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)
