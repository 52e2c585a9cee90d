"""Confidence intervals by cluster bootstrap, paired permutation tests, chance level of F1.

Clips of one source are correlated, so whole sources are resampled instead of clips (cluster
bootstrap; Field and Welsh, 2007). Differences of two systems on the same clips are tested by
randomly swapping the systems within sources (paired permutation test; Good, 2005).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from loris_cli.array_types import Array

Flags = NDArray[np.bool_]

N_RESAMPLES, SEED = 10_000, 0
PERMUTATION_CHUNK = 2_000
"""Number of permutations computed at a time, to limit memory use."""


@dataclass(frozen=True, kw_only=True)
class PairedDifference:
    """Difference of a metric between two systems on their common clips."""

    difference: float
    ci_low: float
    ci_high: float
    """Bounds of the 95 % confidence interval, resampled over sources."""
    p_value: float
    """Two-sided p-value: fraction of permutations with at least as large a difference."""


class ClusterBootstrap:
    """Bootstrap over the sources of clips, with the same resamples for every score.

    Args:
        groups: source of each clip.
    """

    def __init__(self, groups: Sequence[str]) -> None:
        """Store the source membership of each clip."""
        names = sorted(set(groups))
        self._member = np.zeros((len(groups), len(names)))
        self._member[np.arange(len(groups)), [names.index(group) for group in groups]] = 1

    @property
    def n_groups(self) -> int:
        """Number of sources."""
        return int(self._member.shape[1])

    @cached_property
    def _draw_counts(self) -> Array:
        """Number of times each source is drawn, ``(resamples, sources)``."""
        shape = (N_RESAMPLES, self.n_groups)
        indices = np.random.default_rng(SEED).integers(self.n_groups, size=shape)
        offset = np.arange(N_RESAMPLES)[:, None] * self.n_groups
        counts = np.bincount((indices + offset).ravel(), minlength=N_RESAMPLES * self.n_groups)
        return counts.reshape(shape).astype(np.float64)

    def resample_means(self, values: Array) -> Array:
        """Compute the mean of each resample.

        Args:
            values: value of each clip, NaN if undefined, ``(clips,)``.

        Returns:
            ``(resamples,)``; NaN for a resample without any defined value.
        """
        present = ~np.isnan(values)
        sums = self._draw_counts @ (self._member.T @ np.where(present, values, 0.0))
        n = self._draw_counts @ (self._member.T @ present.astype(np.float64))
        means: Array = np.divide(sums, n, out=np.full(N_RESAMPLES, np.nan), where=n > 0)
        return means

    def confidence_interval(self, means: Array) -> tuple[float, float] | None:
        """Return the 95 % interval of resampled means; None for fewer than two sources."""
        if self.n_groups < 2 or np.isnan(means).all():
            return None
        low, high = np.nanpercentile(means, [2.5, 97.5])
        return float(low), float(high)

    def permute_means(self, values: Array, other_values: Array) -> tuple[Array, Array]:
        """Compute the means of two systems after random swaps within whole sources.

        Args:
            values: values of one system without NaN, ``(clips,)``.
            other_values: values of the other system without NaN, ``(clips,)``.

        Returns:
            means of both systems, ``(resamples,)`` each.
        """
        rng = np.random.default_rng([SEED, 1])
        half_sum = (values + other_values).mean() / 2
        by_source = self._member.T @ (values - other_values) / (2 * len(values))
        size = (PERMUTATION_CHUNK, self.n_groups)
        n_chunks = N_RESAMPLES // PERMUTATION_CHUNK
        signs = (2.0 * rng.integers(2, size=size) - 1 for _ in range(n_chunks))
        half_gap = np.concatenate([chunk @ by_source for chunk in signs])
        return half_sum + half_gap, half_sum - half_gap


def compare_paired(
    values: Sequence[Array],
    other_values: Sequence[Array],
    groups: Sequence[str],
    statistic: Callable[..., Array],
) -> PairedDifference | None:
    """Compare two systems on the same clips.

    Args:
        values: components of the metric, such as BCS and BHS for F1, ``(clips,)`` each; NaN if
            undefined.
        other_values: components of the other system.
        groups: source of each clip.
        statistic: computes the metric from the component means, ``(resamples,)`` each.

    Returns:
        the paired difference; None if fewer than two sources have values of both systems.
    """
    present = np.asarray(np.isfinite([*values, *other_values]).all(axis=0))
    sources = [group for group, is_present in zip(groups, present, strict=True) if is_present]
    if len(set(sources)) < 2:
        return None
    bootstrap = ClusterBootstrap(sources)
    pairs = [(a[present], b[present]) for a, b in zip(values, other_values, strict=True)]

    def subtract(means: list[tuple[Array, Array]]) -> Array:
        one, other = zip(*means, strict=True)
        return statistic(*one) - statistic(*other)

    means = [(np.array([a.mean()]), np.array([b.mean()])) for a, b in pairs]
    observed = float(subtract(means)[0])
    resample = bootstrap.resample_means
    differences = subtract([(resample(a), resample(b)) for a, b in pairs])
    chance = subtract([bootstrap.permute_means(a, b) for a, b in pairs])
    low, high = (float(bound) for bound in np.percentile(differences, [2.5, 97.5]))
    as_large = int((np.abs(chance) >= abs(observed) - 1e-12).sum())
    p_value = (1 + as_large) / (1 + len(chance))
    return PairedDifference(difference=observed, ci_low=low, ci_high=high, p_value=p_value)


def f1_of_means(bcs: Array, bhs: Array) -> Array:
    """F1 of mean BCS and mean BHS, of any shape; 0 where both are 0."""
    both = bcs + bhs
    f1: Array = np.divide(2 * bcs * bhs, both, out=np.zeros_like(both), where=both > 0)
    return f1


def chance_precision_recall(
    generated_flags: Sequence[Flags], reference_flags: Sequence[Flags], shared: Flags
) -> tuple[Array, Array]:
    """Mean precision and recall of each clip against the references of unrelated clips.

    All pairs are used, so the result is deterministic. Each pair is truncated to the shorter of
    its two lengths.

    Args:
        generated_flags: onset flags of the generated audio, one array per clip.
        reference_flags: onset flags of the references, one array per clip.
        shared: pairs of clips that share a song, dancer, source or video, ``(clips, clips)``.

    Returns:
        BCS and BHS as in `loris_scores.score_clip`, ``(clips,)`` each; NaN for a clip to which
        all others are related.
    """
    n = len(generated_flags)
    longest = max(len(flags) for flags in (*generated_flags, *reference_flags))

    def pad(rows: Sequence[Flags]) -> tuple[Array, NDArray[np.int64], Array]:
        """Return zero-padded flags ``(clips, seconds)``, lengths, and cumulative sums."""
        padded = np.zeros((n, longest))
        for row, flags in zip(padded, rows, strict=True):
            row[: len(flags)] = flags
        sums = np.concatenate([np.zeros((n, 1)), padded.cumsum(axis=1)], axis=1)
        return padded, np.array([len(flags) for flags in rows]), sums

    generated, generated_lengths, generated_sums = pad(generated_flags)
    reference, reference_lengths, reference_sums = pad(reference_flags)
    hits = generated @ reference.T
    n_generated = generated_sums[:, reference_lengths]
    n_reference = reference_sums[:, generated_lengths].T
    zero = np.zeros_like(hits)
    precision = np.divide(hits, n_generated, out=zero.copy(), where=n_generated > 0)
    recall = np.divide(hits, n_reference, out=zero, where=n_reference > 0)
    n_unrelated = (~shared).sum(axis=1)

    def average(values: Array) -> Array:
        sums = np.where(shared, 0.0, values).sum(axis=1)
        means: Array = np.divide(
            sums, n_unrelated, out=np.full(n, np.nan), where=n_unrelated > 0
        )
        return means

    return average(precision), average(recall)


METRIC_STATISTICS: Mapping[str, tuple[tuple[str, ...], Callable[..., Array]]] = {
    "F1": (("BCS", "BHS"), f1_of_means),
    "onset_f": (("onset_f",), np.asarray),
    "beat_f": (("beat_f",), np.asarray),
}
"""Metrics tested for differences: clip-level components, and the function that computes the
metric from the component means."""
