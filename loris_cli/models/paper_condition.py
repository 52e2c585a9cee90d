"""What the blocks of the paper's network are told of a batch, and what guidance drops of it."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

KeyValue = tuple[Tensor, Tensor]
Combine = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True, eq=False)
class PaperCondition:
    """Contexts of a batch; None is what the network was built without.

    They are the same over a whole sampling, so the keys and values that blocks make of them
    are kept where ``kv_cache`` is a dictionary; while they learn it must be None.
    """

    visual_tokens: Tensor | None
    """``(batch, video_length, features)``"""
    rhythm: Tensor | None
    """1 where a peak is, 0 elsewhere, between where that was learned, ``(batch, steps)``."""
    onset_envelope: Tensor | None = None
    """How much motion begins at each step, 0..1, ``(batch, steps)``."""
    genre_token: Tensor | None = None
    """``(batch, 1, features)``"""
    rhythm_tokens: Tensor | None = None
    """Of the rhythm, where all blocks share its encoder, ``(batch, steps, features)``."""
    kv_cache: dict[int, list[KeyValue]] | None = None

    def concat(self, other: "PaperCondition", *, cache_kv: bool) -> "PaperCondition":
        """Two batches as one."""
        return self._combine(
            other, lambda one, two: torch.cat([one, two]), {} if cache_kv else None
        )

    def take_first(self, n: int) -> "PaperCondition":
        """The first ``n`` of a batch, and what is kept of them."""

        def part(value: Tensor | None) -> Tensor | None:
            return None if value is None else value[:n]

        kept = {
            key: [(keys[:n], values[:n]) for keys, values in pairs]
            for key, pairs in (self.kv_cache or {}).items()
        }
        return PaperCondition(
            visual_tokens=part(self.visual_tokens),
            rhythm=part(self.rhythm),
            onset_envelope=part(self.onset_envelope),
            genre_token=part(self.genre_token),
            kv_cache=kept or None,
        )

    def replace_where(self, mask: Tensor, other: "PaperCondition") -> "PaperCondition":
        """The other's where ``dropped (batch,)`` says so."""

        def chosen(one: Tensor, two: Tensor) -> Tensor:
            return torch.where(mask.reshape(-1, *[1] * (one.ndim - 1)), two, one)

        return self._combine(other, chosen, None)

    def _combine(
        self,
        other: "PaperCondition",
        combine: Combine,
        kv_cache: dict[int, list[KeyValue]] | None,
    ) -> "PaperCondition":
        def both(one: Tensor | None, two: Tensor | None) -> Tensor | None:
            return None if one is None or two is None else combine(one, two)

        return PaperCondition(
            visual_tokens=both(self.visual_tokens, other.visual_tokens),
            rhythm=both(self.rhythm, other.rhythm),
            onset_envelope=both(self.onset_envelope, other.onset_envelope),
            genre_token=both(self.genre_token, other.genre_token),
            kv_cache=kv_cache,
        )
