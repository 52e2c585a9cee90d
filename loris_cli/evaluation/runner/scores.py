"""Score one system against the references, over all clips and seeds.

    analyses of references and takes -> one value per seed and clip -> means, intervals

Values are averaged over seeds first. A clip with a missing take is excluded for this system.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np

from loris_cli.array_types import Array
from loris_cli.dataset.partitions import label_clusters
from loris_cli.evaluation.metrics import loris_scores, significance, sync
from loris_cli.evaluation.metrics.loris_scores import ScoreSummary
from loris_cli.evaluation.metrics.significance import PairedDifference
from loris_cli.evaluation.metrics.sync import STRICT_METRICS
from loris_cli.evaluation.runner import chance
from loris_cli.evaluation.runner.audio_analysis import AnalysisConfig, AudioAnalysis
from loris_cli.evaluation.runner.bounds import CHANCE_BOUNDS
from loris_cli.evaluation.runner.clips import EvalClip

Analyses = Mapping[str, AudioAnalysis]
TakeAnalyses = Mapping[tuple[str, int], AudioAnalysis]
Interval = tuple[float, float]

SystemCategory = Literal["model", "method", "null", "ceiling"]
"""``model``: trained model. ``method``: baseline that uses rules or retrieval, see
`loris_cli.baselines`. ``null`` and ``ceiling``: see `runner.bounds`."""
CLIP_METRICS = ("BCS", "BHS", *STRICT_METRICS)


@dataclass(frozen=True, kw_only=True)
class GenerationCost:
    """Generation cost of the takes of a system, measured when they were generated."""

    n_takes: int
    network_evaluations: int
    """Total number of network evaluations."""
    generation_s: float
    peak_memory_mib: float | None
    """Peak memory of the generating process; None if the platform does not report it."""


@dataclass(frozen=True)
class SystemLabel:
    """Identification and generation settings of a system."""

    id: str
    category: SystemCategory
    description: str
    generation_settings: dict[str, Any] | None = None
    cost: GenerationCost | None = None


@dataclass(frozen=True, kw_only=True)
class SystemScores(SystemLabel):
    """Scores of one system on all clips."""

    seeds: tuple[int, ...]
    clip_ids: tuple[str, ...]
    """Ids of the scored clips."""
    source_groups: tuple[str, ...]
    """Cluster of each scored clip: clips that share a song, dancer, source or video."""
    official: ScoreSummary | None
    """Scores averaged over seeds; None if no clip has a reference."""
    official_by_seed: tuple[ScoreSummary, ...]
    strict: Mapping[str, float]
    """Means of the available `STRICT_METRICS`; ``f1_chance``, ``f1_chance_corrected``."""
    intervals: Mapping[str, Interval]
    """95 % confidence intervals, resampled over sources, of BCS, BHS, F1 and the strict
    metrics."""
    clip_values: Mapping[str, Array]
    """Mean over seeds for each clip, NaN if undefined, ``(clips,)``, by metric."""
    chance_values: Mapping[str, Array]
    """The same against the references of unrelated clips, see `runner.chance`."""
    chance_differences: Mapping[str, PairedDifference]
    """Differences of ``F1`` and ``onset_f`` to their chance levels."""
    n_truncated_takes: int
    """Number of takes that were truncated because they were longer than the reference."""


def score_system(
    label: SystemLabel,
    clips: Sequence[EvalClip],
    references: Analyses,
    takes: TakeAnalyses,
    config: AnalysisConfig,
    *,
    seeds: Sequence[int],
) -> SystemScores | None:
    """Compute all scores of one system.

    Args:
        label: identification of the system.
        clips: clips to score.
        references: analyses of the references, by clip id.
        takes: analyses of the system's audio, by clip id and seed.
        config: scoring protocol, and whether strict metrics are computed.
        seeds: seeds of the takes.

    Returns:
        the scores; None if every clip has a missing take.
    """
    clips = [clip for clip in clips if all((clip.id, seed) in takes for seed in seeds)]
    if not clips:
        return None

    def score(clip: EvalClip, seed: int) -> list[float]:
        return _score_take(clip, references.get(clip.id), takes[clip.id, seed], config)

    rows = [[score(clip, seed) for clip in clips] for seed in seeds]
    # Contiguous per metric, so that the summation order does not depend on other metrics.
    tables = np.moveaxis(np.array(rows), 2, 0).copy()
    by_metric = {
        name: table
        for name, table in zip(CLIP_METRICS, tables, strict=True)
        if name not in STRICT_METRICS or not np.isnan(table).all()
    }
    official = _summarize_seeds(by_metric, config)
    clip_values = {name: table.mean(axis=0) for name, table in by_metric.items()}
    strict = {
        name: float(values[~np.isnan(values)].mean())
        for name, values in clip_values.items()
        if name in STRICT_METRICS
    }
    summary = _average_summaries(official) if official else None
    groups = tuple(label_clusters([clip.groups for clip in clips]))
    chance_values: dict[str, Array] = {}
    if summary and not config.protocol.bcs_is_ratio and label.id not in CHANCE_BOUNDS:
        chance_values = chance.compute_chance_values(
            clips, references, takes, config, seeds=seeds
        )
        levels = chance.compute_chance_levels(chance_values)
        strict |= _correct_for_chance(summary.f1, levels)
    scored = [takes[clip.id, seed] for clip in clips for seed in seeds]
    return SystemScores(
        **vars(label),
        seeds=tuple(seeds),
        clip_ids=tuple(clip.id for clip in clips),
        source_groups=groups,
        official=summary,
        official_by_seed=tuple(official),
        strict=strict,
        intervals=_bootstrap_intervals(clip_values, groups, config),
        clip_values=clip_values,
        chance_values=chance_values,
        chance_differences=chance.compare_to_chance(clip_values, chance_values, groups),
        n_truncated_takes=sum(take.n_truncated_samples > 0 for take in scored),
    )


def _score_take(
    clip: EvalClip, reference: AudioAnalysis | None, take: AudioAnalysis, config: AnalysisConfig
) -> list[float]:
    """Compute the `CLIP_METRICS` of one take, NaN where undefined."""
    values: dict[str, float] = {}
    end_s = take.duration_s
    if reference is not None:
        flags = (reference.onset_flags, take.onset_flags)
        scores = loris_scores.score_clip(*flags, config.protocol)
        values |= {"BCS": scores.bcs, "BHS": scores.bhs}
    if config.strict_metrics:
        events = take.crop_events(end_s)
        if reference is not None:
            values |= sync.score_against_reference(reference.crop_events(end_s), events)
        if clip.visual_peaks_s is not None:
            peaks_s = np.array(clip.visual_peaks_s, dtype=np.float64)
            values |= sync.score_against_motion(peaks_s[peaks_s < end_s], events.onsets_s)
    return [values.get(name, np.nan) for name in CLIP_METRICS]


def _summarize_seeds(by_metric: dict[str, Array], config: AnalysisConfig) -> list[ScoreSummary]:
    """Compute the official scores of each seed over the clips with a reference."""
    summaries = []
    for bcs, bhs in zip(by_metric["BCS"].tolist(), by_metric["BHS"].tolist(), strict=True):
        pairs = [pair for pair in zip(bcs, bhs, strict=True) if not np.isnan(pair[0])]
        if pairs:
            scores = [loris_scores.ClipScores(bcs=a, bhs=b) for a, b in pairs]
            summaries.append(loris_scores.summarize_scores(scores, config.protocol))
    return summaries


def _correct_for_chance(f1: float | None, levels: Mapping[str, float]) -> dict[str, float]:
    """Return the chance level of F1 and the corrected F1, if both are defined."""
    if f1 is None or "F1" not in levels:
        return {}
    chance = levels["F1"]
    # The correction is undefined if the chance level is 1.
    corrected = (f1 - chance) / (1 - chance) if chance < 1 else 0.0
    return {"f1_chance": chance, "f1_chance_corrected": corrected}


def _bootstrap_intervals(
    clip_values: Mapping[str, Array], groups: Sequence[str], config: AnalysisConfig
) -> dict[str, Interval]:
    bootstrap = significance.ClusterBootstrap(groups)
    means = {name: bootstrap.resample_means(values) for name, values in clip_values.items()}
    if not config.protocol.bcs_is_ratio:
        means["F1"] = significance.f1_of_means(means["BCS"], means["BHS"])
    intervals = {name: bootstrap.confidence_interval(mean) for name, mean in means.items()}
    return {name: interval for name, interval in intervals.items() if interval is not None}


def _average_summaries(summaries: Sequence[ScoreSummary]) -> ScoreSummary:
    """Average each score over seeds. The scores of a single seed are returned unchanged."""
    if len(summaries) == 1:
        return summaries[0]
    means: dict[str, Any] = {}
    for name in (field.name for field in fields(ScoreSummary)):
        values = [getattr(summary, name) for summary in summaries]
        means[name] = None if None in values else float(np.mean(values))
    return ScoreSummary(**means)
