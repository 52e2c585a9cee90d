"""JSON report of an evaluation. Field names and units are a stable interface.

All scores are in 0..1, except ``f1_chance_corrected``, which is negative for a system below the
chance level, and those of ``quality``, whose names contain the unit. A missing value is null or
absent, never 0.
"""

import hashlib
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

import loris_cli
from loris_cli.audio.onsets import ONSET_HOP_LENGTH, ONSET_TOLERANCE_S, PEAK_PICKING
from loris_cli.dataset.partitions import label_clusters
from loris_cli.evaluation.metrics import sync
from loris_cli.evaluation.metrics.loris_scores import HOP_SAMPLES, ScoreSummary
from loris_cli.evaluation.runner.audio_analysis import AnalysisConfig, AudioAnalysis
from loris_cli.evaluation.runner.chance import compute_chance_levels
from loris_cli.evaluation.runner.paper_tables import PaperTable, get_published_scores
from loris_cli.evaluation.runner.run import EvaluationResult
from loris_cli.evaluation.runner.scores import SystemScores

REPORT_SCHEMA = 2
OFFICIAL_METRICS = ("BCS", "CSD", "BHS", "HSD", "F1")
CHECKOUT_ROOT = Path(loris_cli.__file__).resolve().parents[1]
"""Root of the git checkout; for an installed package, the site-packages folder."""
REPORTED_PACKAGES = ("librosa", "mir_eval", "numpy", "torch")
"""Packages on which the scores depend."""


def build_report(
    result: EvaluationResult,
    *,
    run_options: dict[str, Any],
    quality_metrics: Mapping[str, dict[str, float]] | None = None,
) -> dict[str, Any]:
    """Build the report of an evaluation run as JSON-serializable values.

    Args:
        result: result of the evaluation run.
        run_options: command line options of the run.
        quality_metrics: quality metrics by system id, if measured, in their own units.
    """
    plan = result.plan
    published = get_published_scores(plan.published_subset or plan.title)
    systems = [_build_system_record(result, system, published) for system in result.systems]
    if quality_metrics is not None:
        for record in systems:
            record["quality"] = quality_metrics.get(record["id"])
    return {
        "schema": REPORT_SCHEMA,
        "protocol": plan.analysis_config.protocol.id,
        "title": plan.title,
        "data": {
            "hash": hash_dataset(result.reference_analyses),
            "n": len(result.clips),
            "sources": len(set(label_clusters([clip.groups for clip in result.clips]))),
            "synthetic": any(clip.is_synthetic for clip in result.clips),
            "rhythm_from_reference": sum(clip.rhythm_from_reference for clip in result.clips),
            "skipped": [asdict(clip) for clip in result.skipped],
        },
        "systems": systems,
        "unavailable": dict(result.unavailable),
        "published": published,
        "not_comparable": _explain_not_comparable(result) if published else None,
        "paper_tables": [_build_table_record(result, table) for table in plan.paper_tables],
        "compare_to": plan.compare_to,
        "parameters": {**_build_parameters(plan.analysis_config), **run_options},
        "seeds": list(plan.seeds),
        "versions": collect_versions(),
        "elapsed_s": round(result.elapsed_s, 3),
    }


def build_clip_records(result: EvaluationResult) -> list[dict[str, Any]]:
    """Build records of the values of every clip and system, and of the skipped clips."""
    records: list[dict[str, Any]] = []
    from_reference = {clip.id for clip in result.clips if clip.rhythm_from_reference}
    for system in result.systems:
        groups = system.source_groups
        for k, clip_id in enumerate(system.clip_ids):
            values = {name: float(array[k]) for name, array in system.clip_values.items()}
            known = {name: None if np.isnan(x) else x for name, x in values.items()}
            ids = {"system": system.id, "clip": clip_id, "source_group": groups[k]}
            mark = {"rhythm_from_reference": clip_id in from_reference}
            records.append({**ids, **mark, **known})
    for clip in result.skipped:
        records.append({"system": None, "clip": clip.clip_id, "reason": clip.reason})
    return records


