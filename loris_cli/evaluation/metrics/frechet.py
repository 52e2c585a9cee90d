"""Frechet distance between the feature frames of two sets of recordings.

Frechet distance between two Gaussians (Dowson and Landau, 1982), as in FID (Heusel et al.,
2017). On log-mel frames it needs no weights, and compares spectra, not musical quality.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from loris_cli.array_types import Array, Float32Array
from loris_cli.errors import InputError


@dataclass(frozen=True)
class GaussianStatistics:
    """Mean, ``(features,)``, and covariance, ``(features, features)``, of feature frames."""

    mean: Array
    covariance: Array


def fit_gaussian(feature_matrices: Iterable[Float32Array]) -> GaussianStatistics:
    """Compute mean and covariance over all frames of several recordings.

    Args:
        feature_matrices: features of each recording, ``(features, frames)``.

    Raises:
        InputError: there are fewer than two frames in total.
    """
    n = 0
    total: Array | float = 0.0
    products: Array | float = 0.0
    for frames in feature_matrices:
        x = frames.astype(np.float64)
        n, total, products = n + x.shape[1], total + x.sum(axis=1), products + x @ x.T
    if n < 2:
        raise InputError("the Frechet distance needs at least 2 feature frames in each set")
    mean = np.asarray(total) / n
    return GaussianStatistics(mean, (np.asarray(products) - n * np.outer(mean, mean)) / (n - 1))


def frechet_distance(a: GaussianStatistics, b: GaussianStatistics) -> float:
    """Frechet distance ``|mu_a - mu_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2))``; 0 if equal.

    The trace of the matrix square root is computed from the symmetric matrix
    ``S_a^(1/2) S_b S_a^(1/2)``, which has the same eigenvalues. This is stable for
    rank-deficient covariances, from fewer frames than features.
    """
    values, vectors = np.linalg.eigh(a.covariance)
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    shared = np.sqrt(np.linalg.eigvalsh(root @ b.covariance @ root).clip(min=0)).sum()
    spread = float(np.trace(a.covariance + b.covariance) - 2 * shared)
    return float(np.square(a.mean - b.mean).sum()) + max(spread, 0.0)
