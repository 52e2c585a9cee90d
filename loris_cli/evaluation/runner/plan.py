"""From what a user names to what is scored: a split, or files and their references."""

from dataclasses import replace
from pathlib import Path

from loris_cli.config import cache_home
from loris_cli.errors import LorisError, UsageError
from loris_cli.evaluation.runner.audio_sources import RecordedAudio
from loris_cli.evaluation.runner.clips import (
    EvalClip,
    SkippedClip,
    build_eval_clip,
    pair_files,
    select_clips,
)
from loris_cli.evaluation.runner.run import DEFAULT_COMPARE_TO, EvaluationPlan
from loris_cli.evaluation.runner.subsets import read_manifest_with_subset
from loris_cli.system.input_paths import VIDEO_SUFFIXES
from loris_cli.system.progress import Reporter


def plan_subset_evaluation(
    data_dir: Path, subset: str, *, partition: str, max_clips: int | None, plan: EvaluationPlan
) -> EvaluationPlan:
    """Score models on the clips of a split.

    Args:
        data_dir: the data set.
        subset: the subset.
        partition: which of its clips, ``test`` above all.
        max_clips: no more than so many; None is all.
        plan: everything else.

    Raises:
        InputError: there is no such split.
    """
    chosen = select_clips(
        read_manifest_with_subset(data_dir, subset),
        subset,
        partition=partition,
        max_clips=max_clips,
    )
    found = [build_eval_clip(data_dir, clip) for clip in chosen]
    return replace(
        plan,
        title=subset if partition == "test" else f"{subset} ({partition})",
        clips=[case for case in found if isinstance(case, EvalClip)],
        skipped=[case for case in found if isinstance(case, SkippedClip)],
    )


def plan_file_evaluation(
    generated: Path, reference: Path, *, plan: EvaluationPlan, reporter: Reporter
) -> EvaluationPlan:
    """Score files that are there against their references, sounds or videos.

    Args:
        generated: a file, or a folder.
        reference: likewise; in a folder namesakes belong together.
        plan: everything else.
        reporter: whom to tell.

    Raises:
        InputError: nothing belongs together, or the one reference cannot be used.
    """
    pairs, skipped = pair_files(generated, reference)
    cases = []
    for stem, _, true in pairs:
        try:
            cases.append(_build_eval_clip_from_file(stem, true, reporter))
        except LorisError as error:
            if len(pairs) == 1:
                raise
            skipped.append(SkippedClip(clip_id=stem, reason=str(error)))
    return replace(
        plan,
        title=f"files of {reference.name}",
        clips=cases,
        skipped=skipped,
        generated_files={stem: made for stem, made, _ in pairs},
        system_runners=[],
    )


def check_compare_to(plan: EvaluationPlan) -> None:
    """Refuse to compare with a row that will not be there, before the long work starts.

    The default may be absent: then nothing is compared.

    Raises:
        UsageError: there will be no such row.
    """
    made = [maker.name for maker in plan.system_runners]
    names = [*made, *(["generated"] if plan.generated_files else []), *plan.bounds]
    if plan.compare_to not in names and plan.compare_to != DEFAULT_COMPARE_TO:
        raise UsageError(
            f"no row {plan.compare_to!r} to compare with", hint=f"there are {', '.join(names)}"
        )


def analysis_cache_dir() -> Path:
    """Where it is kept what was heard."""
    return cache_home() / "eval" / "heard"


def _build_eval_clip_from_file(stem: str, reference: Path, reporter: Reporter) -> EvalClip:
    if reference.suffix.lower() not in VIDEO_SUFFIXES:
        return EvalClip(id=stem, source_group=stem, reference=RecordedAudio(path=reference))
    # What sees brings torch, which sounds that are there do not need.
    from loris_cli.soundtrack.clip_features import select_accents
    from loris_cli.soundtrack.video_analysis import analyze_video, probe_for_rhythm

    info = probe_for_rhythm(reference, reporter=reporter)
    seen = analyze_video(info, reporter=reporter)
    peaks_s, _ = select_accents(seen.rhythm.times_s, seen.rhythm.strengths)
    return EvalClip(
        id=stem,
        source_group=stem,
        reference=RecordedAudio(path=reference) if info.has_audio else None,
        visual_peaks_s=tuple(peaks_s.tolist()),
        video=reference,
    )
