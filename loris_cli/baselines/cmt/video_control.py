"""Rules of CMT that turn video features into control attributes (Di et al., 2021, Sec. 3.2).

    peaks -> tempo, ticks;  energy of each bar -> density;  strength of each peak -> strength

The released code averages the magnitude of the optical flow (Farneback) over each bar; here it
is the motion energy of the video features. The released percentile tables belong to that
measure, so bars and peaks have the rank within their clip as their percentile
(docs/differences.md, C10).
"""

from dataclasses import dataclass, replace

import numpy as np

from loris_cli.array_types import Array
from loris_cli.baselines.bar_grid import (
    TICKS_PER_BAR,
    BarGrid,
    average_energy_by_bar,
    fit_bar_grid,
)
from loris_cli.baselines.cmt.words import Track
from loris_cli.baselines.learned_method import Compat
from loris_cli.config import POSE_FPS
from loris_cli.models.generator_interface import VideoFeatures

N_DENSITY_CLASSES, N_STRENGTH_CLASSES = 17, 10
"""Number of classes of the released percentile tables (``src/video2npz/stat_mix.py``)."""
MIN_TICK_COUNT, MAX_TICK_COUNT = 2, 10
"""Range of the numbers of ticks with notes that occur in at least 0.5 % of the bars of the
training music (experiments/cmt_tables.py). Nearly nine of ten bars have eight."""
STRENGTHS_BY_CLASS = {
    Track.DRUMS: (1, 1, 1, 1, 2, 2, 2, 2, 2, 2),
    Track.PIANO: (1, 1, 1, 1, 1, 1, 1, 3, 3, 4),
    Track.GUITAR: (1, 1, 1, 1, 1, 1, 1, 1, 1, 1),
    Track.BASS: (1, 1, 1, 1, 1, 1, 1, 1, 1, 1),
    Track.STRINGS: (3, 3, 3, 3, 3, 3, 3, 3, 3, 3),
}
"""Number of notes of a track on a tick, for each strength class: the quantiles of the training
music at the middle of each class (experiments/cmt_tables.py)."""


@dataclass(frozen=True, kw_only=True)
class BarControl:
    """Control of a bar."""

    density_class: int
    """0 to 16."""
    strength_classes: dict[int, int]
    """Class of the visual beat on each tick of the bar that has one, 1 to 9."""

    @property
    def n_ticks(self) -> int:
        """Number of ticks with notes, in the range of the training music."""
        share = self.density_class / (N_DENSITY_CLASSES - 1)
        return MIN_TICK_COUNT + round(share * (MAX_TICK_COUNT - MIN_TICK_COUNT))


@dataclass(frozen=True, kw_only=True)
class VideoControl:
    """Bars of a clip with their control."""

    grid: BarGrid
    bars: tuple[BarControl, ...]
    n_ticks: int
    """Length of the clip in ticks, for the attribute ``time``."""


def rank_values(values: Array) -> Array:
    """Return the percentile rank of each value among all, ``(values,)``, above 0, below 1.

    Equal values have equal ranks, so a clip with constant values has the median rank.
    """
    below = (values[:, None] > values).mean(axis=1)
    equal = (values[:, None] == values).mean(axis=1)
    return np.asarray(below + equal / 2)


def control_from_video(features: VideoFeatures, *, compat: Compat) -> VideoControl:
    """Return the control of a clip.

    Args:
        features: features of the entire clip.
        compat: ``official`` has bars from time 0 on and whole frames per bar.
    """
    grid = fit_bar_grid(features)
    if compat == "official":  # no phase (docs/differences.md, C9)
        n_bars = max(int(np.ceil(features.duration_s / grid.bar_s - 1e-9)), 1)
        grid = replace(grid, start_s=0.0, n_bars=n_bars)
    elif grid.start_s + grid.bar_s <= 0 and grid.n_bars > 1:  # ends before the clip begins
        grid = replace(grid, start_s=grid.start_s + grid.bar_s, n_bars=grid.n_bars - 1)
    starts_s, bar_s = grid.bar_starts_s, grid.bar_s
    if compat == "official":  # whole frames, so bars drift (docs/differences.md, C11)
        bar_s = max(round(bar_s * POSE_FPS), 1) / POSE_FPS
        starts_s = bar_s * np.arange(grid.n_bars, dtype=np.float64)
    ranks = rank_values(average_energy_by_bar(features.energy, starts_s, bar_s))
    densities = (ranks * N_DENSITY_CLASSES).astype(int).tolist()
    strengths = _strength_classes_by_tick(features, grid)
    bars = tuple(
        BarControl(
            density_class=density,
            strength_classes={
                tick: strengths[bar * TICKS_PER_BAR + tick]
                for tick in range(TICKS_PER_BAR)
                if bar * TICKS_PER_BAR + tick in strengths
            },
        )
        for bar, density in enumerate(densities)
    )
    n_ticks = max(int(np.ceil((features.duration_s - grid.start_s) / grid.tick_s)), 1)
    return VideoControl(grid=grid, bars=bars, n_ticks=n_ticks)


def _strength_classes_by_tick(features: VideoFeatures, grid: BarGrid) -> dict[int, int]:
    """Return the strength class of the strongest peak on each tick.

    The weakest class is omitted (``src/gen_midi_conditional.py``).
    """
    if not len(features.peaks_s):
        return {}
    classes = (rank_values(features.strengths) * N_STRENGTH_CLASSES).astype(int)
    ticks = np.round((features.peaks_s - grid.start_s) / grid.tick_s).astype(int)
    strongest: dict[int, int] = {}
    for tick, strength in zip(ticks.tolist(), classes.tolist(), strict=True):
        if strength > 0:
            strongest[tick] = max(strength, strongest.get(tick, 0))
    return strongest
