"""How sure a score is: resampled sources, and chance against a difference.

Clips of one source are alike, so whole sources are drawn, never clips (the cluster bootstrap;
Field and Welsh, 2007). Differences of two rows on the same clips are tested by swapping the
rows within sources at random (a paired permutation test; Good, 2005).
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

N_RESAMPLES = 10_000
PERMUTATION_CHUNK = 2_000
"""Resamples at a time: bounds the memory."""


@dataclass(frozen=True, kw_only=True)
class PairedDifference:
    """How far one row is above another on the clips of both."""

    difference: float
    ci_low: float
    ci_high: float
    """95 % interval over sources."""
    p_value: float
    """Share of random swaps that make as large a difference, two-sided."""


class ClusterBootstrap:
    """Draws sources of clips with replacement, the same ones for every score.

    Args:
        groups: source of each clip.
        n_resamples: resamples.
        seed: of the draws.
    """

    def __init__(
        self, groups: list[str], *, n_resamples: int = N_RESAMPLES, seed: int = 0
    ) -> None:
        """Number the sources."""
        names = sorted(set(groups))
        self._member = np.zeros((len(groups), len(names)))
        self._member[np.arange(len(groups)), [names.index(group) for group in groups]] = 1
        self._n, self._seed = n_resamples, seed

    @property
    def n_groups(self) -> int:
        """How many sources there are."""
        return int(self._member.shape[1])

    @cached_property
    def _draw_counts(self) -> Array:
        """How often each source is drawn, ``(resamples, sources)``."""
        rng = np.random.default_rng(self._seed)
        drawn = rng.integers(self.n_groups, size=(self._n, self.n_groups))
        offset = np.arange(self._n)[:, None] * self.n_groups
        counts = np.bincount(
            (drawn + offset).ravel(), minlength=self._n * self.n_groups
        ).reshape(self._n, self.n_groups)
        return counts.astype(np.float64)

    def resample_means(self, values: Array) -> Array:
        """Means of each resample.

        Args:
            values: of each clip, NaN where there is none, ``(clips,)``.

        Returns:
            ``(resamples,)``; NaN where no clip with a value was drawn.
        """
        there = ~np.isnan(values)
        sums = self._draw_counts @ (self._member.T @ np.where(there, values, 0.0))
        n = self._draw_counts @ (self._member.T @ there.astype(np.float64))
        means: Array = np.divide(sums, n, out=np.full(self._n, np.nan), where=n > 0)
        return means

    def confidence_interval(self, means: Array) -> tuple[float, float] | None:
        """Where 95 % of the resamples lie; None if there are not two sources."""
        if self.n_groups < 2 or np.isnan(means).all():
            return None
        low, high = np.nanpercentile(means, [2.5, 97.5])
        return float(low), float(high)

    def permute_means(self, values: Array, other_values: Array) -> tuple[Array, Array]:
        """Means of two rows whose clips are swapped at random, by whole sources.

        Args:
            values: values of a row, ``(clips,)``, none NaN.
            other_values: of the other.

        Returns:
            means of both, ``(resamples,)`` each.
        """
        rng = np.random.default_rng([self._seed, 1])
        half_sum = (values + other_values).mean() / 2
        by_source = self._member.T @ (values - other_values) / (2 * len(values))
        half_gap = np.concatenate(
            [
                (2.0 * rng.integers(2, size=(PERMUTATION_CHUNK, self.n_groups)) - 1) @ by_source
                for _ in range(self._n // PERMUTATION_CHUNK)
            ]
        )
        return half_sum + half_gap, half_sum - half_gap


def compare_paired(
    values: tuple[Array, ...], other_values: tuple[Array, ...], groups: list[str], metric: str
) -> PairedDifference | None:
    """A paired difference of two rows.

    Args:
        values: the values of each clip that the figure is made of: one array, or BCS and BHS
            for ``F1``; NaN where a clip has none.
        other_values: the same of the other row.
        groups: source of each clip.
        metric: ``F1``, or any other name for a plain mean.

    Returns:
        the difference; None if fewer than two sources have values of both.
    """
    there = np.asarray(np.isfinite(np.stack([*values, *other_values])).all(axis=0))
    kept = [group for group, is_there in zip(groups, there, strict=True) if is_there]
    if len(set(kept)) < 2:
        return None
    resampler = ClusterBootstrap(kept)
    pairs = [(a[there], b[there]) for a, b in zip(values, other_values, strict=True)]

    def gap(means: list[tuple[Array, Array]]) -> Array:
        ours, theirs = ([pair[side] for pair in means] for side in (0, 1))
        return combine_component_means(ours, metric) - combine_component_means(theirs, metric)

    seen = float(gap([(np.array([a.mean()]), np.array([b.mean()])) for a, b in pairs])[0])
    drawn = gap([(resampler.resample_means(a), resampler.resample_means(b)) for a, b in pairs])
    chance = gap([resampler.permute_means(a, b) for a, b in pairs])
    low, high = np.percentile(drawn, [2.5, 97.5])
    as_large = int((np.abs(chance) >= abs(seen) - 1e-12).sum())
    return PairedDifference(
        difference=seen,
        ci_low=float(low),
        ci_high=float(high),
        p_value=(1 + as_large) / (1 + len(chance)),
    )


def combine_component_means(means: list[Array], metric: str) -> Array:
    """A figure from the means it is made of: ``F1`` of two, else the one itself."""
    if metric != "F1":
        return means[0]
    both = means[0] + means[1]
    f1: Array = np.divide(
        2 * means[0] * means[1], both, out=np.zeros_like(both), where=both > 0
    )
    return f1


def chance_precision_recall(
    generated_flags: list[NDArray[np.bool_]],
    reference_flags: list[NDArray[np.bool_]],
    groups: list[str],
) -> tuple[float, float] | None:
    """Mean precision and recall of every sound against the truth of every other source.

    All pairs are taken, so nothing is left to chance. The shorter of the two is the length.

    Args:
        generated_flags: flags of what was generated, one array a clip.
        reference_flags: flags of the truths.
        groups: source of each clip.

    Returns:
        BCS and BHS as `beats.summary` has them; None if all are of one source.
    """
    n = len(generated_flags)
    names = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    which = np.array([names[group] for group in groups])
    apart = which[:, None] != which[None, :]
    if not apart.any():
        return None
    longest = max(len(flags) for flags in (*generated_flags, *reference_flags))

    def table(rows: list[NDArray[np.bool_]]) -> tuple[Array, NDArray[np.int64]]:
        padded = np.zeros((n, longest))
        for row, flags in zip(padded, rows, strict=True):
            row[: len(flags)] = flags
        return padded, np.array([len(flags) for flags in rows])

    a, a_length = table(generated_flags)
    b, b_length = table(reference_flags)
    hits = a @ b.T
    so_far_a = np.concatenate([np.zeros((n, 1)), a.cumsum(axis=1)], axis=1)
    so_far_b = np.concatenate([np.zeros((n, 1)), b.cumsum(axis=1)], axis=1)
    n_made, n_true = so_far_a[:, b_length], so_far_b[:, a_length].T
    zero = np.zeros_like(hits)
    precision = np.divide(hits, n_made, out=zero.copy(), where=n_made > 0)
    recall = np.divide(hits, n_true, out=zero, where=n_true > 0)
    return float(precision[apart].mean()), float(recall[apart].mean())
