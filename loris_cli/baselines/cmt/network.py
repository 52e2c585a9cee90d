"""Network of CMT: a causal transformer of compound words (Di et al., 2021, Sec. 3.3).

    initial tokens, words -> sum of embeddings -> transformer -> type -> other attributes

The attributes of a word are embedded separately, concatenated and projected; the position in
the piece and in ticks are added. The type of the next word is predicted first, and all other
attributes are predicted from it (Hsiao et al., 2021, "Compound Word Transformer"). Sizes are
those of the released code (``src/model.py``).
"""

import math
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from loris_cli.baselines.cmt.attention import AttentionKind, AttentionState, CausalAttention
from loris_cli.baselines.cmt.words import (
    N_ATTRIBUTES,
    N_TIMES,
    VOCABULARY_SIZES,
    Column,
    Track,
)
from loris_cli.baselines.learned_method import Compat
from loris_cli.config import GENRES

DROPOUT = 0.1
EMBEDDING_SIZES = (64, 32, 64, 512, 128, 32, 64)
"""Embedding size of each attribute."""
INITIAL_EMBEDDING_SIZE = 64
"""Embedding size of genre, key and instrument."""
TIME_EMBEDDING_SIZE = 256
N_RELEASED_GENRES, N_KEYS, N_TRACKS = 7, 1, len(Track) + 1
"""Number of genres, keys and instruments of the initial tokens; each includes "none". The
single key carries no information (docs/differences.md, C2)."""
N_INITIAL_TOKENS = 2 + len(Track)
"""Genre, key, and five instruments."""
MAX_LAYERS, MAX_WIDTH, MAX_FEEDFORWARD = 48, 2048, 4096
MIN_CONTEXT_WORDS, MAX_CONTEXT_WORDS = 16, 4096
NetworkState = tuple[AttentionState, ...]
"""Attention state of each layer."""


@dataclass(frozen=True, kw_only=True)
class CmtConfig:
    """Sizes of the network; the defaults are those of ``compact``."""

    layers: int = 6
    width: int = 256
    heads: int = 8
    feedforward: int = 1024
    attention: AttentionKind = "softmax"
    context_words: int = 512
    """Number of words of a training example, and longest context in generation."""
    compat: Compat = "paper"

    def __post_init__(self) -> None:
        """Check the sizes."""
        for name, largest in (
            ("layers", MAX_LAYERS),
            ("width", MAX_WIDTH),
            ("heads", MAX_WIDTH),
            ("feedforward", MAX_FEEDFORWARD),
            ("context_words", MAX_CONTEXT_WORDS),
        ):
            if not 1 <= getattr(self, name) <= largest:
                raise ValueError(f"{name} must be from 1 to {largest}")
        if self.width % self.heads or self.width % 2:
            raise ValueError("width must be even and a multiple of heads")
        if self.context_words < MIN_CONTEXT_WORDS:
            raise ValueError(f"context_words must be at least {MIN_CONTEXT_WORDS}")
        if self.attention not in get_args(AttentionKind):
            raise ValueError(f"unknown attention: {self.attention}")
        if self.compat not in get_args(Compat):
            raise ValueError(f"unknown compat: {self.compat}")

    @property
    def n_genres(self) -> int:
        """Number of genres of the initial tokens, including "none"."""
        return N_RELEASED_GENRES if self.compat == "official" else len(GENRES) + 1


FULL_CONFIG = CmtConfig(
    layers=12, width=512, feedforward=2048, attention="linear", context_words=2048
)
"""The released network. Its training examples are whole songs of up to 9,999 words; pieces of
our training data are shorter."""


class ScaledEmbedding(nn.Embedding):
    """Embedding multiplied by the square root of its size."""

    def forward(self, tokens: Tensor) -> Tensor:
        """Return ``(*tokens.shape, size)``."""
        return super().forward(tokens) * math.sqrt(self.embedding_dim)


class TransformerLayer(nn.Module):
    """Attention and feed-forward layer, each followed by normalization."""

    def __init__(self, config: CmtConfig) -> None:
        """Build the layer."""
        super().__init__()
        self.attention = CausalAttention(config.width, config.heads, config.attention)
        self.expand = nn.Linear(config.width, config.feedforward)
        self.contract = nn.Linear(config.feedforward, config.width)
        self.attention_norm = nn.LayerNorm(config.width)
        self.feedforward_norm = nn.LayerNorm(config.width)
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, x: Tensor, state: AttentionState | None) -> tuple[Tensor, AttentionState]:
        """Return outputs ``(batch, tokens, width)`` and the attention state."""
        attended, state = self.attention(x, state)
        x = self.attention_norm(x + self.dropout(attended))
        hidden = self.dropout(functional.gelu(self.expand(x)))
        return self.feedforward_norm(x + self.dropout(self.contract(hidden))), state