def hash_dataset(analyses: Mapping[str, AudioAnalysis]) -> str | None:
    """Return a hash of the ids and samples of the references, 12 hex digits; None if empty."""
    lines = (f"{name}\t{audio.samples_sha256}\n" for name, audio in sorted(analyses.items()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:12] if analyses else None


@cache
def collect_versions() -> dict[str, Any]:
    """Return the versions of loris, Python and the packages on which the scores depend.

    Returns:
        ``loris``, version; ``commit``, full hash, and ``changed``, whether tracked files are
        modified, both None outside a git checkout; versions of ``python`` and
        `REPORTED_PACKAGES`.
    """
    commit, changed = read_git_state(CHECKOUT_ROOT)
    return {
        "loris": loris_cli.__version__,
        "commit": commit,
        "changed": changed,
        "python": platform.python_version(),
        **{name: version(name) for name in REPORTED_PACKAGES},
    }


def read_git_state(root: Path) -> tuple[str | None, bool | None]:
    """Return the commit of a git checkout, and whether tracked files are modified.

    Args:
        root: folder that must contain ``.git``. Parent folders are not searched, because an
            installed package may be inside the checkout of another project.

    Returns:
        commit hash and modification flag; None and None without a git checkout.
    """
    if not (root / ".git").exists():
        return None, None

    def run_git(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
        return run.stdout.strip()

    try:
        commit = run_git("rev-parse", "HEAD")
        changed = run_git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):  # no git, or a broken checkout
        return None, None
    return commit, bool(changed)


def _build_parameters(config: AnalysisConfig) -> dict[str, Any]:
    strict = {
        "onset_detector": {**PEAK_PICKING, "hop": ONSET_HOP_LENGTH},
        "onset_tolerance_s": ONSET_TOLERANCE_S,
        "beat_tolerance_s": sync.BEAT_TOLERANCE_S,
        "alignment_sigma_s": sync.ALIGN_SIGMA_S,
        "av_align_tolerance_s": sync.AV_ALIGN_TOLERANCE_S,
        "beat_tracker": config.beat_tracker,
    }
    return {
        "official": {**config.protocol.peak_picking_args, "hop": HOP_SAMPLES},
        "strict": strict if config.strict_metrics else None,
    }


def _build_system_record(
    result: EvaluationResult, system: SystemScores, published_scores: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    official = _to_dict(system.official)
    record: dict[str, Any] = {
        "id": system.id,
        "category": system.category,
        "description": system.description,
        "n": len(system.clip_ids),
        "seeds": list(system.seeds),
        "official": official,
        "official_by_seed": [_to_dict(summary) for summary in system.official_by_seed],
        "strict": dict(system.strict) or None,
        "intervals": {name: list(interval) for name, interval in system.intervals.items()},
        "n_truncated_takes": system.n_truncated_takes,
    }
    if system.id in result.differences:
        differences = result.differences[system.id]
        record["comparison"] = {
            "compare_to": result.plan.compare_to,
            **{name: asdict(difference) for name, difference in differences.items()},
        }
    if system.chance_differences:
        levels = compute_chance_levels(system.chance_values)
        record["chance"] = {
            name: {"level": levels[name], **asdict(difference)}
            for name, difference in system.chance_differences.items()
        }
    if system.cost is not None:
        record["cost"] = asdict(system.cost)
    if system.generation_settings is not None:
        record["generation_settings"] = system.generation_settings
    paper = next((row for row in published_scores if row["id"] == "loris"), None)
    is_complete = result.plan.official_test_ids == {*system.clip_ids}
    is_comparable = is_complete and _explain_not_comparable(result) is None
    if paper and is_comparable and system.category == "model" and official is not None:
        record["published"] = {
            name: {"value": paper[name], "difference": None if x is None else x - paper[name]}
            for name, x in official.items()
        }
    return record


def _explain_not_comparable(result: EvaluationResult) -> str | None:
    """Return why the scores cannot be compared with published ones; None if they can."""
    if not result.plan.official_test_ids:
        return "the data set has no official test partition"
    if {clip.id for clip in result.clips} != result.plan.official_test_ids:
        return "the clips are not those of the official test partition (--partition official)"
    if any(clip.is_synthetic for clip in result.clips):
        return "the clips are synthetic"
    if any(c.manifest_clip and c.manifest_clip.partition == "train" for c in result.clips):
        return "models train on some of these clips, which are in the train partition here"
    if any(clip.rhythm_from_reference for clip in result.clips):
        return "the rhythm is that of the reference audio"
    return None


def _build_table_record(result: EvaluationResult, table: PaperTable) -> dict[str, Any]:
    """Build the record of a paper table: per line, system or missing reason, and paper."""
    lines = []
    for line in table.lines:
        system_id, published = line.system_id or "", line.published_scores
        system = result.get_system(system_id)
        reason = result.unavailable.get(system_id) if system is None else None
        record = {
            "name": line.name,
            "system": None if system is None else system.id,
            "n": 0 if system is None else len(system.clip_ids),
            "official": None if system is None else _to_dict(system.official),
            "missing_reason": line.missing_reason or reason,
            "published": None if published is None else dict(published),
        }
        lines.append(record)
    return {"number": table.number, "title": table.title, "lines": lines}


def _to_dict(summary: ScoreSummary | None) -> dict[str, float | None] | None:
    """Return the five official scores by their published names."""
    if summary is None:
        return None
    return {name: getattr(summary, name.lower()) for name in OFFICIAL_METRICS}
