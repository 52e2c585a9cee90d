"""Conditionings of ``mini``, and the conditions that can be unknown (without torch)."""

from typing import Literal, get_args

Conditioning = Literal["score", "free", "paper"]
"""Conditions of a take. ``score``: all, with chords and notes composed by rules; ``free``:
rhythm, energy, style and motion; ``paper``: only those of the paper, rhythm tokens with Hawkes
encoding, motion tokens and style."""
CONDITIONINGS: tuple[Conditioning, ...] = get_args(Conditioning)
ROUTES = ("rhythm_tokens", "aligned_rhythm", "harmony", "notes")
"""Conditions that can be unknown and then have a learned null value."""
ROUTES_OF_CONDITIONING: dict[Conditioning, frozenset[str]] = {
    "score": frozenset(ROUTES),
    "free": frozenset({"rhythm_tokens", "aligned_rhythm"}),
    "paper": frozenset({"rhythm_tokens"}),
}
