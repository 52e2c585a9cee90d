"""Scores of one row: all its clips, all its seeds, against the truth.

    what was heard in the truth, in the takes -> a value a clip and seed -> means, intervals

Seeds of a clip are averaged first; a clip that lacks a take is left out of its row.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loris_cli.evaluation.metrics.loris_scores import Protocol, Summary, f1, score, summary
from loris_cli.evaluation.metrics.significance import Resampler, by_chance, joined
from loris_cli.evaluation.metrics.sync import FIGURES, against_motion, against_truth
from loris_cli.evaluation.runner.audio_analysis import Heard
from loris_cli.evaluation.runner.bounds import OF_OTHERS, Kind
from loris_cli.evaluation.runner.clips import Case

Array = NDArray[np.float64]
Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One method on all clips."""

    id: str
    kind: Kind
    what: str
    seeds: tuple[int, ...]
    clips: tuple[str, ...]
    """The clips that were scored."""
    groups: tuple[str, ...]
    """Their sources."""
    official: Summary | None
    """Mean over seeds of the scores of each; None where no clip has a true sound."""
    by_seed: tuple[Summary, ...]
    strict: Mapping[str, float]
    """`strict.FIGURES` where they could be had; ``f1_by_chance``, ``f1_corrected``."""
    intervals: Mapping[str, Interval]
    """95 %, over sources, of BCS, BHS, F1 and the strict figures."""
    values: Mapping[str, Array]
    """Of each clip, mean over seeds, NaN where it has none; ``(clips,)`` each."""
    n_cut: int
    """Takes that were longer than the truth, and were cut."""


def score_row(
    row_id: str,
    kind: Kind,
    what: str,
    cases: Sequence[Case],
    truths: Mapping[str, Heard],
    takes: Mapping[tuple[str, int], Heard],
    *,
    seeds: Sequence[int],
    protocol: Protocol,
    strict: bool,
) -> Row | None:
    """All figures of one row.

    Args:
        row_id: its stable name.
        kind: what it is in the comparison.
        what: the same in words.
        cases: the clips.
        truths: what was heard in their true sounds, by clip.
        takes: what was heard in the row's sounds, by clip and seed.
        seeds: of the takes.
        protocol: of the official scores.
        strict: whether fine onsets and beats were listened for.

    Returns:
        the row; None if no clip has all its takes.
    """
    whole = [case for case in cases if all((case.id, seed) in takes for seed in seeds)]
    if not whole:
        return None
    groups = [case.group for case in whole]
    true = [truths.get(case.id) for case in whole]
    pairs = [
        [
            None if t is None else score(t.flags, takes[case.id, seed].flags, protocol)
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
    if strict:
        figures = [
            [
                _strict(case, t, takes[case.id, seed])
                for case, t in zip(whole, true, strict=True)
            ]
            for seed in seeds
        ]
        for name in FIGURES:
            table = np.array([[clip.get(name, np.nan) for clip in s] for s in figures])
            if not np.isnan(table).all():
                values[name] = table
    averaged = {name: table.mean(axis=0) for name, table in values.items()}
    by_seed = [
        summary(scored, protocol)
        for s in pairs
        if (scored := [pair for pair in s if pair is not None])
    ]
    means = {name: _mean(averaged[name]) for name in averaged if name in FIGURES}
    if by_seed and not protocol.coverage_is_ratio and row_id not in OF_OTHERS:
        means |= _chance(whole, truths, takes, seeds, by_seed)
    return Row(
        id=row_id,
        kind=kind,
        what=what,
        seeds=tuple(seeds),
        clips=tuple(case.id for case in whole),
        groups=tuple(groups),
        official=_mean_summary(by_seed) if by_seed else None,
        by_seed=tuple(by_seed),
        strict=means,
        intervals=_intervals(averaged, groups, protocol),
        values=averaged,
        n_cut=sum(takes[case.id, seed].n_cut > 0 for case in whole for seed in seeds),
    )


def clip_rows(row: Row) -> list[dict[str, object]]:
    """The values of each clip, as plain rows."""
    return [
        {
            "row": row.id,
            "clip": clip,
            "source": group,
            **{
                name: None if np.isnan(value) else float(value)
                for name, value in ((name, row.values[name][k]) for name in row.values)
            },
        }
        for k, (clip, group) in enumerate(zip(row.clips, row.groups, strict=True))
    ]


def _strict(case: Case, true: Heard | None, made: Heard) -> dict[str, float]:
    until_s = made.duration_s
    events = made.events(until_s)
    figures = {} if true is None else against_truth(true.events(until_s), events)
    if case.peaks_s is not None:
        peaks_s = np.array(case.peaks_s, dtype=np.float64)
        figures |= against_motion(peaks_s[peaks_s < until_s], events.onsets_s)
    return figures


def _chance(
    cases: Sequence[Case],
    truths: Mapping[str, Heard],
    takes: Mapping[tuple[str, int], Heard],
    seeds: Sequence[int],
    by_seed: Sequence[Summary],
) -> dict[str, float]:
    """F1 against the truths of other sources, and the F1 that is left beyond it."""
    known = [case for case in cases if case.id in truths]
    true = [truths[case.id].flags for case in known]
    groups = [case.group for case in known]
    by_others = [
        by_chance([takes[case.id, seed].flags for case in known], true, groups)
        for seed in seeds
    ]
    chance = [f1(*found) for found in by_others if found is not None]
    if not chance:
        return {}
    expected = float(np.mean(chance))
    seen = float(np.mean([one.f1 for one in by_seed if one.f1 is not None]))
    # Where chance is perfect nothing is left to be shown.
    corrected = (seen - expected) / (1 - expected) if expected < 1 else 0.0
    return {"f1_by_chance": expected, "f1_corrected": corrected}


def _intervals(
    values: Mapping[str, Array], groups: list[str], protocol: Protocol
) -> dict[str, Interval]:
    resampler = Resampler(groups)
    means = {name: resampler.means(table) for name, table in values.items()}
    if not protocol.coverage_is_ratio:
        means["F1"] = joined([means["BCS"], means["BHS"]], "F1")
    found = {name: resampler.interval(drawn) for name, drawn in means.items()}
    return {name: interval for name, interval in found.items() if interval is not None}


def _mean(values: Array) -> float:
    return float(values[~np.isnan(values)].mean())


def _mean_summary(summaries: Sequence[Summary]) -> Summary:
    """Each score averaged over seeds; of one seed, itself to the last digit."""
    if len(summaries) == 1:
        return summaries[0]

    def mean(name: str) -> float | None:
        found = [getattr(one, name) for one in summaries]
        return None if None in found else float(np.mean(found))

    bcs, bhs = mean("bcs"), mean("bhs")
    assert bcs is not None
    assert bhs is not None
    return Summary(bcs=bcs, csd=mean("csd"), bhs=bhs, hsd=mean("hsd"), f1=mean("f1"))
