"""A whole benchmark: listen to the truth, make and listen to every row, score, compare.

plan -> truths heard -> sounds of every row -> heard, in one pass -> rows -> result
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from loris_cli.dataset.source_names import parse_aist_performance
from loris_cli.errors import InputError
from loris_cli.evaluation.metrics.significance import PairedDifference, compare_paired
from loris_cli.evaluation.runner.ablation_layouts import PaperTable
from loris_cli.evaluation.runner.audio_analysis import (
    AnalysisConfig,
    AnalysisFailure,
    AudioAnalysis,
    analyze_audio_sources,
)
from loris_cli.evaluation.runner.audio_sources import AudioSource, RecordedAudio
from loris_cli.evaluation.runner.bounds import (
    CEILINGS,
    NULL_SYSTEMS,
    STOCHASTIC_BOUNDS,
    SystemCategory,
    build_bound_source,
    pick_mismatched_clips,
)
from loris_cli.evaluation.runner.clips import EvalClip, SkippedClip
from loris_cli.evaluation.runner.scores import SystemScores, score_system
from loris_cli.system.progress import Reporter

if TYPE_CHECKING:  # with models comes torch, which files that are there do not need
    from loris_cli.evaluation.runner.generation_cache import GenerationCost, SystemRunner

COMPARED_METRICS = ("F1", "onset_f", "beat_f")
"""Figures whose difference from the named row is tested."""
DEFAULT_COMPARE_TO = "shuffled"
METRIC_COMPONENTS: Mapping[str, tuple[str, ...]] = {"F1": ("BCS", "BHS")}
"""What a figure is made of, where it is no plain mean."""

TakeSources = dict[tuple[str, int], AudioSource]


@dataclass(frozen=True, kw_only=True)
class EvaluationPlan:
    """What to run."""

    title: str
    """The split, or what stands for one."""
    clips: Sequence[EvalClip]
    skipped: Sequence[SkippedClip] = ()
    generated_files: Mapping[str, Path] = field(default_factory=dict)
    """Sounds that are there already, by clip: the row ``generated_files``."""
    system_runners: "Sequence[SystemRunner]" = ()
    paper_tables: Sequence[PaperTable] = ()
    """Tables of the paper in which rows of makers belong."""
    bounds: Sequence[str] = (*NULL_SYSTEMS, *CEILINGS)
    """Nulls and ceilings wanted."""
    seeds: Sequence[int] = (0, 1, 2)
    analysis_config: AnalysisConfig = field(default_factory=AnalysisConfig)
    compare_to: str = DEFAULT_COMPARE_TO
    """The row that the others are compared with."""
    max_workers: int = 1
    analysis_cache: Path | None = None
    """Folder of what was heard before."""


@dataclass(frozen=True, kw_only=True)
class EvaluationResult:
    """What came of it."""

    plan: EvaluationPlan
    clips: Sequence[EvalClip]
    """Clips whose true sound was heard, or that have none."""
    reference_analyses: Mapping[str, AudioAnalysis]
    take_analyses: Mapping[str, Mapping[tuple[str, int], AudioAnalysis]]
    """By row, clip and seed."""
    take_sources: Mapping[str, TakeSources]
    systems: Sequence[SystemScores]
    skipped: Sequence[SkippedClip]
    unavailable: Mapping[str, str]
    """Rows that could not be had, and why."""
    generation_costs: "Mapping[str, GenerationCost]"
    differences: Mapping[str, Mapping[str, PairedDifference]]
    """From the named row, by row and figure."""
    elapsed_s: float

    def get_system(self, system_id: str) -> SystemScores | None:
        """The row of a name."""
        return next((row for row in self.systems if row.id == system_id), None)


def run_evaluation(plan: EvaluationPlan, *, reporter: Reporter) -> EvaluationResult:
    """Run a benchmark.

    Raises:
        InputError: no clip could be scored.
    """
    started = time.perf_counter()
    hear = _make_analyzer(plan, reporter)
    cases, truths, skipped = _analyze_references(plan, hear)
    entrants = _collect_system_sources(plan, cases, truths, reporter)
    takes, unheard = _analyze_takes(entrants.take_sources, hear)
    skipped += unheard
    rows = []
    for row_id, (kind, what) in entrants.labels.items():
        row = score_system(
            row_id,
            kind,
            what,
            cases,
            truths,
            takes[row_id],
            seeds=sorted({seed for _, seed in entrants.take_sources[row_id]}),
            protocol=plan.analysis_config.protocol,
            strict_metrics=plan.analysis_config.strict_metrics,
        )
        if row is None:
            entrants.unavailable[row_id] = "no clip of it could be heard"
        else:
            rows.append(row)
    if not rows:
        why = [one.reason for one in skipped] or [*entrants.unavailable.values(), "no row"]
        raise InputError(f"nothing could be scored: {why[0]}", hint="see `loris eval --help`")
    return EvaluationResult(
        plan=plan,
        clips=cases,
        reference_analyses=truths,
        take_analyses=takes,
        take_sources=entrants.take_sources,
        systems=rows,
        skipped=skipped,
        unavailable=entrants.unavailable,
        generation_costs=entrants.generation_costs,
        differences=_compare_systems(rows, plan.compare_to),
        elapsed_s=time.perf_counter() - started,
    )


@dataclass(frozen=True, kw_only=True)
class _SystemSources:
    """The sounds that are to be scored, and what is known of their rows."""

    take_sources: dict[str, TakeSources] = field(default_factory=dict)
    labels: dict[str, tuple[SystemCategory, str]] = field(default_factory=dict)
    generation_costs: "dict[str, GenerationCost]" = field(default_factory=dict)
    unavailable: dict[str, str] = field(default_factory=dict)


def _collect_system_sources(
    plan: EvaluationPlan,
    clips: Sequence[EvalClip],
    reference_analyses: Mapping[str, AudioAnalysis],
    reporter: Reporter,
) -> _SystemSources:
    """Sounds of every row, made or found."""
    found = _SystemSources()
    for maker in plan.system_runners:
        made, found.generation_costs[maker.name] = maker.generate_takes(
            clips, plan.seeds, reporter=reporter
        )
        found.take_sources[maker.name] = {
            # A manifest rounds durations: a sample too many would be a second too many.
            key: replace(sound, max_samples=reference_analyses[key[0]].n_samples)
            for key, sound in made.items()
        }
        found.labels[maker.name] = (maker.system.category, maker.system.description)
    if plan.generated_files:
        found.take_sources["generated"] = {
            (case.id, 0): RecordedAudio(
                path=plan.generated_files[case.id],
                max_samples=reference_analyses[case.id].n_samples
                if case.id in reference_analyses
                else None,
            )
            for case in clips
        }
        found.labels["generated"] = ("model", "what was given")
    true_cases = [case for case in clips if case.id in reference_analyses]
    for row_id in plan.bounds:
        built = _build_bound_sources(row_id, true_cases, reference_analyses, plan, reporter)
        if isinstance(built, str):
            found.unavailable[row_id] = built
            continue
        found.take_sources[row_id] = built
        found.labels[row_id] = (
            ("null", NULL_SYSTEMS[row_id])
            if row_id in NULL_SYSTEMS
            else ("ceiling", CEILINGS[row_id])
        )
    return found


def _analyze_takes(
    take_sources: Mapping[str, TakeSources],
    analyze: Callable[[Sequence[AudioSource]], list[AudioAnalysis | AnalysisFailure]],
) -> tuple[dict[str, dict[tuple[str, int], AudioAnalysis]], list[SkippedClip]]:
    """What was heard in every sound of every row, in one pass, and what could not be."""
    order = [(row_id, key) for row_id, row in take_sources.items() for key in row]
    heard = analyze([take_sources[row_id][key] for row_id, key in order])
    takes: dict[str, dict[tuple[str, int], AudioAnalysis]] = {
        row_id: {} for row_id in take_sources
    }
    skipped = []
    for (row_id, key), found in zip(order, heard, strict=True):
        if isinstance(found, AnalysisFailure):
            skipped.append(SkippedClip(clip_id=key[0], reason=f"{row_id}: {found.reason}"))
        else:
            takes[row_id][key] = found
    return takes, skipped


def _make_analyzer(
    plan: EvaluationPlan, reporter: Reporter
) -> Callable[[Sequence[AudioSource]], list[AudioAnalysis | AnalysisFailure]]:
    def hear(sounds: Sequence[AudioSource]) -> list[AudioAnalysis | AnalysisFailure]:
        return analyze_audio_sources(
            sounds,
            config=plan.analysis_config,
            cache_dir=plan.analysis_cache,
            max_workers=plan.max_workers,
            reporter=reporter,
        )

    return hear


def _analyze_references(
    plan: EvaluationPlan,
    analyze: Callable[[Sequence[AudioSource]], list[AudioAnalysis | AnalysisFailure]],
) -> tuple[list[EvalClip], dict[str, AudioAnalysis], list[SkippedClip]]:
    """Clips that take part, what was heard in their true sounds, and those left out."""
    skipped = list(plan.skipped)
    with_sound = [case for case in plan.clips if case.reference is not None]
    references = [case.reference for case in with_sound if case.reference is not None]
    truths, bad = {}, set()
    for case, found in zip(with_sound, analyze(references), strict=True):
        if isinstance(found, AnalysisFailure):
            skipped.append(SkippedClip(clip_id=case.id, reason=found.reason))
            bad.add(case.id)
        else:
            truths[case.id] = found
    cases = [case for case in plan.clips if case.id not in bad]
    if not cases:
        reason = skipped[0].reason if skipped else "there is no clip"
        raise InputError(f"no clip can be scored: {reason}", hint="see `loris eval --list`")
    return cases, truths, skipped


def _build_bound_sources(
    bound_id: str,
    clips: Sequence[EvalClip],
    reference_analyses: Mapping[str, AudioAnalysis],
    plan: EvaluationPlan,
    reporter: Reporter,
) -> TakeSources | str:
    """Sounds of a null or a ceiling by clip and seed, or why there are none."""
    if not clips:
        return "no clip has a true sound"
    seeds = plan.seeds if bound_id in STOCHASTIC_BOUNDS else plan.seeds[:1]
    if bound_id == "tempo_click" and not plan.analysis_config.strict_metrics:
        return "the tempo is known from the strict figures' beats only"
    if bound_id == "through_latent":
        coding = next((maker for maker in plan.system_runners if maker.has_latent), None)
        if coding is None:
            return "no model that works on a latent code was named"
        latent = coding.reconstruct_references(clips, reporter=reporter)
        return {(case_id, seeds[0]): sound for case_id, sound in latent.items()}
    if bound_id == "other_take":
        return find_other_performances(clips, reference_analyses, seed=seeds[0])
    if bound_id != "shuffled":
        found: TakeSources = {}
        for case in clips:
            for seed in seeds:
                sound = build_bound_source(
                    bound_id, case, reference_analyses[case.id], seed=seed
                )
                assert sound is not None
                found[case.id, seed] = sound
        return found
    shuffled: TakeSources = {}
    for seed in seeds:
        others = pick_mismatched_clips([case.source_group for case in clips], seed=seed)
        for case, other in zip(clips, others, strict=True):
            if other is None:
                return "all clips are of one source"
            shuffled[case.id, seed] = _mismatched_source(case, clips[other], reference_analyses)
    return shuffled


def find_other_performances(
    clips: Sequence[EvalClip], reference_analyses: Mapping[str, AudioAnalysis], *, seed: int
) -> TakeSources | str:
    """For clips of AIST: the sound of the same music, danced by somebody else."""
    named = {case.id: parse_aist_performance(case.source_group) for case in clips}
    found: TakeSources = {}
    for case in clips:
        ours = named[case.id]
        for other in clips:
            theirs = named[other.id]
            if ours and theirs and ours[0] == theirs[0] and ours != theirs:
                found[case.id, seed] = _mismatched_source(case, other, reference_analyses)
                break
    return found or "no two clips are known to be of one piece of music"


def _mismatched_source(
    clip: EvalClip, other_clip: EvalClip, reference_analyses: Mapping[str, AudioAnalysis]
) -> RecordedAudio:
    assert other_clip.reference is not None
    return RecordedAudio(
        path=other_clip.reference.path, max_samples=reference_analyses[clip.id].n_samples
    )


def _compare_systems(
    systems: Sequence[SystemScores], compare_to: str
) -> dict[str, dict[str, PairedDifference]]:
    base = next((row for row in systems if row.id == compare_to), None)
    if base is None:
        return {}
    found: dict[str, dict[str, PairedDifference]] = {}
    for row in systems:
        both = [clip for clip in row.clip_ids if clip in set(base.clip_ids)]
        ours = [row.clip_ids.index(clip) for clip in both]
        theirs = [base.clip_ids.index(clip) for clip in both]
        for figure in COMPARED_METRICS:
            parts = METRIC_COMPONENTS.get(figure, (figure,))
            if row is base or not all(
                part in row.clip_values and part in base.clip_values for part in parts
            ):
                continue
            difference = compare_paired(
                tuple(row.clip_values[part][ours] for part in parts),
                tuple(base.clip_values[part][theirs] for part in parts),
                [row.source_groups[k] for k in ours],
                figure,
            )
            if difference is not None:
                found.setdefault(row.id, {})[figure] = difference
    return found
