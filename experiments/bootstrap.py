"""Means and medians with bootstrap confidence intervals."""

from collections.abc import Callable, Iterable
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
    statistic: Callable[..., Any] = np.mean,
    n_resamples: int = 10_000,
    seed: int = 0,
) -> MeanWithInterval:
    """Estimate a mean, or another statistic, and its 95 % percentile bootstrap interval.

    Args:
        values: one value per clip or event.
        statistic: function of an array and ``axis``.
        n_resamples: number of bootstrap resamples.
        seed: seed of the resampling.
    """
    x = np.asarray(list(values), dtype=np.float64)
    drawn = np.random.default_rng(seed).choice(x, (n_resamples, len(x)))
    low, high = np.percentile(statistic(drawn, axis=1), [2.5, 97.5])
    return MeanWithInterval(float(statistic(x)), float(low), float(high))
