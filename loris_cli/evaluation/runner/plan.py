"""From what a user names to what is scored: a split, or files and their references."""

from dataclasses import replace
from pathlib import Path

from loris_cli.config import cache_home
from loris_cli.errors import LorisError, UsageError
from loris_cli.evaluation.runner.audio_sources import Recorded
from loris_cli.evaluation.runner.clips import (
    Case,
    Skipped,
    case_of_clip,
    clips_of_split,
    marked_made_up,
    paired,
)
from loris_cli.evaluation.runner.run import DEFAULT_AGAINST, Plan
from loris_cli.evaluation.runner.subsets import clips_in
from loris_cli.system.input_paths import VIDEO_SUFFIXES
from loris_cli.system.progress import Reporter


def plan_of_split(
    data: Path, split: str, *, part: str, n_clips: int | None, plan: Plan
) -> Plan:
    """Score models on the clips of a split.

    Args:
        data: the data set.
        split: the subset.
        part: which of its clips, ``test`` above all.
        n_clips: no more than so many; None is all.
        plan: everything else.

    Raises:
        InputError: there is no such split.
    """
    chosen = clips_of_split(clips_in(data, split), split, part=part, n=n_clips)
    marked = marked_made_up(data)
    found = [case_of_clip(data, clip, made_up=clip.id in marked) for clip in chosen]
    return replace(
        plan,
        title=split if part == "test" else f"{split} ({part})",
        cases=[case for case in found if isinstance(case, Case)],
        skipped=[case for case in found if isinstance(case, Skipped)],
    )


def plan_of_files(generated: Path, reference: Path, *, plan: Plan, reporter: Reporter) -> Plan:
    """Score files that are there against their references, sounds or videos.

    Args:
        generated: a file, or a folder.
        reference: likewise; in a folder namesakes belong together.
        plan: everything else.
        reporter: whom to tell.

    Raises:
        InputError: nothing belongs together, or the one reference cannot be used.
    """
    pairs, skipped = paired(generated, reference)
    cases = []
    for stem, _, true in pairs:
        try:
            cases.append(_case_of_file(stem, true, reporter))
        except LorisError as error:
            if len(pairs) == 1:
                raise
            skipped.append(Skipped(id=stem, reason=str(error)))
    return replace(
        plan,
        title=f"files of {reference.name}",
        cases=cases,
        skipped=skipped,
        generated={stem: made for stem, made, _ in pairs},
        makers=[],
    )


def check_against(plan: Plan) -> None:
    """Refuse to compare with a row that will not be there, before the long work starts.

    The default may be absent: then nothing is compared.

    Raises:
        UsageError: there will be no such row.
    """
    made = [maker.name for maker in plan.makers]
    names = [*made, *(["generated"] if plan.generated else []), *plan.rows]
    if plan.against not in names and plan.against != DEFAULT_AGAINST:
        raise UsageError(
            f"no row {plan.against!r} to compare with", hint=f"there are {', '.join(names)}"
        )


def heard_folder() -> Path:
    """Where it is kept what was heard."""
    return cache_home() / "eval" / "heard"


def _case_of_file(stem: str, true: Path, reporter: Reporter) -> Case:
    if true.suffix.lower() not in VIDEO_SUFFIXES:
        return Case(id=stem, group=stem, reference=Recorded(path=true))
    # What sees brings torch, which sounds that are there do not need.
    from loris_cli.soundtrack.conditioning import accents_of
    from loris_cli.soundtrack.video_analysis import look, observe

    info = look(true, reporter=reporter)
    seen = observe(info, reporter=reporter)
    peaks_s, _ = accents_of(seen.rhythm.times_s, seen.rhythm.strengths)
    return Case(
        id=stem,
        group=stem,
        reference=Recorded(path=true) if info.has_sound else None,
        peaks_s=tuple(peaks_s.tolist()),
        video=true,
    )