class CmtNetwork(nn.Module):
    """Transformer that predicts the attributes of the next word."""

    def __init__(self, config: CmtConfig) -> None:
        """Build the network with random weights."""
        super().__init__()
        self.config = config
        width = config.width
        initial_sizes = (config.n_genres, N_KEYS, N_TRACKS)
        self.initial_embeddings = nn.ModuleList(
            ScaledEmbedding(size, INITIAL_EMBEDDING_SIZE) for size in initial_sizes
        )
        self.initial_projection = nn.Linear(3 * INITIAL_EMBEDDING_SIZE, width)
        self.embeddings = nn.ModuleList(
            ScaledEmbedding(n_values, size)
            for n_values, size in zip(VOCABULARY_SIZES, EMBEDDING_SIZES, strict=True)
        )
        self.word_projection = nn.Linear(sum(EMBEDDING_SIZES), width)
        self.time_embedding = ScaledEmbedding(N_TIMES, TIME_EMBEDDING_SIZE)
        self.time_projection = nn.Linear(TIME_EMBEDDING_SIZE, width)
        self.dropout = nn.Dropout(DROPOUT)
        self.layers = nn.ModuleList(TransformerLayer(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(width)
        self.type_fusion = nn.Linear(width + EMBEDDING_SIZES[Column.TYPE], width)
        self.heads = nn.ModuleList(nn.Linear(width, n) for n in VOCABULARY_SIZES)

    def embed_initial(self, initial: Tensor) -> Tensor:
        """Embed initial tokens, ``(batch, 7, 3)``: genre, key and instrument of each."""
        parts = [embed(initial[..., k]) for k, embed in enumerate(self.initial_embeddings)]
        return torch.as_tensor(self.initial_projection(torch.cat(parts, dim=-1)))

    def embed_words(self, words: Tensor) -> Tensor:
        """Embed words, ``(batch, words, 9)``, with their positions."""
        parts = [embed(words[..., k]) for k, embed in enumerate(self.embeddings)]
        x = self.word_projection(torch.cat(parts, dim=-1))
        x = x + self.time_projection(self.time_embedding(words[..., Column.TIME]))
        return torch.as_tensor(
            self.dropout(x + encode_ticks(words[..., Column.TICK], self.config.width))
        )

    def encode(
        self, embedded: Tensor, state: NetworkState | None = None
    ) -> tuple[Tensor, NetworkState]:
        """Return the hidden states of embedded tokens that follow those of a state.

        Args:
            embedded: ``(batch, tokens, width)``.
            state: state after the earlier tokens; None at the start.

        Returns:
            ``(batch, tokens, width)``, and the state after these tokens.
        """
        states = []
        x = embedded
        for index, layer in enumerate(self.layers):
            x, layer_state = layer(x, None if state is None else state[index])
            states.append(layer_state)
        return self.norm(x), tuple(states)

    def predict_type(self, hidden: Tensor) -> Tensor:
        """Return the logits of the type of the next word, ``(..., 3)``."""
        return torch.as_tensor(self.heads[Column.TYPE](hidden))

    def predict_attributes(self, hidden: Tensor, types: Tensor) -> list[Tensor]:
        """Return the logits of all attributes of the next word.

        Args:
            hidden: ``(..., width)``.
            types: type of the next word, ``(...)``.

        Returns:
            logits of each attribute, ``(..., values)``; those of the type do not depend on
            ``types``.
        """
        embedded = self.embeddings[Column.TYPE](types)
        fused = self.type_fusion(torch.cat([hidden, embedded], dim=-1))
        return [
            head(hidden if column == Column.TYPE else fused)
            for column, head in enumerate(self.heads)
        ]

    def forward(self, initial: Tensor, words: Tensor, next_types: Tensor) -> list[Tensor]:
        """Return the logits of each attribute of the next words.

        Args:
            initial: initial tokens, ``(batch, 7, 3)``.
            words: ``(batch, words, 9)``.
            next_types: type of each next word, ``(batch, words)``.

        Returns:
            logits of the seven attributes, ``(batch, words, values)`` each.
        """
        embedded = torch.cat([self.embed_initial(initial), self.embed_words(words)], dim=1)
        hidden, _ = self.encode(embedded)
        return self.predict_attributes(hidden[:, N_INITIAL_TOKENS:], next_types)


def encode_ticks(ticks: Tensor, width: int) -> Tensor:
    """Return the sinusoidal encoding of positions in ticks, ``(*ticks.shape, width)``."""
    exponents = torch.arange(0, width, 2, device=ticks.device, dtype=torch.float32) / width
    phases = ticks[..., None] * torch.exp(-math.log(10_000.0) * exponents)
    return torch.stack([phases.sin(), phases.cos()], dim=-1).flatten(-2)


class CmtLoss(nn.Module):
    """Mean of the cross-entropies of the seven attributes, over the words of each piece."""

    def __init__(self, network: CmtNetwork) -> None:
        """Store the network."""
        super().__init__()
        self.network = network

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """Return the loss of a batch of examples from `draw_example`."""
        targets, mask = batch["targets"], batch["mask"]
        logits = self.network(batch["initial"], batch["words"], targets[..., Column.TYPE])
        losses = [
            functional.cross_entropy(
                logits[column].flatten(0, 1), targets[..., column].flatten(), reduction="none"
            )
            for column in range(N_ATTRIBUTES)
        ]
        weights = mask.flatten()
        return (torch.stack(losses) * weights).sum() / weights.sum() / N_ATTRIBUTES
