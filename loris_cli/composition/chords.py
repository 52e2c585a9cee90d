"""Harmony of a piece: key, chords over time, and the subdivisions of the beat.

    peaks, style, seed -> steady beats, if any -> subdivisions -> chord sequence

A diffusion model as small as ``mini`` learns timbre well but musical form poorly. The harmony
is therefore sampled by the rules used for the training music, and conditions the model. The
paper has no such condition; models trained without it do not receive it.
"""

from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from loris_cli.array_types import Array
from loris_cli.composition.styles import Style
from loris_cli.rhythm import tempo_fit

SCALES = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 10),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
}
CHORD_PROGRESSIONS = (
    (0, 4, 5, 3), (0, 5, 3, 4), (5, 3, 0, 4), (0, 3, 4, 4), (0, 2, 3, 4), (0, 6, 5, 4),
    (0, 0, 3, 4),
)  # fmt: skip
SONG_FORM = (0, 0, 1, 0)
"""Index of the progression (of two) in each group of four chords: AABA song form."""
SOUNDTRACK_FORM = (0, 0, 0, 1)
"""The same for soundtracks, where the first progression should recur within half a minute."""
BEATS_PER_BAR = 4


@dataclass(frozen=True, kw_only=True)
class Harmony:
    """Key, chords over time, and the subdivisions of the beat."""

    tonic: int
    """Pitch class of the tonic; 0 is C."""
    scale: tuple[int, ...]
    """Semitones of the seven degrees above the tonic."""
    chord_starts_s: Array
    """Start time of each chord, ``(chords,)``, increasing; the first is at or before 0."""
    chord_degrees: NDArray[np.int64]
    """Scale degree of each chord's root, ``(chords,)``, 0..6."""
    subdivisions_s: Array
    """Times of the soft notes, ``(subdivisions,)``, increasing: half a beat apart or, without a
    steady tempo, equal parts of the intervals between accents."""
    beats_s: Array = field(default_factory=lambda: np.empty(0))
    """Beat times, ``(beats,)``; empty without a steady tempo."""

    def shift(self, offset_s: float) -> "Harmony":
        """Return the harmony with all times later by an offset."""
        return replace(
            self,
            chord_starts_s=self.chord_starts_s + offset_s,
            subdivisions_s=self.subdivisions_s + offset_s,
            beats_s=self.beats_s + offset_s,
        )

    def root_pitch_classes(self) -> NDArray[np.bool_]:
        """Return the pitch class of each chord's root, one-hot, ``(chords, 12)``."""
        return self._one_hot_pitch_classes((0,))

    def chord_pitch_classes(self) -> NDArray[np.bool_]:
        """Return the pitch classes of each triad, multi-hot, ``(chords, 12)``."""
        return self._one_hot_pitch_classes((0, 2, 4))

    def _one_hot_pitch_classes(self, degree_offsets: tuple[int, ...]) -> NDArray[np.bool_]:
        classes = np.zeros((len(self.chord_degrees), 12), dtype=bool)
        for offset in degree_offsets:
            steps = np.array(self.scale)[(self.chord_degrees + offset) % 7]
            classes[np.arange(len(steps)), (self.tonic + steps) % 12] = True
        return classes


