"""What the blocks of the paper's network are told of a batch, and what guidance drops of it."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Pair = tuple[Tensor, Tensor]
Join = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True, eq=False)
class Told:
    """Contexts of a batch; None is what the network was built without.

    They are the same over a whole sampling, so the keys and values that blocks make of them
    are kept where ``kept`` is a dictionary; while they learn it must be None.
    """

    video: Tensor | None
    """``(batch, video_length, features)``"""
    rhythm: Tensor | None
    """1 where a peak is, 0 elsewhere, between where that was learned, ``(batch, steps)``."""
    envelope: Tensor | None = None
    """How much motion begins at each step, 0..1, ``(batch, steps)``."""
    genre: Tensor | None = None
    """``(batch, 1, features)``"""
    tokens: Tensor | None = None
    """Of the rhythm, where all blocks share its encoder, ``(batch, steps, features)``."""
    kept: dict[int, list[Pair]] | None = None

    def beside(self, other: "Told", *, keep: bool) -> "Told":
        """Two batches as one."""
        return self._with(other, lambda one, two: torch.cat([one, two]), {} if keep else None)

    def first(self, n: int) -> "Told":
        """The first ``n`` of a batch, and what is kept of them."""

        def part(value: Tensor | None) -> Tensor | None:
            return None if value is None else value[:n]

        kept = {
            key: [(keys[:n], values[:n]) for keys, values in pairs]
            for key, pairs in (self.kept or {}).items()
        }
        return Told(
            video=part(self.video),
            rhythm=part(self.rhythm),
            envelope=part(self.envelope),
            genre=part(self.genre),
            kept=kept or None,
        )

    def where(self, dropped: Tensor, other: "Told") -> "Told":
        """The other's where ``dropped (batch,)`` says so."""

        def chosen(one: Tensor, two: Tensor) -> Tensor:
            return torch.where(dropped.reshape(-1, *[1] * (one.ndim - 1)), two, one)

        return self._with(other, chosen, None)

    def _with(self, other: "Told", join: Join, kept: dict[int, list[Pair]] | None) -> "Told":
        def both(one: Tensor | None, two: Tensor | None) -> Tensor | None:
            return None if one is None or two is None else join(one, two)

        return Told(
            video=both(self.video, other.video),
            rhythm=both(self.rhythm, other.rhythm),
            envelope=both(self.envelope, other.envelope),
            genre=both(self.genre, other.genre),
            kept=kept,
        )
