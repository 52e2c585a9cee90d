"""A mean is told with how sure it is."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Figure:
    """A mean over clips with its 95 % interval."""

    mean: float
    low: float
    high: float


def bootstrap(values: Iterable[float], *, n: int = 10_000, seed: int = 0) -> Figure:
    """The mean of values, and where it lies in 95 % of resamples."""
    x = np.asarray(list(values), dtype=np.float64)
    means = np.random.default_rng(seed).choice(x, (n, len(x))).mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return Figure(float(x.mean()), float(low), float(high))
