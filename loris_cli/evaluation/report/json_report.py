"""The result of a benchmark as JSON: a contract, so names and units do not change.

All scores are from 0 to 1, but for ``f1_corrected``, which is below 0 where a row is worse than
chance, and those of ``quality``, whose names tell the unit. What could not be had is null or
absent, never 0.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from loris_cli.audio.onsets import ONSET_HOP_LENGTH, ONSET_WINDOW_S, PEAK_PICKING
from loris_cli.evaluation.metrics.loris_scores import ScoreSummary
from loris_cli.evaluation.metrics.sync import ALIGN_SIGMA_S, AV_ALIGN_WINDOW_S
from loris_cli.evaluation.report.provenance import collect_versions
from loris_cli.evaluation.runner.ablation_layouts import PaperTable
from loris_cli.evaluation.runner.clips import hash_dataset
from loris_cli.evaluation.runner.paper_tables import get_published_scores
from loris_cli.evaluation.runner.run import EvaluationResult
from loris_cli.evaluation.runner.scores import SystemScores, build_clip_scores

REPORT_SCHEMA = 1
OFFICIAL_METRICS = ("BCS", "CSD", "BHS", "HSD", "F1")


def build_report(
    result: EvaluationResult,
    *,
    run_options: dict[str, Any],
    quality_metrics: Mapping[str, dict[str, float]] | None = None,
) -> dict[str, Any]:
    """Everything that a run tells, as plain values.

    Args:
        result: of the run.
        run_options: how it was asked for.
        quality_metrics: figures by row, if they were wanted; in their own units.
    """
    plan = result.plan
    protocol = plan.analysis_config.protocol
    published = get_published_scores(plan.title)
    return {
        "schema": REPORT_SCHEMA,
        "protocol": protocol.id,
        "split": plan.title,
        "data": {
            "hash": hash_dataset(
                [
                    (name, heard.samples_sha256)
                    for name, heard in result.reference_analyses.items()
                ]
            )
            if result.reference_analyses
            else None,
            "n": len(result.clips),
            "sources": len({case.source_group for case in result.clips}),
            "made_up": any(case.is_synthetic for case in result.clips),
            "skipped": [asdict(one) for one in result.skipped],
        },
        "rows": [
            _build_system_record(result, row, published)
            | ({} if quality_metrics is None else {"quality": quality_metrics.get(row.id)})
            for row in result.systems
        ],
        "left_out": dict(result.unavailable),
        "published": published,
        "ablations": [
            _build_paper_table_record(result, layout) for layout in plan.paper_tables
        ],
        "against": plan.compare_to,
        "parameters": {
            "official": {**protocol.peak_picking_args, "hop": 512},
            "strict": {
                "detector": {**PEAK_PICKING, "hop": ONSET_HOP_LENGTH},
                "onset_window_s": ONSET_WINDOW_S,
                "beat_window_s": 0.07,
                "align_sigma_s": ALIGN_SIGMA_S,
                "av_window_s": AV_ALIGN_WINDOW_S,
                "tracker": plan.analysis_config.beat_tracker,
            }
            if plan.analysis_config.strict_metrics
            else None,
            **run_options,
        },
        "seeds": list(plan.seeds),
        "versions": collect_versions(),
        "seconds": round(result.elapsed_s, 3),
    }


def build_clip_records(result: EvaluationResult) -> list[dict[str, Any]]:
    """The values of every clip of every row, and the clips that were skipped."""
    scored = [clip for row in result.systems for clip in build_clip_scores(row)]
    skipped = [
        {"row": None, "clip": one.clip_id, "reason": one.reason} for one in result.skipped
    ]
    return [*scored, *skipped]


def summary_to_dict(summary: ScoreSummary) -> dict[str, float | None]:
    """The five scores under their published names."""
    return {name: getattr(summary, name.lower()) for name in OFFICIAL_METRICS}


def _build_system_record(
    result: EvaluationResult, system: SystemScores, published_scores: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    cost = result.generation_costs.get(system.id)
    told: dict[str, Any] = {
        "id": system.id,
        "kind": system.category,
        "what": system.description,
        "n": len(system.clip_ids),
        "seeds": list(system.seeds),
        "official": None if system.official is None else summary_to_dict(system.official),
        "by_seed": [summary_to_dict(one) for one in system.official_by_seed],
        "strict": dict(system.strict) or None,
        "intervals": {name: list(interval) for name, interval in system.intervals.items()},
        "n_cut": system.n_truncated_takes,
    }
    if system.id in result.differences:
        told["against"] = {
            "id": result.plan.compare_to,
            **{name: asdict(one) for name, one in result.differences[system.id].items()},
        }
    if cost is not None:
        told["cost"] = asdict(cost)
    for maker in result.plan.system_runners:
        if maker.name == system.id:
            told["settings"] = maker.system.generation_settings
    theirs = next((method for method in published_scores if method["id"] == "loris"), None)
    if theirs is not None and system.category == "model" and system.official is not None:
        ours = summary_to_dict(system.official)
        told["published"] = {
            name: {
                "value": theirs[name],
                "difference": _subtract_or_none(ours[name], theirs[name]),
            }
            for name in OFFICIAL_METRICS
        }
    return told


def _build_paper_table_record(
    result: EvaluationResult, paper_table: PaperTable
) -> dict[str, Any]:
    """A table of the paper: each line ours, or why there is none, and theirs."""
    rows = {row.id: row for row in result.systems}
    lines: list[dict[str, Any]] = []
    for line in paper_table.lines:
        row = rows.get(line.system_id or "")
        why = line.missing_reason or (
            result.unavailable.get(line.system_id or "") if row is None else None
        )
        lines.append(
            {
                "name": line.name,
                "row": None if row is None else row.id,
                "n": 0 if row is None else len(row.clip_ids),
                "official": None
                if row is None or row.official is None
                else summary_to_dict(row.official),
                "lacking": why or None,
                "published": None
                if line.published_scores is None
                else dict(line.published_scores),
            }
        )
    return {"table": paper_table.number, "title": paper_table.title, "lines": lines}


def _subtract_or_none(our_score: float | None, published_score: float) -> float | None:
    return None if our_score is None else our_score - published_score
