"""The plan of a piece: which chord sounds when, over which pulse.

    peaks, style, seed -> steady beats, if there are any -> pulse -> chords, one after the other

A diffusion model as small as ``mini`` knows well how an instrument sounds and badly where a
song goes. So the plan is drawn by rules, the same that the training music is composed by, and
told to the model. The paper has no such thing; a model that was not trained with it is told
nothing of it.
"""

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from loris_cli.composition.styles import Style
from loris_cli.rhythm.tempo_fit import (
    MIN_BEAT_FIT,
    TEMPO_WINDOW_S,
    fit_beat_period,
    track_steady_beats,
)

Array = NDArray[np.float64]
DegreeArray = NDArray[np.int64]

SCALES = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 10),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
}
CHORD_PROGRESSIONS = (
    (0, 4, 5, 3),
    (0, 5, 3, 4),
    (5, 3, 0, 4),
    (0, 3, 4, 4),
    (0, 2, 3, 4),
    (0, 6, 5, 4),
    (0, 0, 3, 4),
)
SONG_FORM = (0, 0, 1, 0)
"""Which of two progressions each round of four chords plays: a song's AABA."""
SOUNDTRACK_FORM = (0, 0, 0, 1)
"""The same in a soundtrack: a body's half minute has one, so that it comes again."""
BEATS_PER_BAR = 4


@dataclass(frozen=True, kw_only=True)
class Harmony:
    """Chords over time, and the pulse they move on."""

    tonic: int
    """Pitch class of the tonic, 0 is C."""
    scale: tuple[int, ...]
    """Semitones above the tonic of its seven degrees."""
    chord_starts_s: Array
    """When each chord begins, ``(chords,)``, rising; the first is not later than the piece."""
    chord_degrees: DegreeArray
    """Which degree of the scale each chord stands on, ``(chords,)``, 0..6."""
    subdivisions_s: Array
    """Moments that soft notes may fall on, half a beat apart, ``(pulses,)``, rising."""
    beats_s: Array = field(default_factory=lambda: np.empty(0))
    """Beats of the steady tempo, ``(beats,)``, empty where there is none."""

    def root_pitch_classes(self) -> NDArray[np.bool_]:
        """Pitch class of each chord's root, one-hot, ``(chords, 12)``."""
        return self._one_hot_pitch_classes((0,))

    def chord_pitch_classes(self) -> NDArray[np.bool_]:
        """Pitch classes of each triad, ``(chords, 12)``."""
        return self._one_hot_pitch_classes((0, 2, 4))

    def _one_hot_pitch_classes(self, degree_offsets: tuple[int, ...]) -> NDArray[np.bool_]:
        steps = np.array(self.scale)
        classes = np.zeros((len(self.chord_degrees), 12), dtype=bool)
        for third in degree_offsets:
            pitch = (self.tonic + steps[(self.chord_degrees + third) % 7]) % 12
            classes[np.arange(len(pitch)), pitch] = True
        return classes


