"""Groove baseline: a steady drum pattern by the rules of CMT (Di et al., 2021), no network.

    peaks -> tempo and phase;  energy of each bar -> density;  peaks -> accents

CMT derives the tempo from visual beats, divides bars into 16 ticks, sets the note density of a
bar by its motion, and accents ticks on strong visual beats. In CMT a transformer then generates
the notes; here they are a drum pattern.
"""

import numpy as np

from loris_cli.array_types import Array
from loris_cli.baselines.drum_kit import DrumHit, DrumName
from loris_cli.config import POSE_FPS
from loris_cli.models.generator_interface import VideoFeatures
from loris_cli.rhythm.tempo_fit import fit_tempo_and_phase

TICKS_PER_BAR = 16
"""Number of ticks in a bar of four beats."""
TICK_FILL_ORDER = (0, 8, 4, 12, 2, 6, 10, 14, 3, 7, 11, 15, 1, 5, 9, 13)
"""Order in which the ticks of a bar are filled: beats first, then the ticks between them."""
MIN_HITS_PER_BAR, MAX_HITS_PER_BAR = 4, 12
"""Number of hits in the bars with the lowest and the highest energy."""
PEAK_WINDOW_S = 0.1
"""Maximum distance of a visual peak from a tick that it accents."""
UNACCENTED_STRENGTH = 0.4
"""Strength of a hit without a nearby peak."""


def place_hits_on_grid(features: VideoFeatures) -> list[DrumHit]:
    """Place drum hits bar by bar, with density from the bar's energy and accents on peaks."""
    bpm, phase_s = fit_tempo_and_phase(features.peaks_s, features.strengths)
    tick_s = 60 / bpm / 4
    bar_s = TICKS_PER_BAR * tick_s
    starts_s = np.arange(phase_s - bar_s, features.duration_s, bar_s)
    ranks = _rank_bars_by_energy(features, starts_s, bar_s)
    hits: list[DrumHit] = []
    for start_s, rank in zip(starts_s.tolist(), ranks, strict=True):
        n_hits = MIN_HITS_PER_BAR + round(rank * (MAX_HITS_PER_BAR - MIN_HITS_PER_BAR))
        for tick in sorted(TICK_FILL_ORDER[:n_hits]):
            time_s = start_s + tick * tick_s
            if 0 <= time_s < features.duration_s:
                hits.append((time_s, _drum_on_tick(tick), _accent_strength(features, time_s)))
    return hits


def _rank_bars_by_energy(features: VideoFeatures, starts_s: Array, bar_s: float) -> list[float]:
    """Return the rank of each bar's mean energy among all bars, 0..1."""
    times_s = np.arange(len(features.energy)) / POSE_FPS
    bars = [features.energy[(times_s >= s) & (times_s < s + bar_s)] for s in starts_s]
    means = np.array([float(bar.mean()) if len(bar) else 0.0 for bar in bars])
    ranks: list[float] = ((means[:, None] > means).mean(axis=1)).tolist()
    return ranks


def _drum_on_tick(tick: int) -> DrumName:
    """Return kick on beats one and three, snare on two and four, hat otherwise."""
    if tick % 8 == 0:
        return "kick"
    return "snare" if tick % 8 == 4 else "hat"


def _accent_strength(features: VideoFeatures, time_s: float) -> float:
    near = np.abs(features.peaks_s - time_s) <= PEAK_WINDOW_S
    return float(features.strengths[near].max(initial=UNACCENTED_STRENGTH))
