"""Transformer of CDCD: log probabilities of the codes x_0 from noisy tokens and a condition.

    tokens -> embedding -> [attention, attention to the condition, MLP] x depth -> codes

As in VQ-Diffusion (Gu et al., 2022, Sec. 4), both attentions have layer norms whose scale and
shift depend on the step.
"""

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from loris_cli.baselines.cdcd.condition import (
    CdcdCondition,
    ConditionTokens,
    FrameTokensCondition,
    OneTokenCondition,
)
from loris_cli.baselines.cdcd.config import TOKEN_HOP_SAMPLES, CdcdConfig
from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.models.time_attention import embed_times, initialize_local_attention

MLP_RATIO = 4
INITIAL_STD = 0.02
"""Standard deviation of initial embeddings and linear layers in the release."""
GELU_SLOPE = 1.702
"""Slope of the sigmoid that approximates GELU in the release (``GELU2``)."""


class StepNorm(nn.Module):
    """Layer norm whose scale and shift depend on the diffusion step (AdaLN)."""

    def __init__(self, width: int, n_steps: int) -> None:
        """Build the embedding of the steps and its projection."""
        super().__init__()
        self.steps = nn.Embedding(n_steps, width)
        self.linear = nn.Linear(width, 2 * width)

    def forward(self, x: Tensor, step: Tensor) -> Tensor:
        """Normalize ``(batch, positions, width)`` for steps ``(batch,)``, counted from 0."""
        scale, shift = self.linear(functional.silu(self.steps(step)))[:, None].chunk(2, dim=2)
        out: Tensor = functional.layer_norm(x, x.shape[-1:]) * (1 + scale) + shift
        return out


