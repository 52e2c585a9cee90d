"""A whole benchmark: listen to the truth, make and listen to every row, score, compare.

plan -> truths heard -> sounds of every row -> heard, in one pass -> rows -> result
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from loris_cli.dataset.aist_names import performance_of
from loris_cli.errors import InputError
from loris_cli.evaluation.metrics.significance import Difference, compared
from loris_cli.evaluation.runner.ablation_layouts import Layout
from loris_cli.evaluation.runner.audio_analysis import Ears, Heard, Unheard, listen_to_all
from loris_cli.evaluation.runner.audio_sources import Recorded, Sound
from loris_cli.evaluation.runner.bounds import (
    CEILINGS,
    NULLS,
    SEEDED,
    Kind,
    rival,
    strangers,
)
from loris_cli.evaluation.runner.clips import Case, Skipped
from loris_cli.evaluation.runner.scores import Row, score_row
from loris_cli.system.progress import Reporter

if TYPE_CHECKING:  # with models comes torch, which files that are there do not need
    from loris_cli.evaluation.runner.generation_cache import Cost, Maker

COMPARED = ("F1", "onset_f", "beat_f")
"""Figures whose difference from the named row is tested."""
DEFAULT_AGAINST = "shuffled"
PARTS: Mapping[str, tuple[str, ...]] = {"F1": ("BCS", "BHS")}
"""What a figure is made of, where it is no plain mean."""

Sounds = dict[tuple[str, int], Sound]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to run."""

    title: str
    """The split, or what stands for one."""
    cases: Sequence[Case]
    skipped: Sequence[Skipped] = ()
    generated: Mapping[str, Path] = field(default_factory=dict)
    """Sounds that are there already, by clip: the row ``generated``."""
    makers: "Sequence[Maker]" = ()
    layouts: Sequence[Layout] = ()
    """Tables of the paper in which rows of makers belong."""
    rows: Sequence[str] = (*NULLS, *CEILINGS)
    """Nulls and ceilings wanted."""
    seeds: Sequence[int] = (0, 1, 2)
    ears: Ears = field(default_factory=Ears)
    against: str = DEFAULT_AGAINST
    """The row that the others are compared with."""
    jobs: int = 1
    cache: Path | None = None
    """Folder of what was heard before."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What came of it."""

    plan: Plan
    cases: Sequence[Case]
    """Clips whose true sound was heard, or that have none."""
    truths: Mapping[str, Heard]
    takes: Mapping[str, Mapping[tuple[str, int], Heard]]
    """By row, clip and seed."""
    sounds: Mapping[str, Sounds]
    rows: Sequence[Row]
    skipped: Sequence[Skipped]
    left_out: Mapping[str, str]
    """Rows that could not be had, and why."""
    costs: "Mapping[str, Cost]"
    differences: Mapping[str, Mapping[str, Difference]]
    """From the named row, by row and figure."""
    seconds: float

    def row(self, row_id: str) -> Row | None:
        """The row of a name."""
        return next((row for row in self.rows if row.id == row_id), None)


def run(plan: Plan, *, reporter: Reporter) -> Result:
    """Run a benchmark.

    Raises:
        InputError: no clip could be scored.
    """
    started = time.perf_counter()
    hear = _hearing(plan, reporter)
    cases, truths, skipped = _truths(plan, hear)
    entrants = _entrants(plan, cases, truths, reporter)
    takes, unheard = _takes(entrants.sounds, hear)
    skipped += unheard
    rows = []
    for row_id, (kind, what) in entrants.kinds.items():
        row = score_row(
            row_id,
            kind,
            what,
            cases,
            truths,
            takes[row_id],
            seeds=sorted({seed for _, seed in entrants.sounds[row_id]}),
            protocol=plan.ears.protocol,
            strict=plan.ears.strict,
        )
        if row is None:
            entrants.left_out[row_id] = "no clip of it could be heard"
        else:
            rows.append(row)
    if not rows:
        why = [one.reason for one in skipped] or [*entrants.left_out.values(), "no row"]
        raise InputError(f"nothing could be scored: {why[0]}", hint="see `loris eval --help`")
    return Result(
        plan=plan,
        cases=cases,
        truths=truths,
        takes=takes,
        sounds=entrants.sounds,
        rows=rows,
        skipped=skipped,
        left_out=entrants.left_out,
        costs=entrants.costs,
        differences=_differences(rows, plan.against),
        seconds=time.perf_counter() - started,
    )


@dataclass(frozen=True, kw_only=True)
class _Entrants:
    """The sounds that are to be scored, and what is known of their rows."""

    sounds: dict[str, Sounds] = field(default_factory=dict)
    kinds: dict[str, tuple[Kind, str]] = field(default_factory=dict)
    costs: "dict[str, Cost]" = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


def _entrants(
    plan: Plan, cases: Sequence[Case], truths: Mapping[str, Heard], reporter: Reporter
) -> _Entrants:
    """Sounds of every row, made or found."""
    found = _Entrants()
    for maker in plan.makers:
        made, found.costs[maker.name] = maker.make(cases, plan.seeds, reporter=reporter)
        found.sounds[maker.name] = {
            # A manifest rounds durations: a sample too many would be a second too many.
            key: replace(sound, most_samples=truths[key[0]].n_samples)
            for key, sound in made.items()
        }
        found.kinds[maker.name] = (maker.entrant.kind, maker.entrant.what)
    if plan.generated:
        found.sounds["generated"] = {
            (case.id, 0): Recorded(
                path=plan.generated[case.id],
                most_samples=truths[case.id].n_samples if case.id in truths else None,
            )
            for case in cases
        }
        found.kinds["generated"] = ("model", "what was given")
    true_cases = [case for case in cases if case.id in truths]
    for row_id in plan.rows:
        built = _rival_sounds(row_id, true_cases, truths, plan, reporter)
        if isinstance(built, str):
            found.left_out[row_id] = built
            continue
        found.sounds[row_id] = built
        found.kinds[row_id] = (
            ("null", NULLS[row_id]) if row_id in NULLS else ("ceiling", CEILINGS[row_id])
        )
    return found