def sample_harmony(
    accents_s: Array,
    *,
    duration_s: float,
    style: Style,
    beat_period_s: float,
    beats_s: Array,
    rng: np.random.Generator,
    song_form: tuple[int, ...] = SONG_FORM,
) -> Harmony:
    """Draw a plan.

    Over steady beats a chord lasts a bar; with none, chords change on strikes that are far
    enough apart, and in a long calm stretch all the same.

    Args:
        accents_s: moments of the strikes, ``(accents,)``, rising.
        duration_s: length of the piece.
        style: says which scales there are.
        beat_period_s: how long a beat is, or would be.
        beats_s: the steady beats, the first of them a bar's; empty if there are none.
        rng: draws key, scale and progressions.
        song_form: which of the two progressions each round plays.
    """
    key = int(rng.integers(12))
    scale = SCALES[str(rng.choice(style.scales))]
    rounds = [CHORD_PROGRESSIONS[k] for k in rng.integers(len(CHORD_PROGRESSIONS), size=2)]
    pulses_s = _subdivide_beats(accents_s, beats_s, beat_period_s, duration_s)
    wait_s = float(rng.uniform(1.2, 2.6))
    if len(beats_s) > 1:
        starts_s = _snap_bars_to_accents(accents_s, beats_s)
    else:
        starts_s = _place_chord_changes(accents_s, pulses_s, wait_s, duration_s)
    order = np.arange(len(starts_s))
    degrees = [rounds[song_form[k // 4 % len(song_form)]][k % 4] for k in order]
    return Harmony(
        tonic=key,
        scale=scale,
        chord_starts_s=starts_s,
        chord_degrees=np.array(degrees, dtype=np.int64),
        subdivisions_s=pulses_s,
        beats_s=beats_s,
    )


def sample_rhythm_harmony(
    peaks_s: Array, strengths: Array, *, duration_s: float, style: Style, seed: int
) -> Harmony:
    """A plan for a body of which only the peaks are known.

    Args:
        peaks_s: ``(peaks,)``, rising.
        strengths: ``(peaks,)``, 0..1.
        duration_s: length of the piece.
        style: of the music.
        seed: of the take.
    """
    rng = np.random.default_rng([seed, 13])
    beat_s = 60 / float(rng.uniform(*style.tempo_bpm))
    beats_s = np.empty(0)
    fit, period_s = fit_beat_period(
        peaks_s[peaks_s < peaks_s.min(initial=0.0) + TEMPO_WINDOW_S]
    )
    if fit > MIN_BEAT_FIT:
        beat_s = period_s
        beats_s = track_steady_beats(
            peaks_s, strengths, duration_s=duration_s, beat_period_s=beat_s
        )
        # A bar begins on the beat of four that is struck hardest.
        struck = np.zeros(len(beats_s))
        if len(beats_s):
            nearest = np.abs(beats_s[:, None] - peaks_s).argmin(axis=0)
            near = np.abs(beats_s[nearest] - peaks_s) < beat_s / 4
            np.add.at(struck, nearest[near], strengths[near])
        first = int(np.argmax([struck[k::BEATS_PER_BAR].sum() for k in range(BEATS_PER_BAR)]))
        beats_s = beats_s[first:]
    return sample_harmony(
        peaks_s,
        duration_s=duration_s,
        style=style,
        beat_period_s=beat_s,
        beats_s=beats_s,
        rng=rng,
        song_form=SOUNDTRACK_FORM,
    )


def _subdivide_beats(
    accents_s: Array, beats_s: Array, beat_period_s: float, duration_s: float
) -> Array:
    """Half-beats: of the steady tempo, or equal parts of each stretch between strikes."""
    if len(beats_s) > 1:
        halves = beats_s[:-1] + np.diff(beats_s) / 2
        early = np.arange(beats_s[0] - beat_period_s / 2, 0, -beat_period_s / 2)[::-1]
        late = np.arange(beats_s[-1] + beat_period_s / 2, duration_s, beat_period_s / 2)
        return np.sort(np.concatenate([early, beats_s, halves, late]))
    knots = np.concatenate([[0.0], accents_s, [duration_s]])
    parts = [
        np.linspace(a, b, max(round((b - a) / (beat_period_s / 2)), 1), endpoint=False)
        for a, b in pairwise(knots)
        if b > a
    ]
    pulses: Array = np.concatenate(parts)
    return pulses


def _snap_bars_to_accents(accents_s: Array, beats_s: Array) -> Array:
    """Where bars begin: on the strike that is meant by it, if there is one."""
    bars = beats_s[::BEATS_PER_BAR].copy()
    if len(accents_s):
        nearest = accents_s[np.abs(accents_s[None] - bars[:, None]).argmin(axis=1)]
        meant = np.abs(nearest - bars) < (beats_s[1] - beats_s[0]) / 4
        bars[meant] = nearest[meant]
    return bars if bars[0] <= 0 else np.concatenate([[0.0], bars])


def _place_chord_changes(
    accents_s: Array, subdivisions_s: Array, min_chord_s: float, duration_s: float
) -> Array:
    """Strikes at least ``min_chord_s`` apart; where none comes for twice as long, a pulse."""
    starts = [0.0]
    for moment in [*accents_s.tolist(), duration_s]:
        while moment - starts[-1] > 2.5 * min_chord_s:
            far = subdivisions_s[
                (subdivisions_s > starts[-1] + min_chord_s)
                & (subdivisions_s < moment - min_chord_s / 2)
            ]
            if not len(far):
                break
            starts.append(float(far[np.abs(far - starts[-1] - 1.5 * min_chord_s).argmin()]))
        if moment - starts[-1] >= min_chord_s and moment < duration_s:
            starts.append(moment)
    return np.array(starts)