class Attention(nn.Module):
    """Multi-head attention without a mask."""

    def __init__(self, width: int, heads: int) -> None:
        """Build the projections."""
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Attend from ``(batch, positions, width)`` to ``(batch, context, width)``."""
        query, key, value = (
            h.reshape(len(h), h.shape[1], self.heads, -1).transpose(1, 2)
            for h in (self.query(x), self.key(keys), self.value(values))
        )
        h = functional.scaled_dot_product_attention(query, key, value)
        out: Tensor = self.out(h.transpose(1, 2).flatten(2))
        return out


class Block(nn.Module):
    """Block of the transformer."""

    def __init__(self, width: int, heads: int, n_steps: int) -> None:
        """Build the layers."""
        super().__init__()
        self.norm_self = StepNorm(width, n_steps)
        self.self_attention = Attention(width, heads)
        self.norm_cross = StepNorm(width, n_steps)
        self.cross_attention = Attention(width, heads)
        self.norm_mlp = nn.LayerNorm(width)
        self.widen = nn.Linear(width, MLP_RATIO * width)
        self.narrow = nn.Linear(MLP_RATIO * width, width)

    def forward(
        self, x: Tensor, times: Tensor, condition: ConditionTokens, step: Tensor
    ) -> Tensor:
        """Map ``(batch, positions, width)`` to the same shape.

        Args:
            x: input.
            times: embedded times of the positions, ``(positions, width)``.
            condition: condition tokens.
            step: step of each example, ``(batch,)``.
        """
        h = self.norm_self(x, step)
        x = x + self.self_attention(h, h, h)
        h, keys = self.norm_cross(x, step), condition.tokens
        if condition.times is not None:
            h, keys = h + times, keys + condition.times
        x = x + self.cross_attention(h, keys, condition.tokens)
        h = self.widen(self.norm_mlp(x))
        out: Tensor = x + self.narrow(h * torch.sigmoid(GELU_SLOPE * h))
        return out


class GroupedTokens(nn.Module):
    """Groups of neighbouring tokens as positions of the transformer, and the inverse."""

    def __init__(self, width: int, group: int) -> None:
        """Build the projections."""
        super().__init__()
        self.group_size = group
        self.join = nn.Linear(group * width, width)
        self.split = nn.Linear(width, group * width)

    def group(self, x: Tensor) -> Tensor:
        """Map ``(batch, group * positions, width)`` to ``(batch, positions, width)``."""
        out: Tensor = self.join(x.reshape(len(x), -1, self.group_size * x.shape[2]))
        return out

    def ungroup(self, h: Tensor, x: Tensor) -> Tensor:
        """Map positions to tokens and add the embeddings of the tokens ``x``."""
        out: Tensor = self.split(h).reshape(x.shape) + x
        return out


class CdcdNetwork(nn.Module):
    """Network that predicts the codes of a window."""

    times: Tensor

    def __init__(self, config: CdcdConfig) -> None:
        """Build the network with random weights."""
        super().__init__()
        self.config = config
        width, per_position = config.width, config.tokens_per_position
        self.tokens = nn.Embedding(config.n_codes + 1, width)
        self.groups = GroupedTokens(width, per_position) if per_position > 1 else None
        self.blocks = nn.ModuleList(
            Block(width, config.heads, config.n_steps) for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(width)
        self.logits = nn.Linear(width, config.n_codes)
        self.positions = nn.Embedding(config.n_positions, width)
        self.apply(_initialize)
        position_s = per_position * TOKEN_HOP_SAMPLES / SAMPLE_RATE_HZ
        times_s = (np.arange(config.n_positions, dtype=np.float64) + 0.5) * position_s
        self.register_buffer("times", embed_times(times_s, width), persistent=False)
        self.condition: nn.Module
        if config.compat == "official":
            self.condition = OneTokenCondition(config)
        else:
            self.condition = FrameTokensCondition(config)
            self.positions.weight.detach().copy_(INITIAL_STD * self.times)
            for block in self.blocks:
                assert isinstance(block, Block)
                attention = block.cross_attention
                initialize_local_attention(attention.query, attention.key, heads=config.heads)

    @torch.no_grad()
    def initialize_embeddings(self, codebook: Tensor) -> None:
        """Initialize the embeddings of the codes, and the output layer, from the codec.

        Codes with similar sounds then begin with similar embeddings (docs/differences.md, X13).

        Args:
            codebook: vectors of the codes, ``(n_codes, code_width)``.
        """
        vectors = (codebook - codebook.mean(dim=0)) / codebook.std().clamp(min=1e-6)
        width = self.config.width
        projection = torch.randn(codebook.shape[1], width) / math.sqrt(codebook.shape[1])
        embedded = INITIAL_STD * vectors @ projection
        self.tokens.weight[: len(codebook)] = embedded
        self.logits.weight.copy_(embedded)

    def encode_condition(self, condition: CdcdCondition) -> ConditionTokens:
        """Return the condition tokens of windows."""
        tokens: ConditionTokens = self.condition(condition)
        return tokens

    def forward(self, tokens: Tensor, condition: ConditionTokens, step: Tensor) -> Tensor:
        """Return log probabilities of the codes x_0.

        Args:
            tokens: noisy tokens, ``(batch, n_tokens)``; [MASK] is ``n_codes``.
            condition: condition tokens of `encode_condition`.
            step: step from 0 (least noise) to ``n_steps - 1``, ``(batch,)``.

        Returns:
            ``(batch, n_tokens, n_codes)``, float32.
        """
        config = self.config
        n_padding = config.n_positions * config.tokens_per_position - config.n_tokens
        padded = functional.pad(tokens, (0, n_padding), value=config.n_codes)
        embedded = self.tokens(padded)
        x = embedded if self.groups is None else self.groups.group(embedded)
        x = x + self.positions.weight
        for block in self.blocks:
            x = block(x, self.times, condition, step)
        if self.groups is not None:
            x = self.groups.ungroup(x, embedded)
        logits = self.logits(self.norm(x[:, : config.n_tokens]))
        log_probabilities: Tensor = logits.float().log_softmax(dim=2)
        return log_probabilities


def _initialize(module: nn.Module) -> None:
    """Initialize embeddings and linear layers as in the release."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=INITIAL_STD)
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)
