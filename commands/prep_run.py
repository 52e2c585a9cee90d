"""Preparation loop of ``loris prep``, ``loris dataset import`` and ``synthesize``."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from .console import ConsoleReporter
from .input_loop import print_input_error

if TYPE_CHECKING:
    from loris_cli.dataset.prepare_video import PrepTask
    from loris_cli.dataset.prepare_videos import WorkerOptions
    from loris_cli.dataset.records import Record


@dataclass(frozen=True, kw_only=True)
class PrepRun:
    """Options of one run that do not affect how a source is prepared."""

    seed: int
    """Random seed of the partitions."""
    shard: str | None
    """``I/N``; None selects the task of the SLURM job array, or all sources."""
    json_output: bool
    workers: WorkerOptions


def prepare_and_report(
    tasks: Sequence[PrepTask], data_dir: Path, run: PrepRun, reporter: ConsoleReporter
) -> None:
    """Prepare the sources of a shard, print each result, and write the manifest at the end.

    Raises:
        typer.Exit: a source failed; exit code 1, or that of the error for a single source.
    """
    from loris_cli.dataset.build_manifest import build_manifest
    from loris_cli.dataset.prepare_videos import prepare_sources
    from loris_cli.dataset.records import RECORDS_FOLDER
    from loris_cli.system.input_paths import output_folder
    from loris_cli.system.shards import resolve_shard

    shard = resolve_shard(run.shard, os.environ)
    tasks = shard.select(tasks, key=lambda task: str(task.source_path))
    failed = []
    with output_folder(data_dir):
        records = prepare_sources(tasks, run.workers)
        try:
            with reporter.stage("videos", len(tasks)) as advance, closing(records):
                for record in records:
                    advance(1)
                    _print_record(record, reporter, json_output=run.json_output)
                    if record["status"] == "failed":
                        failed.append(record)
        finally:
            if (data_dir / RECORDS_FOLDER).is_dir():
                rows = build_manifest(data_dir, seed=run.seed)
                reporter.info(f"{data_dir}: {len(rows)} clips in the manifest")
                _print_copies(rows, reporter)
    if failed:
        if len(tasks) == 1:
            raise typer.Exit(failed[0]["exit_code"])
        reporter.info(f"{len(failed)} of {len(tasks)} videos failed")
        raise typer.Exit(1)


def _print_copies(rows: Sequence[Record], reporter: ConsoleReporter) -> None:
    """Print which videos are copies of each other: they count as one source."""
    videos: defaultdict[str, set[str]] = defaultdict(set)
    for row in rows:
        for group in row["groups"]:
            if group.startswith("copy:"):
                videos[group].add(row["source"])
    for names in videos.values():
        if len(names) > 1:
            listed = ", ".join(sorted(names))
            reporter.info(f"copies of one video, kept in one partition: {listed}")


def _print_record(record: Record, reporter: ConsoleReporter, *, json_output: bool) -> None:
    name = record["source"]["name"]
    if record["status"] == "failed":
        print_input_error(name, record["error"], record["hint"])
    for warning in record["warnings"] if "reused" not in record else ():
        reporter.warn(warning if name in warning else f"{name}: {warning}")
    if json_output:
        reporter.print_result(json.dumps(record))
    elif record["status"] == "done":
        rejected = [clip for clip in record["clips"] if clip["rejection_reasons"]]
        reasons = sorted({r for c in [record, *rejected] for r in c["rejection_reasons"]})
        text = f"{name}: {len(record['clips']) - len(rejected)} clips"
        text += f", {len(rejected)} rejected" if rejected else ""
        text += f" ({', '.join(reasons)})" if reasons else ""
        reporter.print_result(text + (", already prepared" if "reused" in record else ""))
