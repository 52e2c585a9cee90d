"""Run an evaluation: analyze references, generate and analyze all takes, score, compare.

plan -> reference analyses -> audio sources of all systems -> analyses -> scores -> result
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from loris_cli.errors import InputError
from loris_cli.evaluation.metrics import significance
from loris_cli.evaluation.metrics.significance import PairedDifference
from loris_cli.evaluation.runner import audio_analysis, bounds
from loris_cli.evaluation.runner.audio_analysis import AnalysisConfig, AudioAnalysis
from loris_cli.evaluation.runner.audio_sources import AudioSource, RecordedAudio
from loris_cli.evaluation.runner.bounds import BOUNDS, TakeSources
from loris_cli.evaluation.runner.clips import EvalClip, SkippedClip
from loris_cli.evaluation.runner.paper_tables import PaperTable
from loris_cli.evaluation.runner.scores import SystemLabel, SystemScores, score_system
from loris_cli.system.progress import Reporter

if TYPE_CHECKING:  # imports torch, which is not needed to score files
    from loris_cli.evaluation.runner.generation_cache import SystemRunner

DEFAULT_COMPARE_TO = "mismatched"

Analyzer = Callable[
    [Sequence[AudioSource]], list[AudioAnalysis | audio_analysis.AnalysisFailure]
]
TakeAnalyses = dict[str, dict[tuple[str, int], AudioAnalysis]]
"""Analyses by system id, then by clip id and seed."""


@dataclass(frozen=True, kw_only=True)
class EvaluationPlan:
    """Clips, systems and settings of an evaluation."""

    title: str
    """Subset name, or a description of the files."""
    clips: Sequence[EvalClip]
    published_subset: str = ""
    """Subset with published scores, which are of its official test clips."""
    official_test_ids: frozenset[str] = frozenset()
    """Ids of the subset's clips that are test clips in the authors' release."""
    skipped: Sequence[SkippedClip] = ()
    generated_files: Mapping[str, Path] = field(default_factory=dict)
    """Audio files of the user by clip id, scored as the system ``generated``."""
    system_runners: "Sequence[SystemRunner]" = ()
    paper_tables: Sequence[PaperTable] = ()
    """Tables of the paper to which the systems correspond."""
    bounds: Sequence[str] = tuple(BOUNDS)
    seeds: Sequence[int] = (0, 1, 2)
    analysis_config: AnalysisConfig = field(default_factory=AnalysisConfig)
    compare_to: str = DEFAULT_COMPARE_TO
    """Id of the system with which all others are compared."""
    max_workers: int = 1
    analysis_cache: Path | None = None
    """Folder of the analysis cache; None disables the cache."""


@dataclass(frozen=True, kw_only=True)
class EvaluationResult:
    """Analyses and scores of an evaluation run."""

    plan: EvaluationPlan
    clips: Sequence[EvalClip]
    """Clips that have no reference, or whose reference was analyzed."""
    reference_analyses: Mapping[str, AudioAnalysis]
    take_analyses: TakeAnalyses
    take_sources: Mapping[str, TakeSources]
    systems: Sequence[SystemScores]
    skipped: Sequence[SkippedClip]
    unavailable: Mapping[str, str]
    """Reason why a system could not be scored, by system id."""
    differences: Mapping[str, Mapping[str, PairedDifference]]
    """Differences to ``plan.compare_to``, by system id and metric."""
    elapsed_s: float

    def get_system(self, system_id: str) -> SystemScores | None:
        """Return the scores of a system; None if it was not scored."""
        return next((system for system in self.systems if system.id == system_id), None)


def run_evaluation(plan: EvaluationPlan, *, reporter: Reporter) -> EvaluationResult:
    """Run an evaluation.

    Raises:
        InputError: no clip could be scored.
    """
    start = time.perf_counter()
    analyze = partial(
        audio_analysis.analyze_audio_sources,
        config=plan.analysis_config,
        cache_dir=plan.analysis_cache,
        max_workers=plan.max_workers,
        reporter=reporter,
    )
    clips, references, skipped = _analyze_references(plan, analyze)
    entries, unavailable = _collect_sources(plan, clips, references, reporter)
    sources = {label.id: takes for label, takes in entries}
    analyses, failed = _analyze_takes(sources, analyze)
    skipped += failed
    systems = []
    for label, takes in entries:
        seeds = sorted({seed for _, seed in takes})
        own = analyses[label.id]
        system = score_system(label, clips, references, own, plan.analysis_config, seeds=seeds)
        if system is None:
            unavailable[label.id] = "no clip has an analyzed take for every seed"
        else:
            systems.append(system)
    if not systems:
        reasons = [*(clip.reason for clip in skipped), *unavailable.values(), "no system"]
        raise InputError(f"no system was scored: {reasons[0]}", hint="see `loris eval --help`")
    return EvaluationResult(
        plan=plan,
        clips=clips,
        reference_analyses=references,
        take_analyses=analyses,
        take_sources=sources,
        systems=systems,
        skipped=skipped,
        unavailable=unavailable,
        differences=_compare_systems(systems, plan.compare_to),
        elapsed_s=time.perf_counter() - start,
    )


def _collect_sources(
    plan: EvaluationPlan,
    clips: Sequence[EvalClip],
    references: Mapping[str, AudioAnalysis],
    reporter: Reporter,
) -> tuple[list[tuple[SystemLabel, TakeSources]], dict[str, str]]:
    """Return the audio sources of every system, and the reasons for unavailable bounds."""

    def cut(path: Path, clip_id: str) -> RecordedAudio:
        # The manifest rounds durations: one extra sample would add a second to the flags.
        n_samples = references[clip_id].n_samples if clip_id in references else None
        return RecordedAudio(path=path, max_samples=n_samples)

    entries: list[tuple[SystemLabel, TakeSources]] = []
    for runner in plan.system_runners:
        takes, cost = runner.generate_takes(clips, plan.seeds, reporter=reporter)
        system, settings = runner.system, runner.system.generation_settings
        label = SystemLabel(runner.name, system.category, system.description, settings, cost)
        entries.append((label, {key: cut(take.path, key[0]) for key, take in takes.items()}))
    if plan.generated_files:
        label = SystemLabel("generated", "model", "user-supplied files")
        files = plan.generated_files
        entries.append((label, {(clip.id, 0): cut(files[clip.id], clip.id) for clip in clips}))
    request = bounds.BoundRequest(
        clips=[clip for clip in clips if clip.id in references],
        reference_analyses=references,
        seeds=plan.seeds,
        has_beats=plan.analysis_config.strict_metrics,
        system_runners=plan.system_runners,
        reporter=reporter,
    )
    unavailable = {}
    names = [runner.name for runner in plan.system_runners]
    for bound_id in plan.bounds:
        if bound_id in names:  # already scored as a method
            continue
        bound = BOUNDS[bound_id]
        seeds = plan.seeds if bound_id in bounds.RANDOM_BOUNDS else plan.seeds[:1]
        try:
            sources = bounds.build_bound_sources(bound_id, replace(request, seeds=seeds))
        except bounds.UnavailableError as reason:
            unavailable[bound_id] = str(reason)
        else:
            entries.append((SystemLabel(bound_id, bound.category, bound.description), sources))
    return entries, unavailable


def _analyze_takes(
    take_sources: Mapping[str, TakeSources], analyze: Analyzer
) -> tuple[TakeAnalyses, list[SkippedClip]]:
    """Analyze all takes of all systems in one pass; return analyses and failures."""
    keys = [(system_id, key) for system_id, takes in take_sources.items() for key in takes]
    results = analyze([take_sources[system_id][key] for system_id, key in keys])
    analyses: TakeAnalyses = {system_id: {} for system_id in take_sources}
    skipped = []
    for (system_id, key), result in zip(keys, results, strict=True):
        if isinstance(result, audio_analysis.AnalysisFailure):
            skipped.append(SkippedClip(clip_id=key[0], reason=f"{system_id}: {result.reason}"))
        else:
            analyses[system_id][key] = result
    return analyses, skipped


def _analyze_references(
    plan: EvaluationPlan, analyze: Analyzer
) -> tuple[list[EvalClip], dict[str, AudioAnalysis], list[SkippedClip]]:
    """Return the clips to score, the analyses of their references, and the skipped clips."""
    skipped = list(plan.skipped)
    references = {clip.id: clip.reference for clip in plan.clips if clip.reference is not None}
    analyses, failed = {}, set()
    for clip_id, result in zip(references, analyze(list(references.values())), strict=True):
        if isinstance(result, audio_analysis.AnalysisFailure):
            skipped.append(SkippedClip(clip_id=clip_id, reason=result.reason))
            failed.add(clip_id)
        else:
            analyses[clip_id] = result
    clips = [
        # Clips with the same audio have the same music, whatever their names are.
        replace(clip, groups=(*clip.groups, f"music:{analyses[clip.id].samples_sha256}"))
        if clip.id in analyses
        else clip
        for clip in plan.clips
        if clip.id not in failed
    ]
    if not clips:
        reason = skipped[0].reason if skipped else "there are no clips"
        raise InputError(f"no clip can be scored: {reason}", hint="see `loris eval list`")
    return clips, analyses, skipped


def _compare_systems(
    systems: Sequence[SystemScores], compare_to: str
) -> dict[str, dict[str, PairedDifference]]:
    base = next((system for system in systems if system.id == compare_to), None)
    if base is None:
        return {}
    differences: dict[str, dict[str, PairedDifference]] = {}
    for system in systems:
        if system is base:
            continue
        shared = [k for k, clip in enumerate(system.clip_ids) if clip in base.clip_ids]
        base_rows = [base.clip_ids.index(system.clip_ids[k]) for k in shared]
        groups = [system.source_groups[k] for k in shared]
        for metric, (components, statistic) in significance.METRIC_STATISTICS.items():
            if not system.clip_values.keys() & base.clip_values.keys() >= {*components}:
                continue
            values = [system.clip_values[name][shared] for name in components]
            base_values = [base.clip_values[name][base_rows] for name in components]
            difference = significance.compare_paired(values, base_values, groups, statistic)
            if difference is not None:
                differences.setdefault(system.id, {})[metric] = difference
    return differences
