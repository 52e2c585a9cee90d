"""Means and medians with bootstrap confidence intervals."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class MeanWithInterval:
    """Mean, or another statistic, with its 95 % confidence interval."""

    mean: float
    ci_low: float
    ci_high: float


def bootstrap_mean(
    values: Iterable[float],
    *,
    groups: Sequence[str] | None = None,
    statistic: Callable[..., Any] = np.mean,
    n_resamples: int = 10_000,
    seed: int = 0,
) -> MeanWithInterval:
    """Estimate a mean, or another statistic, and its 95 % percentile bootstrap interval.

    Args:
        values: one value per clip or event.
        groups: source of each value; whole sources are resampled. None resamples values.
        statistic: function of an array and ``axis``.
        n_resamples: number of bootstrap resamples.
        seed: seed of the resampling.
    """
    x = np.asarray(list(values), dtype=np.float64)
    rng = np.random.default_rng(seed)
    if groups is None or len(set(groups)) == len(x):
        estimates = statistic(rng.choice(x, (n_resamples, len(x))), axis=1)
    else:
        labels = np.array(groups)
        sources = [x[labels == name] for name in dict.fromkeys(groups)]
        draws = rng.integers(len(sources), size=(n_resamples, len(sources)))
        estimates = [
            statistic(np.concatenate([sources[k] for k in draw]), axis=0) for draw in draws
        ]
    low, high = np.percentile(estimates, [2.5, 97.5])
    return MeanWithInterval(float(statistic(x)), float(low), float(high))