def sample_harmony(
    accents_s: Array,
    *,
    duration_s: float,
    style: Style,
    period_s: float,
    beats_s: Array,
    rng: np.random.Generator,
    song_form: tuple[int, ...] = SONG_FORM,
) -> Harmony:
    """Sample the harmony of a piece.

    With a steady tempo, a chord lasts one bar. Otherwise chords change on accents that are far
    enough apart, and on subdivisions where accents are rare.

    Args:
        accents_s: accent times, ``(accents,)``, increasing.
        duration_s: duration of the piece.
        style: style; the scale is sampled from its scales.
        period_s: beat period; without a steady tempo, twice the length of a subdivision.
        beats_s: beat times, starting with a downbeat; empty without a steady tempo.
        rng: random generator for key, scale and progressions.
        song_form: index of the progression in each group of four chords.
    """
    tonic = int(rng.integers(12))
    scale = SCALES[str(rng.choice(style.scales))]
    progressions = [
        CHORD_PROGRESSIONS[k] for k in rng.integers(len(CHORD_PROGRESSIONS), size=2)
    ]
    subdivisions_s = _subdivide(accents_s, beats_s, period_s, duration_s)
    min_chord_s = float(rng.uniform(1.2, 2.6))
    if len(beats_s) > 1:
        starts_s = _snap_bars_to_accents(accents_s, beats_s)
    else:
        starts_s = _place_chord_changes(accents_s, subdivisions_s, min_chord_s, duration_s)
    starts_s = starts_s[starts_s < duration_s]  # a beat may coincide with the end
    n_groups = len(song_form)
    degrees = [progressions[song_form[k // 4 % n_groups]][k % 4] for k in range(len(starts_s))]
    return Harmony(
        tonic=tonic,
        scale=scale,
        chord_starts_s=starts_s,
        chord_degrees=np.array(degrees, dtype=np.int64),
        subdivisions_s=subdivisions_s,
        beats_s=beats_s,
    )


def sample_rhythm_harmony(
    peaks_s: Array, strengths: Array, *, duration_s: float, style: Style, seed: int
) -> Harmony:
    """Sample the harmony for a visual rhythm.

    Args:
        peaks_s: times of the visual peaks, ``(peaks,)``, increasing.
        strengths: ``(peaks,)``, 0..1.
        duration_s: duration of the piece.
        style: style of the music.
        seed: seed of the take.
    """
    rng = np.random.default_rng([seed, 13])
    beat_s = 60 / float(rng.uniform(*style.tempo_bpm))
    beats_s = np.empty(0)
    first_peaks_s = peaks_s[peaks_s < peaks_s.min(initial=0.0) + tempo_fit.TEMPO_WINDOW_S]
    fit, period_s = tempo_fit.fit_beat_period(first_peaks_s)
    if fit > tempo_fit.MIN_BEAT_FIT:
        beat_s = period_s
        beats_s = tempo_fit.track_steady_beats(
            peaks_s, strengths, duration_s=duration_s, beat_period_s=beat_s
        )
        # The downbeat is the position in the bar with the largest sum of peak strengths.
        weights = np.zeros(len(beats_s))
        if len(beats_s):
            nearest = np.abs(beats_s[:, None] - peaks_s).argmin(axis=0)
            near = np.abs(beats_s[nearest] - peaks_s) < beat_s / 4
            np.add.at(weights, nearest[near], strengths[near])
        first = int(np.argmax([weights[k::BEATS_PER_BAR].sum() for k in range(BEATS_PER_BAR)]))
        beats_s = beats_s[first:]
    return sample_harmony(
        peaks_s,
        duration_s=duration_s,
        style=style,
        period_s=beat_s,
        beats_s=beats_s,
        rng=rng,
        song_form=SOUNDTRACK_FORM,
    )


def _subdivide(accents_s: Array, beats_s: Array, period_s: float, duration_s: float) -> Array:
    """Return half-beats of a steady tempo, or equal divisions of the accent intervals."""
    half_s = period_s / 2
    if len(beats_s) > 1:
        halves = beats_s[:-1] + np.diff(beats_s) / 2
        before = np.arange(beats_s[0] - half_s, 0, -half_s)[::-1]
        after = np.arange(beats_s[-1] + half_s, duration_s, half_s)
        return np.sort(np.concatenate([before, beats_s, halves, after]))
    knots = np.concatenate([[0.0], accents_s, [duration_s]])
    intervals = [
        np.linspace(start, end, max(round((end - start) / half_s), 1), endpoint=False)
        for start, end in pairwise(knots)
        if end > start
    ]
    return np.concatenate(intervals)


def _snap_bars_to_accents(accents_s: Array, beats_s: Array) -> Array:
    """Return bar starts, each moved to an accent within a quarter beat, if there is one."""
    bars = beats_s[::BEATS_PER_BAR].copy()
    if len(accents_s):
        nearest = accents_s[np.abs(accents_s[None] - bars[:, None]).argmin(axis=1)]
        near = np.abs(nearest - bars) < (beats_s[1] - beats_s[0]) / 4
        bars[near] = nearest[near]
    return bars if bars[0] <= 0 else np.concatenate([[0.0], bars])


def _place_chord_changes(
    accents_s: Array, subdivisions_s: Array, min_chord_s: float, duration_s: float
) -> Array:
    """Return accents ``min_chord_s`` or more apart, and subdivisions where accents are rare."""
    starts, grid_s = [0.0], subdivisions_s
    for time_s in [*accents_s.tolist(), duration_s]:
        while time_s - starts[-1] > 2.5 * min_chord_s:
            is_far = (grid_s > starts[-1] + min_chord_s) & (grid_s < time_s - min_chord_s / 2)
            far = grid_s[is_far]
            if not len(far):
                break
            starts.append(float(far[np.abs(far - starts[-1] - 1.5 * min_chord_s).argmin()]))
        if time_s - starts[-1] >= min_chord_s and time_s < duration_s:
            starts.append(time_s)
    return np.array(starts)
