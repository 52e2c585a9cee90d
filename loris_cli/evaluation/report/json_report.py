"""The result of a benchmark as JSON: a contract, so names and units do not change.

All scores are from 0 to 1, but for ``f1_corrected``, which is below 0 where a row is worse than
chance, and those of ``quality``, whose names tell the unit. What could not be had is null or
absent, never 0.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from loris_cli.audio.onsets import DETECTOR, HOP, WINDOW_S
from loris_cli.evaluation.metrics.loris_scores import Summary
from loris_cli.evaluation.metrics.sync import ALIGN_SIGMA_S, AV_WINDOW_S
from loris_cli.evaluation.report.provenance import versions
from loris_cli.evaluation.runner.ablation_layouts import Layout
from loris_cli.evaluation.runner.clips import digest
from loris_cli.evaluation.runner.paper_tables import methods_of
from loris_cli.evaluation.runner.run import Result
from loris_cli.evaluation.runner.scores import Row, clip_rows

SCHEMA = 1
OFFICIAL = ("BCS", "CSD", "BHS", "HSD", "F1")


def as_json(
    result: Result,
    *,
    settings: dict[str, Any],
    quality: Mapping[str, dict[str, float]] | None = None,
) -> dict[str, Any]:
    """Everything that a run tells, as plain values.

    Args:
        result: of the run.
        settings: how it was asked for.
        quality: figures by row, if they were wanted; in their own units.
    """
    plan = result.plan
    protocol = plan.ears.protocol
    published = methods_of(plan.title)
    return {
        "schema": SCHEMA,
        "protocol": protocol.id,
        "split": plan.title,
        "data": {
            "hash": digest([(name, heard.key) for name, heard in result.truths.items()])
            if result.truths
            else None,
            "n": len(result.cases),
            "sources": len({case.group for case in result.cases}),
            "made_up": any(case.made_up for case in result.cases),
            "skipped": [asdict(one) for one in result.skipped],
        },
        "rows": [
            _row(result, row, published)
            | ({} if quality is None else {"quality": quality.get(row.id)})
            for row in result.rows
        ],
        "left_out": dict(result.left_out),
        "published": published,
        "ablations": [_layout(result, layout) for layout in plan.layouts],
        "against": plan.against,
        "parameters": {
            "official": {**protocol.detector, "hop": 512},
            "strict": {
                "detector": {**DETECTOR, "hop": HOP},
                "onset_window_s": WINDOW_S,
                "beat_window_s": 0.07,
                "align_sigma_s": ALIGN_SIGMA_S,
                "av_window_s": AV_WINDOW_S,
                "tracker": plan.ears.tracker,
            }
            if plan.ears.strict
            else None,
            **settings,
        },
        "seeds": list(plan.seeds),
        "versions": versions(),
        "seconds": round(result.seconds, 3),
    }


def clips_as_json(result: Result) -> list[dict[str, Any]]:
    """The values of every clip of every row, and the clips that were skipped."""
    scored = [clip for row in result.rows for clip in clip_rows(row)]
    skipped = [{"row": None, "clip": one.id, "reason": one.reason} for one in result.skipped]
    return [*scored, *skipped]


def scores_of(summary: Summary) -> dict[str, float | None]:
    """The five scores under their published names."""
    return {name: getattr(summary, name.lower()) for name in OFFICIAL}


def _row(result: Result, row: Row, published: Sequence[dict[str, Any]]) -> dict[str, Any]:
    cost = result.costs.get(row.id)
    told: dict[str, Any] = {
        "id": row.id,
        "kind": row.kind,
        "what": row.what,
        "n": len(row.clips),
        "seeds": list(row.seeds),
        "official": None if row.official is None else scores_of(row.official),
        "by_seed": [scores_of(one) for one in row.by_seed],
        "strict": dict(row.strict) or None,
        "intervals": {name: list(interval) for name, interval in row.intervals.items()},
        "n_cut": row.n_cut,
    }
    if row.id in result.differences:
        told["against"] = {
            "id": result.plan.against,
            **{name: asdict(one) for name, one in result.differences[row.id].items()},
        }
    if cost is not None:
        told["cost"] = asdict(cost)
    for maker in result.plan.makers:
        if maker.name == row.id:
            told["settings"] = maker.entrant.settings
    theirs = next((method for method in published if method["id"] == "loris"), None)
    if theirs is not None and row.kind == "model" and row.official is not None:
        ours = scores_of(row.official)
        told["published"] = {
            name: {"value": theirs[name], "difference": _less(ours[name], theirs[name])}
            for name in OFFICIAL
        }
    return told


def _layout(result: Result, layout: Layout) -> dict[str, Any]:
    """A table of the paper: each line ours, or why there is none, and theirs."""
    rows = {row.id: row for row in result.rows}
    lines: list[dict[str, Any]] = []
    for line in layout.lines:
        row = rows.get(line.row or "")
        why = line.lacking or (result.left_out.get(line.row or "") if row is None else None)
        lines.append(
            {
                "name": line.name,
                "row": None if row is None else row.id,
                "n": 0 if row is None else len(row.clips),
                "official": None
                if row is None or row.official is None
                else scores_of(row.official),
                "lacking": why or None,
                "published": None if line.published is None else dict(line.published),
            }
        )
    return {"table": layout.table, "title": layout.title, "lines": lines}


def _less(ours: float | None, theirs: float) -> float | None:
    return None if ours is None else ours - theirs