def _takes(
    sounds: Mapping[str, Sounds], hear: Callable[[Sequence[Sound]], list[Heard | Unheard]]
) -> tuple[dict[str, dict[tuple[str, int], Heard]], list[Skipped]]:
    """What was heard in every sound of every row, in one pass, and what could not be."""
    order = [(row_id, key) for row_id, row in sounds.items() for key in row]
    heard = hear([sounds[row_id][key] for row_id, key in order])
    takes: dict[str, dict[tuple[str, int], Heard]] = {row_id: {} for row_id in sounds}
    skipped = []
    for (row_id, key), found in zip(order, heard, strict=True):
        if isinstance(found, Unheard):
            skipped.append(Skipped(id=key[0], reason=f"{row_id}: {found.reason}"))
        else:
            takes[row_id][key] = found
    return takes, skipped


def _hearing(
    plan: Plan, reporter: Reporter
) -> Callable[[Sequence[Sound]], list[Heard | Unheard]]:
    def hear(sounds: Sequence[Sound]) -> list[Heard | Unheard]:
        return listen_to_all(
            sounds, ears=plan.ears, cache=plan.cache, jobs=plan.jobs, reporter=reporter
        )

    return hear


def _truths(
    plan: Plan, hear: Callable[[Sequence[Sound]], list[Heard | Unheard]]
) -> tuple[list[Case], dict[str, Heard], list[Skipped]]:
    """Clips that take part, what was heard in their true sounds, and those left out."""
    skipped = list(plan.skipped)
    with_sound = [case for case in plan.cases if case.reference is not None]
    references = [case.reference for case in with_sound if case.reference is not None]
    truths, bad = {}, set()
    for case, found in zip(with_sound, hear(references), strict=True):
        if isinstance(found, Unheard):
            skipped.append(Skipped(id=case.id, reason=found.reason))
            bad.add(case.id)
        else:
            truths[case.id] = found
    cases = [case for case in plan.cases if case.id not in bad]
    if not cases:
        reason = skipped[0].reason if skipped else "there is no clip"
        raise InputError(f"no clip can be scored: {reason}", hint="see `loris eval --list`")
    return cases, truths, skipped


def _rival_sounds(
    row_id: str,
    cases: Sequence[Case],
    truths: Mapping[str, Heard],
    plan: Plan,
    reporter: Reporter,
) -> Sounds | str:
    """Sounds of a null or a ceiling by clip and seed, or why there are none."""
    if not cases:
        return "no clip has a true sound"
    seeds = plan.seeds if row_id in SEEDED else plan.seeds[:1]
    if row_id == "tempo_click" and not plan.ears.strict:
        return "the tempo is known from the strict figures' beats only"
    if row_id == "through_latent":
        coding = next((maker for maker in plan.makers if maker.has_code), None)
        if coding is None:
            return "no model that works on a latent code was named"
        latent = coding.latent(cases, reporter=reporter)
        return {(case_id, seeds[0]): sound for case_id, sound in latent.items()}
    if row_id == "other_take":
        return other_takes(cases, truths, seed=seeds[0])
    if row_id != "shuffled":
        found: Sounds = {}
        for case in cases:
            for seed in seeds:
                sound = rival(row_id, case, truths[case.id], seed=seed)
                assert sound is not None
                found[case.id, seed] = sound
        return found
    shuffled: Sounds = {}
    for seed in seeds:
        others = strangers([case.group for case in cases], seed=seed)
        for case, other in zip(cases, others, strict=True):
            if other is None:
                return "all clips are of one source"
            shuffled[case.id, seed] = _of_other(case, cases[other], truths)
    return shuffled


def other_takes(
    cases: Sequence[Case], truths: Mapping[str, Heard], *, seed: int
) -> Sounds | str:
    """For clips of AIST: the sound of the same music, danced by somebody else."""
    named = {case.id: performance_of(case.group) for case in cases}
    found: Sounds = {}
    for case in cases:
        ours = named[case.id]
        for other in cases:
            theirs = named[other.id]
            if ours and theirs and ours[0] == theirs[0] and ours != theirs:
                found[case.id, seed] = _of_other(case, other, truths)
                break
    return found or "no two clips are known to be of one piece of music"


def _of_other(case: Case, other: Case, truths: Mapping[str, Heard]) -> Recorded:
    assert other.reference is not None
    return Recorded(path=other.reference.path, most_samples=truths[case.id].n_samples)


def _differences(rows: Sequence[Row], against: str) -> dict[str, dict[str, Difference]]:
    base = next((row for row in rows if row.id == against), None)
    if base is None:
        return {}
    found: dict[str, dict[str, Difference]] = {}
    for row in rows:
        both = [clip for clip in row.clips if clip in set(base.clips)]
        ours = [row.clips.index(clip) for clip in both]
        theirs = [base.clips.index(clip) for clip in both]
        for figure in COMPARED:
            parts = PARTS.get(figure, (figure,))
            if row is base or not all(
                part in row.values and part in base.values for part in parts
            ):
                continue
            difference = compared(
                tuple(row.values[part][ours] for part in parts),
                tuple(base.values[part][theirs] for part in parts),
                [row.groups[k] for k in ours],
                figure,
            )
            if difference is not None:
                found.setdefault(row.id, {})[figure] = difference
    return found
