"""A steady groove by the rules of CMT (Di et al., 2021), without its network.

    peaks -> tempo and phase;  energy of each bar -> how dense it is;  peaks -> how strong

CMT takes the tempo from visual beats, counts bars of 16 ticks, makes a bar the denser the more
the picture moves in it, and stresses what falls on strong visual beats; a transformer then
writes the notes. The notes here are a drum pattern.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loris_cli.baselines.drum_kit import DrumHit, DrumName, Samples, render_drum_hits
from loris_cli.config import POSE_FPS, SAMPLE_RATE_HZ
from loris_cli.models.generator_interface import ClipFeatures
from loris_cli.rhythm.tempo_fit import fit_tempo_and_phase

Array = NDArray[np.float64]

TICKS_PER_BAR = 16
"""Of a bar of four beats."""
TICK_FILL_ORDER = (0, 8, 4, 12, 2, 6, 10, 14, 3, 7, 11, 15, 1, 5, 9, 13)
"""In which the ticks of a bar are filled: the beats, then what is between them."""
MIN_HITS_PER_BAR, MAX_HITS_PER_BAR = 4, 12
"""Strokes in the calmest bar and in the liveliest."""
PEAK_WINDOW_S = 0.1
"""A peak within this of a tick stresses it."""
UNACCENTED_STRENGTH = 0.4
"""How strong a stroke is that no peak stresses."""


@dataclass(frozen=True)
class GrooveGenerator:
    """As a `MusicGenerator`."""

    def generate(
        self, features: ClipFeatures, *, seed: int, progress: Callable[[int, int], None]
    ) -> Iterator[Samples]:
        """Sound for a clip, ``(1, samples)``, in one block."""
        n_samples = round(features.duration_s * SAMPLE_RATE_HZ)
        sound = render_drum_hits(place_hits_on_grid(features), n_samples, seed=seed)
        progress(1, 1)
        yield sound[None]


def place_hits_on_grid(features: ClipFeatures) -> list[DrumHit]:
    """A bar after the other: its ticks by its energy, stressed by the peaks."""
    bpm, phase_s = fit_tempo_and_phase(features.peaks_s, features.strengths)
    tick_s = 60 / bpm / 4
    bar_s = TICKS_PER_BAR * tick_s
    starts_s = np.arange(phase_s - bar_s, features.duration_s, bar_s)
    strokes: list[DrumHit] = []
    for start_s, share in zip(
        starts_s.tolist(), _rank_bars_by_energy(features, starts_s, bar_s), strict=True
    ):
        n_strokes = MIN_HITS_PER_BAR + round(share * (MAX_HITS_PER_BAR - MIN_HITS_PER_BAR))
        for tick in sorted(TICK_FILL_ORDER[:n_strokes]):
            moment_s = start_s + tick * tick_s
            if 0 <= moment_s < features.duration_s:
                strokes.append(
                    (moment_s, _drum_on_tick(tick), _accent_strength(features, moment_s))
                )
    return strokes


def _rank_bars_by_energy(features: ClipFeatures, starts_s: Array, bar_s: float) -> list[float]:
    """Rank of each bar's energy among all, 0..1."""
    frames = np.arange(len(features.energy)) / POSE_FPS
    means = np.array(
        [
            float(features.energy[inside].mean()) if inside.any() else 0.0
            for inside in ((frames >= start) & (frames < start + bar_s) for start in starts_s)
        ]
    )
    ranks: list[float] = ((means[:, None] > means).mean(axis=1)).tolist()
    return ranks


def _drum_on_tick(tick: int) -> DrumName:
    """Kick on one and three, snare on two and four, hats between."""
    if tick % 8 == 0:
        return "kick"
    return "snare" if tick % 8 == 4 else "hat"


def _accent_strength(features: ClipFeatures, time_s: float) -> float:
    near = np.abs(features.peaks_s - time_s) <= PEAK_WINDOW_S
    return float(features.strengths[near].max(initial=UNACCENTED_STRENGTH))
