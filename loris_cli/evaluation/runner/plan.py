"""Evaluation plans for a subset of a data set, or for generated files with references."""

from dataclasses import replace
from functools import partial
from pathlib import Path

from loris_cli.config import cache_home
from loris_cli.dataset.manifest import read_manifest
from loris_cli.dataset.source_names import derive_groups
from loris_cli.errors import InputError, LorisError, UsageError
from loris_cli.evaluation.runner import clips as eval_clips
from loris_cli.evaluation.runner.audio_sources import RecordedAudio
from loris_cli.evaluation.runner.clips import EvalClip, SkippedClip
from loris_cli.evaluation.runner.run import DEFAULT_COMPARE_TO, EvaluationPlan
from loris_cli.system.input_paths import VIDEO_SUFFIXES
from loris_cli.system.progress import Reporter


def plan_subset_evaluation(
    data_dir: Path,
    subset: str,
    *,
    partition: str,
    max_clips: int | None,
    plan: EvaluationPlan,
    rhythm_from_reference: bool = False,
) -> EvaluationPlan:
    """Return a plan that scores systems on the clips of a subset.

    Args:
        data_dir: data set folder.
        subset: subset name, such as ``fe50``.
        partition: ``test``, ``val``, ``train`` or ``official``.
        max_clips: maximum number of clips; None is unlimited.
        plan: plan with all other settings.
        rhythm_from_reference: give systems the rhythm of the reference audio for clips without
            poses, which are skipped otherwise.

    Raises:
        InputError: the subset does not exist.
    """
    clips = eval_clips.read_subset_clips(data_dir, subset, partition=partition)
    build = partial(
        eval_clips.build_eval_clip, data_dir, rhythm_from_reference=rhythm_from_reference
    )
    loaded = [build(clip) for clip in clips[:max_clips]]
    skipped = [clip for clip in loaded if isinstance(clip, SkippedClip)]
    if sum(clip.reason == eval_clips.NO_POSES for clip in skipped) == len(loaded):
        raise InputError(
            f"no selected clip of {subset!r} has poses, so the rhythm of the videos is unknown",
            hint="--rhythm-from-reference uses the rhythm of the reference audio",
        )
    return replace(
        plan,
        title=subset if partition == "test" else f"{subset} ({partition})",
        published_subset=subset if partition in ("test", "official") else "",
        official_test_ids=frozenset(
            clip.id
            for clip in read_manifest(data_dir)
            if (clip.subset, clip.official_partition) == (subset, "test")
        ),
        clips=[clip for clip in loaded if isinstance(clip, EvalClip)],
        skipped=skipped,
    )


def plan_file_evaluation(
    generated: Path, reference: Path, *, plan: EvaluationPlan, reporter: Reporter
) -> EvaluationPlan:
    """Return a plan that scores generated files against reference files, audio or video.

    Args:
        generated: file or folder of generated audio.
        reference: file or folder of references; files of two folders are paired by name.
        plan: plan with all other settings.
        reporter: receives progress and warnings.

    Raises:
        InputError: no files can be paired, or the only reference cannot be analyzed.
    """
    pairs, skipped = eval_clips.pair_files(generated, reference)
    clips = []
    for stem, _, path in pairs:
        try:
            clips.append(_build_eval_clip_from_file(stem, path, reporter))
        except LorisError as error:
            if len(pairs) == 1:
                raise
            skipped.append(SkippedClip(clip_id=stem, reason=str(error)))
    return replace(
        plan,
        title=f"files of {reference.name}",
        clips=clips,
        skipped=skipped,
        generated_files={stem: path for stem, path, _ in pairs},
        system_runners=[],
    )


def check_compare_to(plan: EvaluationPlan) -> None:
    """Check that the system to compare with is part of the plan.

    The default system may be missing; differences are then not computed.

    Raises:
        UsageError: the system is not part of the plan.
    """
    names = [runner.name for runner in plan.system_runners]
    names += [*(["generated"] if plan.generated_files else []), *plan.bounds]
    if plan.compare_to not in (*names, DEFAULT_COMPARE_TO):
        hint = f"available systems: {', '.join(names)}"
        raise UsageError(f"unknown system {plan.compare_to!r} to compare with", hint=hint)


def eval_cache_dir(name: str) -> Path:
    """Return the folder of an evaluation cache, ``analysis`` or ``generated``."""
    return cache_home() / "eval" / name


def _build_eval_clip_from_file(stem: str, reference: Path, reporter: Reporter) -> EvalClip:
    if reference.suffix.lower() not in VIDEO_SUFFIXES:
        return EvalClip(
            id=stem, groups=derive_groups(stem), reference=RecordedAudio(path=reference)
        )
    # Imported here because these modules import torch, which audio files do not need.
    from loris_cli.soundtrack.clip_features import select_accented_peaks
    from loris_cli.soundtrack.video_analysis import analyze_video, probe_for_rhythm

    info = probe_for_rhythm(reference, reporter=reporter)
    rhythm = analyze_video(info, reporter=reporter).rhythm
    peaks_s, _ = select_accented_peaks(rhythm.times_s, rhythm.strengths)
    return EvalClip(
        id=stem,
        groups=derive_groups(stem),
        reference=RecordedAudio(path=reference) if info.has_audio else None,
        visual_peaks_s=tuple(peaks_s.tolist()),
        video=reference,
    )
