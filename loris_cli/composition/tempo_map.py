"""Tempo map of a score: the musical position of every time, and the bars.

    harmony -> knots (time, tick) and time signatures -> tempo changes, exact to a microsecond

With a steady tempo, ticks follow the tracked beats, and bar lines are on downbeats; a shorter
bar precedes the first downbeat. Without one, every subdivision of the harmony is an eighth
note, so that accents are on the grid, and a bar is as long as a chord.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from loris_cli.array_types import Array
from loris_cli.composition.chords import BEATS_PER_BAR, Harmony

TICKS_PER_BEAT = 960
EIGHTH_TICKS, SIXTEENTH_TICKS = TICKS_PER_BEAT // 2, TICKS_PER_BEAT // 4
DEFAULT_BEAT_US = 500_000
"""Beat duration without a harmony: 120 bpm."""
MAX_BEAT_US = (1 << 24) - 1
"""Longest beat that a MIDI file can store."""
MIN_PICKUP_S = 0.02
"""Below this time, the first bar begins at time 0, not at its downbeat."""
MAX_BAR_EIGHTHS = 16
"""Longest chord that is written as a single bar; longer ones are divided into bars of 8/8."""


class TimeSignature(NamedTuple):
    """Time signature from a tick on."""

    tick: int
    numerator: int
    denominator: int


class TempoChange(NamedTuple):
    """Beat duration from a tick on."""

    tick: int
    beat_us: int


@dataclass(frozen=True, kw_only=True, eq=False)
class TempoMap:
    """Relation of time and ticks, linear between knots."""

    changes: tuple[TempoChange, ...]
    """Beat durations in integer microseconds, as in a MIDI file; the first is at tick 0."""
    signatures: tuple[TimeSignature, ...]

    def to_ticks(self, times_s: Array) -> NDArray[np.int64]:
        """Return the nearest tick of each time, ``(times,)``; times before 0 are at tick 0."""
        ticks = np.array([change.tick for change in self.changes])
        tick_s = np.array([change.beat_us for change in self.changes]) / 1e6 / TICKS_PER_BEAT
        starts_s = np.append(0.0, np.cumsum(np.diff(ticks) * tick_s[:-1]))
        part = (np.searchsorted(starts_s, times_s, side="right") - 1).clip(min=0)
        exact = ticks[part] + (times_s - starts_s[part]) / tick_s[part]
        return np.asarray(np.round(exact).clip(min=0).astype(np.int64))


def build_tempo_map(harmony: Harmony | None) -> TempoMap:
    """Build the tempo map of a score; without a harmony, 120 bpm in 4/4."""
    if harmony is None:
        return TempoMap(
            changes=(TempoChange(0, DEFAULT_BEAT_US),), signatures=(TimeSignature(0, 4, 4),)
        )
    if len(harmony.beats_s) > 1:
        return _follow_beats(harmony.beats_s)
    return _follow_subdivisions(harmony.subdivisions_s, harmony.chord_starts_s)


def _follow_beats(beats_s: Array) -> TempoMap:
    """Return a map with a beat at each beat time, the first of them a downbeat."""
    bar = TimeSignature(0, BEATS_PER_BAR, 4)
    if beats_s[0] < MIN_PICKUP_S:
        times_s = np.concatenate([[0.0], beats_s[1:]])
        ticks = TICKS_PER_BEAT * np.arange(len(times_s))
        return TempoMap(changes=_tempo_changes(times_s, ticks), signatures=(bar,))
    beat_s = float(np.median(np.diff(beats_s)))
    n_sixteenths = max(round(4 * beats_s[0] / beat_s), 1)
    pickup_ticks = n_sixteenths * SIXTEENTH_TICKS
    times_s = np.concatenate([[0.0], beats_s])
    ticks = np.append(0, pickup_ticks + TICKS_PER_BEAT * np.arange(len(beats_s)))
    pickup = TimeSignature(0, n_sixteenths, 16)
    return TempoMap(
        changes=_tempo_changes(times_s, ticks),
        signatures=(pickup, bar._replace(tick=pickup_ticks)),
    )


def _follow_subdivisions(subdivisions_s: Array, chord_starts_s: Array) -> TempoMap:
    """Return a map with an eighth note at each subdivision, and a bar for each chord."""
    times_s = np.append(0.0, subdivisions_s[subdivisions_s >= MIN_PICKUP_S])
    ticks = EIGHTH_TICKS * np.arange(len(times_s))
    chord_indices = np.abs(times_s[:, None] - chord_starts_s).argmin(axis=0)
    bounds = sorted({0, *chord_indices.tolist(), len(times_s)})
    signatures: list[TimeSignature] = []
    for first, end in pairwise(bounds):
        start, n_eighths = first, end - first
        while n_eighths:
            length = n_eighths if n_eighths <= MAX_BAR_EIGHTHS else 8
            if not signatures or signatures[-1].numerator != length:
                signatures.append(TimeSignature(start * EIGHTH_TICKS, length, 8))
            start, n_eighths = start + length, n_eighths - length
    return TempoMap(changes=_tempo_changes(times_s, ticks), signatures=tuple(signatures))


def _tempo_changes(times_s: Array, ticks: NDArray[np.int64]) -> tuple[TempoChange, ...]:
    """Return integer beat durations whose rounding errors do not add up.

    Args:
        times_s: time of each knot, ``(knots,)``, increasing, the first 0.
        ticks: tick of each knot, ``(knots,)``.
    """
    changes: list[TempoChange] = []
    reached_us = 0.0
    knots = zip(times_s.tolist(), ticks.tolist(), strict=True)
    for (_, tick), (next_s, next_tick) in pairwise(knots):
        n_beats = (next_tick - tick) / TICKS_PER_BEAT
        beat_us = min(max(round((next_s * 1e6 - reached_us) / n_beats), 1), MAX_BEAT_US)
        reached_us += beat_us * n_beats
        if not changes or changes[-1].beat_us != beat_us:
            changes.append(TempoChange(tick, beat_us))
    return tuple(changes) or (TempoChange(0, DEFAULT_BEAT_US),)
