"""Means and medians with bootstrap intervals."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class MeanWithInterval:
    """A mean, or another statistic, over clips with its 95 % interval."""

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
    """The mean of values, or another statistic, with its 95 % interval over resamples."""
    x = np.asarray(list(values), dtype=np.float64)
    drawn = np.random.default_rng(seed).choice(x, (n_resamples, len(x)))
    low, high = np.percentile(statistic(drawn, axis=1), [2.5, 97.5])
    return MeanWithInterval(float(statistic(x)), float(low), float(high))
