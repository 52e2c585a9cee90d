"""Groove baseline: a steady drum pattern by the rules of CMT (Di et al., 2021), no network.

    peaks -> tempo and phase;  energy of each bar -> density;  peaks -> accents

CMT derives the tempo from visual beats, divides bars into 16 ticks, sets the note density of a
bar by its motion, and accents ticks on strong visual beats. In CMT a transformer then generates
the notes; here they are a drum pattern.
"""

import numpy as np

from loris_cli.baselines.bar_grid import BarGrid, average_energy_by_bar, fit_bar_grid
from loris_cli.baselines.drum_kit import DrumHit, DrumName
from loris_cli.models.generator_interface import VideoFeatures

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
    grid = fit_bar_grid(features)
    ranks = _rank_bars_by_energy(features, grid)
    hits: list[DrumHit] = []
    for start_s, rank in zip(grid.bar_starts_s.tolist(), ranks, strict=True):
        n_hits = MIN_HITS_PER_BAR + round(rank * (MAX_HITS_PER_BAR - MIN_HITS_PER_BAR))
        for tick in sorted(TICK_FILL_ORDER[:n_hits]):
            time_s = start_s + tick * grid.tick_s
            if 0 <= time_s < features.duration_s:
                hits.append((time_s, _drum_on_tick(tick), _accent_strength(features, time_s)))
    return hits


def _rank_bars_by_energy(features: VideoFeatures, grid: BarGrid) -> list[float]:
    """Return the rank of each bar's mean energy among all bars, 0..1."""
    means = average_energy_by_bar(features.energy, grid.bar_starts_s, grid.bar_s)
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
