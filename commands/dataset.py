"""What ``loris prep`` says: of videos as they are done, and of a data set that is there."""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from .console import ConsoleReporter, print_error

if TYPE_CHECKING:
    from loris_cli.dataset.records import Record


def prepare_and_report(
    data_dir: Path,
    n_videos: int,
    record_stream: Generator[Record, None, None],
    seed: int,
    reporter: ConsoleReporter,
    *,
    json_output: bool,
) -> None:
    """Work through videos, tell of each, and write the manifest whatever ends the run."""
    from loris_cli.dataset.build_manifest import build_manifest
    from loris_cli.dataset.records import RECORDS_FOLDER

    failed = []
    try:
        with (
            reporter.stage("videos", n_videos) as advance,
            closing(record_stream),
        ):
            for record in record_stream:
                advance(1)
                _print_record(record, reporter, json_output=json_output)
                if record["status"] == "failed":
                    failed.append(record)
    finally:
        if (data_dir / RECORDS_FOLDER).is_dir():
            rows = build_manifest(data_dir, seed=seed)
            reporter.info(f"{data_dir}: {len(rows)} clips in the manifest")
    if failed:
        if n_videos == 1:
            raise typer.Exit(failed[0]["exit_code"])
        reporter.info(f"{len(failed)} of {n_videos} videos failed")
        raise typer.Exit(1)


def _print_record(record: Record, reporter: ConsoleReporter, *, json_output: bool) -> None:
    name = record["source"]["name"]
    if record["status"] == "failed":
        text = record["error"] if name in record["error"] else f"{name}: {record['error']}"
        print_error(text, hint=record["hint"])
    for warning in record["warnings"] if "reused" not in record else ():
        reporter.warn(warning if name in warning else f"{name}: {warning}")
    if json_output:
        reporter.print_result(json.dumps(record))
    elif record["status"] == "done":
        aside = [clip for clip in record["clips"] if clip["rejection_reasons"]]
        why = sorted(
            {
                *record["rejection_reasons"],
                *(reason for clip in aside for reason in clip["rejection_reasons"]),
            }
        )
        told = f"{name}: {len(record['clips']) - len(aside)} clips"
        told += f", {len(aside)} set aside" if aside else ""
        told += f" ({', '.join(why)})" if why else ""
        reporter.print_result(told + (", made before" if "reused" in record else ""))


def print_problems(data_dir: Path, reporter: ConsoleReporter) -> None:
    """Tell what is wrong with a data set; exit code 1 if anything is."""
    from loris_cli.dataset.inspection import find_problems
    from loris_cli.dataset.manifest import read_manifest

    n_problems = 0
    for problem in find_problems(data_dir):
        reporter.print_result(problem)
        n_problems += 1
    n_clips = len(read_manifest(data_dir))
    if n_problems:
        reporter.info(f"{n_problems} problems in {n_clips} clips: prepare their videos again")
        raise typer.Exit(1)
    reporter.print_result(f"{n_clips} clips, all whole")


def print_stats(data_dir: Path, reporter: ConsoleReporter, *, json_output: bool) -> None:
    """Tell what a data set holds, a line a subset, beside the paper's counts."""
    from loris_cli.dataset.inspection import compute_subset_stats as stats_of

    found = stats_of(data_dir)
    if json_output:
        for row in found:
            reporter.print_result(json.dumps(asdict(row)))
        return
    reporter.print_result(
        "subset  content          length   clips  train/val/test      hours"
        "  sources  poses  paper"
    )
    for row in found:
        splits = "/".join(
            str(row.clips_per_partition[name]) for name in ("train", "val", "test")
        )
        paper = str(row.n_paper_clips or "-")
        made_up = f"  {row.n_synthetic} made up" if row.n_synthetic else ""
        reporter.print_result(
            f"{row.subset:<7} {row.activity:<15} {row.median_duration_s:>5.4g} s {row.n_clips:>7}"
            f"  {splits:<16} {row.total_hours:>8.2f} {row.n_sources:>8} {row.n_with_poses:>6} {paper:>6}"
            + made_up
        )
    hours = sum(row.total_hours for row in found)
    reporter.print_result(f"all: {sum(row.n_clips for row in found)} clips, {hours:.2f} h")


def print_review(
    data_dir: Path,
    accept_file: Path | None,
    reject_file: Path | None,
    seed: int,
    reporter: ConsoleReporter,
    *,
    json_output: bool,
) -> None:
    """Note a person's decisions, then list the clips that were set aside or decided on."""
    from loris_cli.dataset.build_manifest import build_manifest
    from loris_cli.dataset.review import (
        DROP,
        KEEP,
        list_review_items,
        read_clip_ids,
        save_decisions,
    )

    for decision, listed in ((KEEP, accept_file), (DROP, reject_file)):
        if listed is not None:
            save_decisions(data_dir, decision, read_clip_ids(listed))
    if accept_file is not None or reject_file is not None:
        rows = build_manifest(data_dir, seed=seed)
        reporter.info(f"{data_dir}: {len(rows)} clips in the manifest")
    for clip in list_review_items(data_dir):
        if json_output:
            reporter.print_result(json.dumps(asdict(clip)))
        else:
            state = "accepted" if clip.accepted else "rejected"
            reporter.print_result(
                f"{clip.id}  {state}  {clip.source} at {clip.start_s:g} s: "
                + ", ".join(clip.reasons)
            )
