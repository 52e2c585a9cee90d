"""Bars of a steady tempo that fits the visual peaks, after CMT (Di et al., 2021).

peaks -> tempo and phase -> bars of 16 ticks;  energy, bars -> mean energy of each bar
"""

from dataclasses import dataclass

import numpy as np

from loris_cli.array_types import Array
from loris_cli.config import POSE_FPS
from loris_cli.models.generator_interface import VideoFeatures
from loris_cli.rhythm.tempo_fit import fit_tempo_and_phase

TICKS_PER_BEAT, TICKS_PER_BAR = 4, 16
"""Number of ticks in a beat and in a bar of four beats."""


@dataclass(frozen=True, kw_only=True)
class BarGrid:
    """Bars of equal length that cover a clip."""

    start_s: float
    """Start of the first bar, at or before the start of the clip."""
    tick_s: float
    """Duration of a tick."""
    n_bars: int

    @property
    def bar_s(self) -> float:
        """Duration of a bar."""
        return TICKS_PER_BAR * self.tick_s

    @property
    def bar_starts_s(self) -> Array:
        """Start of each bar, ``(bars,)``."""
        return np.asarray(self.start_s + self.bar_s * np.arange(self.n_bars, dtype=np.float64))


def fit_bar_grid(features: VideoFeatures) -> BarGrid:
    """Return the bars of the tempo that fits the visual peaks best.

    The second bar begins with the first beat, so the bars cover the time before it.
    """
    bpm, phase_s = fit_tempo_and_phase(features.peaks_s, features.strengths)
    tick_s = 60 / bpm / TICKS_PER_BEAT
    start_s = phase_s - TICKS_PER_BAR * tick_s
    n_bars = len(np.arange(start_s, features.duration_s, TICKS_PER_BAR * tick_s))
    return BarGrid(start_s=start_s, tick_s=tick_s, n_bars=n_bars)


def average_energy_by_bar(energy: Array, starts_s: Array, bar_s: float) -> Array:
    """Return the mean energy of each bar.

    Args:
        energy: motion energy, ``(frames,)`` at 16 Hz.
        starts_s: start of each bar, ``(bars,)``.
        bar_s: duration of a bar.

    Returns:
        ``(bars,)``; 0 for bars without a frame.
    """
    times_s = np.arange(len(energy)) / POSE_FPS
    bars = [energy[(times_s >= s) & (times_s < s + bar_s)] for s in starts_s]
    return np.array([float(bar.mean()) if len(bar) else 0.0 for bar in bars])
