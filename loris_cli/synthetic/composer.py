"""Made-up music that lands on given moments, with the moments it lands on.

    seed, genre -> accents and energy -> pulse, chords -> notes -> Score

An accent is the sound of a body's strike. What lies between accents follows a pulse that, where
no tempo is steady, divides the time from one accent to the next into equal parts, so the music
leans towards every strike the way a film score does. Chords and notes are written by the
rules that a soundtrack's score is written by (`composition.chords`, `composition.arrangement`).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loris_cli.composition.arrangement import Arrangement, compose_arrangement
from loris_cli.composition.chords import Harmony, sample_harmony
from loris_cli.composition.styles import Style
from loris_cli.config import GENRES

Array = NDArray[np.float64]

ENERGY_HZ = 16.0
"""Rate of the energy curve, that of poses."""

MAX_ACCENT_SPACING_S = 6.0
"""A piece has an accent in so many seconds at least: a few drawn figures have next to none."""


@dataclass(frozen=True, kw_only=True)
class MusicalScore:
    """A piece and the truth about it."""

    genre: str
    duration_s: float
    arrangement: Arrangement
    """Notes and instruments."""
    accents_s: Array
    """Moments of the strikes, ``(accents,)``, rising."""
    strengths: Array
    """How strong each is, ``(accents,)``, 0..1."""
    energy: Array
    """How much goes on, ``(duration_s * 16,)``, 0..1."""
    harmony: Harmony
    """Chords, pulse, and the beats of the steady tempo if there is one."""


def compose_score(seed: int, style: Style, duration_s: float) -> MusicalScore:
    """Write a piece.

    Args:
        seed: the same seed, genre and length give the same piece.
        style: its style.
        duration_s: its length.

    Returns:
        Notes and the accents they were written for.
    """
    rng = np.random.default_rng([seed, GENRES.index(style.name)])
    energy = _sample_energy(rng, duration_s)
    beat_s = 60 / rng.uniform(*style.tempo_bpm)
    accents = beats = np.zeros(0)
    while len(accents) < duration_s / MAX_ACCENT_SPACING_S:
        accents, beats = _sample_accents(rng, style, duration_s, beat_s, energy)
    strengths = np.clip(
        rng.uniform(0.5, 1.0, len(accents))
        * (0.5 + 0.6 * _interpolate_energy(energy, accents)),
        0,
        1,
    )
    harmony = sample_harmony(
        accents,
        duration_s=duration_s,
        style=style,
        beat_period_s=beat_s,
        beats_s=beats,
        rng=rng,
    )
    arrangement = compose_arrangement(
        accents, strengths, energy, harmony, duration_s=duration_s, style=style, rng=rng
    )
    return MusicalScore(
        genre=style.name,
        duration_s=duration_s,
        arrangement=arrangement,
        accents_s=accents,
        strengths=strengths,
        energy=energy,
        harmony=harmony,
    )


def _interpolate_energy(energy: Array, times_s: Array) -> Array:
    value: Array = np.interp(times_s, np.arange(len(energy)) / ENERGY_HZ, energy)
    return value


def _sample_energy(rng: np.random.Generator, duration_s: float) -> Array:
    """Sections of 3 to 9 s, each with its level, joined over about a second."""
    n = round(duration_s * ENERGY_HZ)
    edges = [0.0]
    while edges[-1] < duration_s:
        edges.append(edges[-1] + rng.uniform(3, 9))
    levels = rng.beta(1.6, 1.2, len(edges))
    steps = levels[np.searchsorted(edges, np.arange(n) / ENERGY_HZ, side="right") - 1]
    window = np.hanning(round(1.5 * ENERGY_HZ) | 1)
    padded = np.pad(steps, len(window) // 2, mode="edge")
    smooth: Array = np.convolve(padded, window / window.sum(), mode="valid")
    return smooth


def _sample_accents(
    rng: np.random.Generator,
    style: Style,
    duration_s: float,
    beat_period_s: float,
    energy: Array,
) -> tuple[Array, Array]:
    """Moments of the strikes, and the beats they lie on where the tempo is steady."""
    if rng.random() < style.steady_tempo_probability:
        beats = np.arange(rng.uniform(0, beat_period_s), duration_s, beat_period_s)
        kind = rng.choice(["every", "half", "pattern"], p=[0.4, 0.25, 0.35])
        if kind == "every":
            accents = beats
        elif kind == "half":
            accents = beats[int(rng.integers(2)) :: 2]
        else:  # a rhythm of eighths, repeated every bar
            figure = np.flatnonzero(
                rng.random(8) < [0.9, 0.12, 0.4, 0.3, 0.8, 0.12, 0.45, 0.25]
            )
            eighths = (np.arange(0, len(beats), 4)[:, None] * 2 + figure).ravel()
            position = eighths // 2 + np.where(eighths % 2, style.swing_ratio, 0.0)
            accents = beats[0] + position * beat_period_s
        keep = rng.random(len(accents)) > rng.choice([0.0, 0.1, 0.3])
        for _ in range(int(rng.integers(3))):  # breaks
            start = rng.uniform(0, duration_s)
            keep &= ~((accents > start) & (accents < start + rng.uniform(2, 4) * beat_period_s))
        accents = accents[keep]
    else:
        beats = np.zeros(0)
        times = [rng.uniform(0.1, 1.5)]
        dense = rng.uniform(0.35, 1.1)  # seconds between strikes where the energy is full
        whole = rng.random() < 0.4  # a dancer without music still likes multiples of one beat
        while times[-1] < duration_s:
            gap = rng.gamma(3.0, dense / 3) / (
                0.35 + 0.65 * float(_interpolate_energy(energy, np.array(times[-1:]))[0])
            )
            if whole:
                gap = max(round(gap / beat_period_s * 2), 1) / 2 * beat_period_s + rng.normal(
                    0, 0.015
                )
            times.append(times[-1] + float(np.clip(gap, 0.24, 4.5)))
        accents = np.array(times)
    accents = accents[(accents > 0.05) & (accents < duration_s - 0.1)]
    close = np.diff(accents, prepend=-1.0) < 0.2
    return accents[~close], beats
