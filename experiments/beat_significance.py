"""Steady beats in random and in steady peaks: ``python experiments/beat_significance.py``.

Prints the fraction of clips in which a steady beat is found, by number of peaks. Random peaks
are uniform in time, uniform with a minimum interval, a Poisson process, or have intervals from
0.4 to 1.6 times their mean; the table shows the highest of these and of five mean intervals.
Steady peaks have a random tempo, a normal deviation from the beat, missing and extra peaks.
"""

import argparse
from functools import partial

import numpy as np
from numpy.typing import NDArray

from loris_cli.rhythm.tempo_fit import BEAT_PERIOD_RANGE_S, MIN_BEAT_FIT, fit_beat_period

Array = NDArray[np.float64]

PEAK_COUNTS = (4, 5, 6, 8, 10, 12, 15, 20, 30, 40, 60)
MEAN_INTERVALS_S = (0.3, 0.5, 1.0, 2.0, 5.0)
MIN_INTERVAL_S = 0.2
DEVIATIONS = (
    {"jitter_s": 0.01, "missing": 0.0, "extra": 0.0},
    {"jitter_s": 0.01, "missing": 0.2, "extra": 0.0},
    {"jitter_s": 0.01, "missing": 0.2, "extra": 0.2},
    {"jitter_s": 0.03, "missing": 0.2, "extra": 0.2},
)


def random_peaks(rng: np.random.Generator, n_peaks: int, interval_s: float) -> list[Array]:
    """Sample random peaks of each kind."""
    duration_s = n_peaks * interval_s
    free_s = max(duration_s - n_peaks * MIN_INTERVAL_S, 0.5)
    offsets_s = MIN_INTERVAL_S * np.arange(n_peaks)
    return [
        np.sort(rng.uniform(0, duration_s, n_peaks)),
        np.sort(rng.uniform(0, free_s, n_peaks)) + offsets_s,
        np.cumsum(rng.exponential(interval_s, n_peaks)),
        np.cumsum(interval_s * rng.uniform(0.4, 1.6, n_peaks)),
    ]


def steady_peaks(
    rng: np.random.Generator, n_peaks: int, *, jitter_s: float, missing: float, extra: float
) -> Array:
    """Sample peaks near beats; fractions of the beats have no peak, of the peaks no beat."""
    n_extra = round(extra * n_peaks)
    n_beats = round((n_peaks - n_extra) / (1 - missing))
    beats_s = np.arange(n_beats) * rng.uniform(*BEAT_PERIOD_RANGE_S)
    on_beat_s = rng.choice(beats_s, n_peaks - n_extra, replace=False)
    on_beat_s += rng.normal(0, jitter_s, len(on_beat_s))
    return np.sort(np.concatenate([on_beat_s, rng.uniform(0, beats_s[-1], n_extra)]))


def acceptance(clips: list[Array]) -> float:
    """Return the fraction of clips with a steady beat."""
    return float(np.mean([fit_beat_period(clip)[0] > MIN_BEAT_FIT for clip in clips]))


def main() -> None:
    """Print the acceptance of random and steady peaks in percent."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=1000)
    n_clips = parser.parse_args().clips
    rng = np.random.default_rng(0)
    print(
        "peaks  random, by interval 0.3 0.5 1 2 5 s, steady: 10 ms, 20 % missing, extra, 30 ms"
    )
    for n_peaks in PEAK_COUNTS:
        sample_random = partial(random_peaks, rng, n_peaks)
        sample_steady = partial(steady_peaks, rng, n_peaks)
        false = [
            max(
                acceptance([sample_random(interval_s)[kind] for _ in range(n_clips)])
                for kind in range(4)
            )
            for interval_s in MEAN_INTERVALS_S
        ]
        true = [
            acceptance([sample_steady(**deviations) for _ in range(n_clips)])
            for deviations in DEVIATIONS
        ]
        print(f"{n_peaks:5}", *(f"{100 * value:5.1f}" for value in false + true), flush=True)


if __name__ == "__main__":
    main()
