"""Synthetic training music with known accents.

    seed, genre -> accents and energy -> subdivisions, chords -> notes -> MusicalScore

The dancer's impacts are at the accents. The notes between accents follow subdivisions. Without
a steady tempo, these divide the interval to the next accent into equal parts, so that the music
leads up to every accent, as in film music. Chords and notes follow the same rules as for
soundtracks (`composition.chords`, `composition.arrangement`).
"""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from loris_cli.array_types import Array
from loris_cli.composition.arrangement import Arrangement, compose_arrangement, interp_energy
from loris_cli.composition.chords import Harmony, sample_harmony
from loris_cli.composition.styles import Style
from loris_cli.config import GENRES, POSE_FPS

MAX_ACCENT_SPACING_S = 6.0
"""Maximum mean interval between accents; the few sampled rhythms above it are rejected."""
EIGHTH_PROBABILITIES = (0.9, 0.12, 0.4, 0.3, 0.8, 0.12, 0.45, 0.25)
"""Probability of an accent on each eighth note of a bar, for rhythms that repeat every bar."""
RAMP_PROBABILITY = 0.4
"""Probability that the energy of a section is a ramp."""


@dataclass(frozen=True, kw_only=True)
class MusicalScore:
    """A piece of music with ground-truth accents."""

    genre: str
    duration_s: float
    arrangement: Arrangement
    """Notes and instruments."""
    accents_s: Array
    """Accent times, ``(accents,)``, increasing."""
    strengths: Array
    """Accent strengths, ``(accents,)``, 0..1."""
    energy: Array
    """Energy at 16 Hz, ``(duration_s * 16,)``, 0..1."""
    harmony: Harmony
    """Chords, subdivisions, and beats if the tempo is steady."""


def compose_score(seed: int, style: Style, duration_s: float) -> MusicalScore:
    """Compose a piece.

    Args:
        seed: random seed; equal seeds, styles and durations produce equal pieces.
        style: musical style.
        duration_s: duration of the piece.

    Returns:
        The notes, with the accents, energy and harmony they are based on.
    """
    rng = np.random.default_rng([seed, GENRES.index(style.name)])
    energy = _sample_energy(rng, duration_s)
    beat_s = 60 / rng.uniform(*style.tempo_bpm)
    accents_s = beats_s = np.zeros(0)
    while len(accents_s) < duration_s / MAX_ACCENT_SPACING_S:
        accents_s, beats_s = _sample_accents(rng, style, duration_s, beat_s, energy)
    strengths = rng.uniform(0.5, 1.0, len(accents_s))
    strengths = np.clip(strengths * (0.5 + 0.6 * interp_energy(energy, accents_s)), 0, 1)
    harmony = sample_harmony(
        accents_s, duration_s=duration_s, style=style, period_s=beat_s, beats_s=beats_s, rng=rng
    )
    arrangement = compose_arrangement(
        accents_s, strengths, energy, harmony, duration_s=duration_s, style=style, rng=rng
    )
    return MusicalScore(
        genre=style.name,
        duration_s=duration_s,
        arrangement=arrangement,
        accents_s=accents_s,
        strengths=strengths,
        energy=energy,
        harmony=harmony,
    )


def _sample_energy(rng: Generator, duration_s: float) -> Array:
    """Sample sections of 3 to 9 s with a constant energy, or a ramp to that of the next one."""
    edges_s = [0.0]
    while edges_s[-1] < duration_s:
        edges_s.append(edges_s[-1] + rng.uniform(3, 9))
    levels = rng.beta(1.6, 1.2, len(edges_s))
    ramps = rng.random(len(edges_s)) < RAMP_PROBABILITY
    times_s = np.arange(round(duration_s * POSE_FPS)) / POSE_FPS
    sections = np.searchsorted(edges_s, times_s, side="right") - 1
    energy = np.where(ramps[sections], np.interp(times_s, edges_s, levels), levels[sections])
    window = np.hanning(round(1.5 * POSE_FPS) | 1)
    padded = np.pad(energy, len(window) // 2, mode="edge")
    return np.convolve(padded, window / window.sum(), mode="valid")


def _sample_accents(
    rng: Generator, style: Style, duration_s: float, beat_period_s: float, energy: Array
) -> tuple[Array, Array]:
    """Sample accent times and beats; there are no beats without a steady tempo."""
    if rng.random() < style.steady_tempo_probability:
        beats_s = np.arange(rng.uniform(0, beat_period_s), duration_s, beat_period_s)
        accents_s = _sample_metrical_accents(rng, beats_s, beat_period_s, style.swing_ratio)
        stays = rng.random(len(accents_s)) > rng.choice([0.0, 0.1, 0.3])
        for _ in range(int(rng.integers(3))):  # breaks without accents
            start_s = rng.uniform(0, duration_s)
            end_s = start_s + rng.uniform(2, 4) * beat_period_s
            stays &= ~((accents_s > start_s) & (accents_s < end_s))
        accents_s = accents_s[stays]
    else:
        beats_s = np.zeros(0)
        accents_s = _sample_free_accents(rng, duration_s, beat_period_s, energy)
    accents_s = accents_s[(accents_s > 0.05) & (accents_s < duration_s - 0.1)]
    return accents_s[np.diff(accents_s, prepend=-1.0) >= 0.2], beats_s


def _sample_metrical_accents(
    rng: Generator, beats_s: Array, beat_period_s: float, swing_ratio: float
) -> Array:
    """Sample accents on every beat, on every second beat, or in a pattern of eighth notes."""
    kind = rng.choice(["every", "half", "pattern"], p=[0.4, 0.25, 0.35])
    if kind == "every":
        return beats_s
    if kind == "half":
        return beats_s[int(rng.integers(2)) :: 2]
    rhythm = np.flatnonzero(rng.random(8) < EIGHTH_PROBABILITIES)
    eighths = (np.arange(0, len(beats_s), 4)[:, None] * 2 + rhythm).ravel()
    positions = eighths // 2 + np.where(eighths % 2, swing_ratio, 0.0)
    return np.asarray(beats_s[0] + positions * beat_period_s)


def _sample_free_accents(
    rng: Generator, duration_s: float, beat_period_s: float, energy: Array
) -> Array:
    """Sample accents without a steady tempo, denser at higher energy."""
    times_s = [rng.uniform(0.1, 1.5)]
    full_energy_gap_s = rng.uniform(0.35, 1.1)
    # In 40 % of these pieces the intervals are near multiples of half a beat.
    quantized = rng.random() < 0.4
    while times_s[-1] < duration_s:
        level = float(interp_energy(energy, np.array(times_s[-1:]))[0])
        gap_s = rng.gamma(3.0, full_energy_gap_s / 3) / (0.35 + 0.65 * level)
        if quantized:
            n_beats = max(round(gap_s / beat_period_s * 2), 1) / 2
            gap_s = n_beats * beat_period_s + rng.normal(0, 0.015)
        times_s.append(times_s[-1] + float(np.clip(gap_s, 0.24, 4.5)))
    return np.array(times_s)
