"""Conditioning tensors of the paper's U-Net, for guidance and condition dropout."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from typing import Self

import torch
from torch import Tensor, nn

KeyValues = list[tuple[Tensor, Tensor]]
KeyValueCache = dict[int, KeyValues]


@dataclass(frozen=True, kw_only=True, eq=False)
class PaperCondition:
    """Conditioning tensors of a batch; None for conditions the network was built without.

    They are constant during sampling, so blocks cache the keys and values that they compute
    from them if ``kv_cache`` is a dictionary, see `PaperUNet.fill_kv_cache`. It must be None in
    training.
    """

    visual_tokens: Tensor | None
    """``(batch, n_visual_frames, features)``"""
    rhythm: Tensor | None
    """1 at a peak, else 0; in between for a learned null rhythm, ``(batch, steps)``."""
    onset_envelope: Tensor | None = None
    """Visual onset strength of each step, 0..1, ``(batch, steps)``."""
    genre_token: Tensor | None = None
    """``(batch, 1, features)``"""
    rhythm_tokens: Tensor | None = None
    """Tokens of a rhythm encoder shared by all blocks, ``(batch, steps, features)``."""
    kv_cache: KeyValueCache | None = None

    def concat(self, other: Self, *, cache_kv: bool) -> Self:
        """Return this condition and another, concatenated along the batch axis."""
        return self._map(lambda a, b: torch.cat([a, b]), other, cache={} if cache_kv else None)

    @property
    def cache_bytes(self) -> int:
        """Size of the cached keys and values."""
        pairs = chain.from_iterable((self.kv_cache or {}).values())
        return sum(tensor.nbytes for pair in pairs for tensor in pair)

    def take(self, items: slice) -> Self:
        """Return items of the batch, with their cached keys and values."""
        cache = {
            key: [(keys[items], values[items]) for keys, values in pairs]
            for key, pairs in (self.kv_cache or {}).items()
        }
        return self._map(lambda tensor: tensor[items], cache=cache or None)

    def replace_where(self, mask: Tensor, other: Self) -> Self:
        """Return this condition, with items of another where ``mask (batch,)`` is true."""
        return self._map(lambda a, b: b.where(mask.reshape(-1, *[1] * (a.ndim - 1)), a), other)

    def cached(self, module: nn.Module, compute: Callable[[], KeyValues]) -> KeyValues:
        """Return the keys and values of a module, from the cache if there is one."""
        if self.kv_cache is None:
            return compute()
        if id(module) not in self.kv_cache:
            self.kv_cache[id(module)] = compute()
        return self.kv_cache[id(module)]

    def _map(
        self, function: Callable[..., Tensor], *others: Self, cache: KeyValueCache | None = None
    ) -> Self:
        """Apply a function to each tensor and the corresponding tensors of other conditions."""
        mapped: dict[str, Tensor | None] = {}
        for name in ("visual_tokens", "rhythm", "onset_envelope", "genre_token"):
            tensors = [getattr(condition, name) for condition in (self, *others)]
            mapped[name] = None if any(t is None for t in tensors) else function(*tensors)
        return type(self)(**mapped, kv_cache=cache)
