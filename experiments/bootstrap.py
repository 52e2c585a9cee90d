"""A mean is told with how sure it is."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class MeanWithInterval:
    """A mean over clips with its 95 % interval."""

    mean: float
    ci_low: float
    ci_high: float


def bootstrap_mean(
    values: Iterable[float], *, n_resamples: int = 10_000, seed: int = 0
) -> MeanWithInterval:
    """The mean of values, and where it lies in 95 % of resamples."""
    x = np.asarray(list(values), dtype=np.float64)
    means = np.random.default_rng(seed).choice(x, (n_resamples, len(x))).mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return MeanWithInterval(float(x.mean()), float(low), float(high))
