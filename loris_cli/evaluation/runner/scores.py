"""Scores of one row: all its clips, all its seeds, against the truth.

    what was heard in the truth, in the takes -> a value a clip and seed -> means, intervals

Seeds of a clip are averaged first; a clip that lacks a take is left out of its row.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loris_cli.evaluation.metrics.loris_scores import (
    ScoreSummary,
    ScoringProtocol,
    f1_score,
    score_clip,
    summarize_scores,
)
from loris_cli.evaluation.metrics.significance import (
    ClusterBootstrap,
    chance_precision_recall,
    combine_component_means,
)
from loris_cli.evaluation.metrics.sync import (
    STRICT_METRICS,
    score_against_motion,
    score_against_reference,
)
from loris_cli.evaluation.runner.audio_analysis import AudioAnalysis
from loris_cli.evaluation.runner.bounds import CROSS_CLIP_BOUNDS, SystemCategory
from loris_cli.evaluation.runner.clips import EvalClip

Array = NDArray[np.float64]
Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class SystemScores:
    """One method on all clips."""

    id: str
    category: SystemCategory
    description: str
    seeds: tuple[int, ...]
    clip_ids: tuple[str, ...]
    """The clips that were scored."""
    source_groups: tuple[str, ...]
    """Their sources."""
    official: ScoreSummary | None
    """Mean over seeds of the scores of each; None where no clip has a true sound."""
    official_by_seed: tuple[ScoreSummary, ...]
    strict: Mapping[str, float]
    """`strict.STRICT_METRICS` where they could be had; ``f1_by_chance``, ``f1_corrected``."""
    intervals: Mapping[str, Interval]
    """95 %, over sources, of BCS, BHS, F1 and the strict figures."""
    clip_values: Mapping[str, Array]
    """Of each clip, mean over seeds, NaN where it has none; ``(clips,)`` each."""
    n_truncated_takes: int
    """Takes that were longer than the truth, and were cut."""


def score_system(
    system_id: str,
    category: SystemCategory,
    description: str,
    clips: Sequence[EvalClip],
    reference_analyses: Mapping[str, AudioAnalysis],
    take_analyses: Mapping[tuple[str, int], AudioAnalysis],
    *,
    seeds: Sequence[int],
    protocol: ScoringProtocol,
    strict_metrics: bool,
) -> SystemScores | None:
    """All figures of one row.

    Args:
        system_id: its stable name.
        category: what it is in the comparison.
        description: the same in words.
        clips: the clips.
        reference_analyses: what was heard in their true sounds, by clip.
        take_analyses: what was heard in the row's sounds, by clip and seed.
        seeds: of the takes.
        protocol: of the official scores.
        strict_metrics: whether fine onsets and beats were listened for.

    Returns:
        the row; None if no clip has all its takes.
    """
    whole = [case for case in clips if all((case.id, seed) in take_analyses for seed in seeds)]
    if not whole:
        return None
    groups = [case.source_group for case in whole]
    true = [reference_analyses.get(case.id) for case in whole]
    pairs = [
        [
            None
            if t is None
            else score_clip(t.onset_flags, take_analyses[case.id, seed].onset_flags, protocol)
            for case, t in zip(whole, true, strict=True)
        ]
        for seed in seeds
    ]
    values = {
        name: np.array(
            [[np.nan if p is None else getattr(p, name.lower()) for p in s] for s in pairs]
        )
        for name in ("BCS", "BHS")
    }
    if strict_metrics:
        figures = [
            [
                _score_strict(case, t, take_analyses[case.id, seed])
                for case, t in zip(whole, true, strict=True)
            ]
            for seed in seeds
        ]
        for name in STRICT_METRICS:
            table = np.array([[clip.get(name, np.nan) for clip in s] for s in figures])
            if not np.isnan(table).all():
                values[name] = table
    averaged = {name: table.mean(axis=0) for name, table in values.items()}
    by_seed = [
        summarize_scores(scored, protocol)
        for s in pairs
        if (scored := [pair for pair in s if pair is not None])
    ]
    means = {
        name: _mean_without_nan(averaged[name]) for name in averaged if name in STRICT_METRICS
    }
    if by_seed and not protocol.bcs_is_ratio and system_id not in CROSS_CLIP_BOUNDS:
        means |= _correct_for_chance(whole, reference_analyses, take_analyses, seeds, by_seed)
    return SystemScores(
        id=system_id,
        category=category,
        description=description,
        seeds=tuple(seeds),
        clip_ids=tuple(case.id for case in whole),
        source_groups=tuple(groups),
        official=_average_summaries(by_seed) if by_seed else None,
        official_by_seed=tuple(by_seed),
        strict=means,
        intervals=_bootstrap_intervals(averaged, groups, protocol),
        clip_values=averaged,
        n_truncated_takes=sum(
            take_analyses[case.id, seed].n_truncated_samples > 0
            for case in whole
            for seed in seeds
        ),
    )


def build_clip_scores(system: SystemScores) -> list[dict[str, object]]:
    """The values of each clip, as plain rows."""
    return [
        {
            "row": system.id,
            "clip": clip,
            "source": group,
            **{
                name: None if np.isnan(value) else float(value)
                for name, value in (
                    (name, system.clip_values[name][k]) for name in system.clip_values
                )
            },
        }
        for k, (clip, group) in enumerate(
            zip(system.clip_ids, system.source_groups, strict=True)
        )
    ]


def _score_strict(
    clip: EvalClip, reference: AudioAnalysis | None, generated: AudioAnalysis
) -> dict[str, float]:
    until_s = generated.duration_s
    events = generated.crop_events(until_s)
    figures = (
        {}
        if reference is None
        else score_against_reference(reference.crop_events(until_s), events)
    )
    if clip.visual_peaks_s is not None:
        peaks_s = np.array(clip.visual_peaks_s, dtype=np.float64)
        figures |= score_against_motion(peaks_s[peaks_s < until_s], events.onsets_s)
    return figures


def _correct_for_chance(
    clips: Sequence[EvalClip],
    reference_analyses: Mapping[str, AudioAnalysis],
    take_analyses: Mapping[tuple[str, int], AudioAnalysis],
    seeds: Sequence[int],
    official_by_seed: Sequence[ScoreSummary],
) -> dict[str, float]:
    """F1 against the truths of other sources, and the F1 that is left beyond it."""
    known = [case for case in clips if case.id in reference_analyses]
    true = [reference_analyses[case.id].onset_flags for case in known]
    groups = [case.source_group for case in known]
    by_others = [
        chance_precision_recall(
            [take_analyses[case.id, seed].onset_flags for case in known], true, groups
        )
        for seed in seeds
    ]
    chance = [f1_score(*found) for found in by_others if found is not None]
    if not chance:
        return {}
    expected = float(np.mean(chance))
    seen = float(np.mean([one.f1 for one in official_by_seed if one.f1 is not None]))
    # Where chance is perfect nothing is left to be shown.
    corrected = (seen - expected) / (1 - expected) if expected < 1 else 0.0
    return {"f1_by_chance": expected, "f1_corrected": corrected}


def _bootstrap_intervals(
    values: Mapping[str, Array], groups: list[str], protocol: ScoringProtocol
) -> dict[str, Interval]:
    resampler = ClusterBootstrap(groups)
    means = {name: resampler.resample_means(table) for name, table in values.items()}
    if not protocol.bcs_is_ratio:
        means["F1"] = combine_component_means([means["BCS"], means["BHS"]], "F1")
    found = {name: resampler.confidence_interval(drawn) for name, drawn in means.items()}
    return {name: interval for name, interval in found.items() if interval is not None}


def _mean_without_nan(values: Array) -> float:
    return float(values[~np.isnan(values)].mean())


def _average_summaries(summaries: Sequence[ScoreSummary]) -> ScoreSummary:
    """Each score averaged over seeds; of one seed, itself to the last digit."""
    if len(summaries) == 1:
        return summaries[0]

    def mean(name: str) -> float | None:
        found = [getattr(one, name) for one in summaries]
        return None if None in found else float(np.mean(found))

    bcs, bhs = mean("bcs"), mean("bhs")
    assert bcs is not None
    assert bhs is not None
    return ScoreSummary(bcs=bcs, csd=mean("csd"), bhs=bhs, hsd=mean("hsd"), f1=mean("f1"))
