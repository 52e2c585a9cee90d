"""Autoregressive prediction of words with a context of limited length, and random draws.

word -> attention state -> logits of the next word;  logits, allowed values -> value
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from loris_cli.array_types import Array
from loris_cli.baselines.bar_grid import TICKS_PER_BAR
from loris_cli.baselines.cmt.network import CmtNetwork, NetworkState
from loris_cli.baselines.cmt.words import BAR, N_COLUMNS, Column, Words

Attributes = dict[Column, int]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class SamplingSettings:
    """Temperatures and nucleus of the draws (released code, ``forward_output_sampling``)."""

    nucleus: float = 0.9
    """Probability of the values that are drawn from; not applied to bars and beats."""
    beat_temperature: float = 1.2
    duration_temperature: float = 2.0

    def draw(
        self,
        column: Column,
        logits: Array,
        rng: np.random.Generator,
        *,
        allowed: Mask | None = None,
    ) -> int:
        """Draw the value of an attribute.

        Args:
            column: attribute.
            logits: ``(values,)``.
            rng: random generator.
            allowed: values that may be drawn, ``(values,)``, at least one; None for all.
        """
        if column == Column.BEAT:
            logits = logits / self.beat_temperature
        elif column == Column.DURATION:
            logits = logits / self.duration_temperature
        if allowed is not None:
            logits = np.where(allowed, logits, -np.inf)
        probabilities = np.exp(logits - logits.max())
        probabilities /= probabilities.sum()
        if column != Column.BEAT:
            order = np.argsort(-probabilities, kind="stable")
            before = np.cumsum(probabilities[order]) - probabilities[order]
            probabilities[order[before > self.nucleus]] = 0.0
            probabilities /= probabilities.sum()
        return int(rng.choice(len(probabilities), p=probabilities))


class WordContext:
    """Words generated so far, with the attention state after the last one.

    At the maximum length the context restarts with a bar word in its second half. As in
    training examples, ticks count from the start of the first bar of the context.
    """

    def __init__(self, network: CmtNetwork, initial: NDArray[np.int64]) -> None:
        """Start with initial tokens, ``(7, 3)``."""
        self.network = network
        self.device = next(network.parameters()).device
        self.initial = torch.from_numpy(initial).to(self.device)[None]
        self.rows: list[list[int]] = []
        self._first = 0
        self._hidden = torch.empty(0)
        self._state: NetworkState | None = None
        self._logits: dict[int, list[Array]] = {}

    def append(self, attributes: Attributes, *, tick: int, time: int) -> None:
        """Add a word with its positions.

        Args:
            attributes: attributes that are not 0.
            tick: position from the start of the piece.
            time: position in percent plus 1.
        """
        row = [0] * N_COLUMNS
        for column, value in attributes.items():
            row[column] = value
        row[Column.TICK], row[Column.TIME] = tick, time
        self.rows.append(row)
        if len(self.rows) - self._first > self.network.config.context_words:
            self._first = self._find_restart()
            self._state = None
        with torch.inference_mode():
            new = self.rows[self._first :] if self._state is None else [row]
            embedded = self.network.embed_words(self._to_tensor(new))
            if self._state is None:
                embedded = torch.cat([self.network.embed_initial(self.initial), embedded], 1)
            hidden, self._state = self.network.encode(embedded, self._state)
        self._hidden = hidden[0, -1]
        self._logits = {}

    def _find_restart(self) -> int:
        """Return the index of the first bar word in the second half of the context."""
        middle = self._first + self.network.config.context_words // 2
        bars = (k for k in range(middle, len(self.rows)) if self.rows[k][Column.BEAT] == BAR)
        return next(bars, middle)

    def _to_tensor(self, rows: list[list[int]]) -> Tensor:
        words = torch.tensor(rows, device=self.device)[None]
        base = self.rows[self._first][Column.TICK] // TICKS_PER_BAR * TICKS_PER_BAR
        words[..., Column.TICK] -= base
        return words

    def predict_type(self) -> Array:
        """Return the logits of the type of the next word, ``(3,)``."""
        with torch.inference_mode():
            return _to_numpy(self.network.predict_type(self._hidden))

    def predict_attributes(self, word_type: int) -> list[Array]:
        """Return the logits of the attributes of the next word, given its type."""
        if word_type not in self._logits:
            with torch.inference_mode():
                types = torch.tensor(word_type, device=self.device)
                logits = self.network.predict_attributes(self._hidden, types)
            self._logits[word_type] = [_to_numpy(values) for values in logits]
        return self._logits[word_type]

    def to_words(self) -> Words:
        """Return all words, ``(words, 9)``."""
        return np.array(self.rows, dtype=np.int64).reshape(-1, N_COLUMNS)


def _to_numpy(tensor: Tensor) -> Array:
    return np.asarray(tensor.double().cpu().numpy())
