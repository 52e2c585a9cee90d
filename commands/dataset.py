"""What ``loris prep`` says: of videos as they are done, and of a data set that is there."""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from .console import Reporter, print_error

if TYPE_CHECKING:
    from loris_cli.dataset.records import Record


def run(
    data: Path,
    n_videos: int,
    records: Generator[Record, None, None],
    seed: int,
    reporter: Reporter,
    *,
    json_output: bool,
) -> None:
    """Work through videos, tell of each, and write the manifest whatever ends the run."""
    from loris_cli.dataset.build_manifest import gather
    from loris_cli.dataset.records import FOLDER

    failed = []
    try:
        with (
            reporter.stage("videos", n_videos) as advance,
            closing(records),
        ):
            for record in records:
                advance(1)
                _tell(record, reporter, json_output=json_output)
                if record["status"] == "failed":
                    failed.append(record)
    finally:
        if (data / FOLDER).is_dir():
            rows = gather(data, seed=seed)
            reporter.note(f"{data}: {len(rows)} clips in the manifest")
    if failed:
        if n_videos == 1:
            raise typer.Exit(failed[0]["exit_code"])
        reporter.note(f"{len(failed)} of {n_videos} videos failed")
        raise typer.Exit(1)


def _tell(record: Record, reporter: Reporter, *, json_output: bool) -> None:
    name = record["source"]["name"]
    if record["status"] == "failed":
        text = record["error"] if name in record["error"] else f"{name}: {record['error']}"
        print_error(text, hint=record["hint"])
    for warning in record["warnings"] if "known" not in record else ():
        reporter.warn(warning if name in warning else f"{name}: {warning}")
    if json_output:
        reporter.result(json.dumps(record))
    elif record["status"] == "done":
        aside = [clip for clip in record["clips"] if clip["rejected"]]
        why = sorted({*record["rejected"], *(r for clip in aside for r in clip["rejected"])})
        told = f"{name}: {len(record['clips']) - len(aside)} clips"
        told += f", {len(aside)} set aside" if aside else ""
        told += f" ({', '.join(why)})" if why else ""
        reporter.result(told + (", made before" if "known" in record else ""))


def check(data: Path, reporter: Reporter) -> None:
    """Tell what is wrong with a data set; exit code 1 if anything is."""
    from loris_cli.dataset.inspection import problems
    from loris_cli.dataset.manifest import read_manifest

    n_problems = 0
    for problem in problems(data):
        reporter.result(problem)
        n_problems += 1
    n_clips = len(read_manifest(data))
    if n_problems:
        reporter.note(f"{n_problems} problems in {n_clips} clips: prepare their videos again")
        raise typer.Exit(1)
    reporter.result(f"{n_clips} clips, all whole")


def stats(data: Path, reporter: Reporter, *, json_output: bool) -> None:
    """Tell what a data set holds, a line a subset, beside the paper's counts."""
    from loris_cli.dataset.inspection import PAPER_CLIPS
    from loris_cli.dataset.inspection import stats as stats_of

    found = stats_of(data)
    if json_output:
        for row in found:
            reporter.result(json.dumps(asdict(row) | {"paper": PAPER_CLIPS.get(row.subset)}))
        return
    reporter.result(
        "subset  content          length   clips  train/val/test      hours"
        "  sources  poses  paper"
    )
    for row in found:
        splits = "/".join(str(row.by_split[name]) for name in ("train", "val", "test"))
        paper = str(PAPER_CLIPS.get(row.subset, "-"))
        made_up = f"  {row.made_up} made up" if row.made_up else ""
        reporter.result(
            f"{row.subset:<7} {row.content:<15} {row.seconds:>5.4g} s {row.clips:>7}"
            f"  {splits:<16} {row.hours:>8.2f} {row.sources:>8} {row.with_poses:>6} {paper:>6}"
            + made_up
        )
    hours = sum(row.hours for row in found)
    reporter.result(f"all: {sum(row.clips for row in found)} clips, {hours:.2f} h")


def review(
    data: Path,
    keep: Path | None,
    drop: Path | None,
    seed: int,
    reporter: Reporter,
    *,
    json_output: bool,
) -> None:
    """Note a person's decisions, then list the clips that were set aside or decided on."""
    from loris_cli.dataset.build_manifest import DROP, KEEP, decide, gather, read_ids
    from loris_cli.dataset.inspection import review as review_of

    for decision, listed in ((KEEP, keep), (DROP, drop)):
        if listed is not None:
            decide(data, decision, read_ids(listed))
    if keep is not None or drop is not None:
        rows = gather(data, seed=seed)
        reporter.note(f"{data}: {len(rows)} clips in the manifest")
    for clip in review_of(data):
        if json_output:
            reporter.result(json.dumps(asdict(clip)))
        else:
            state = "used" if clip.used else "aside"
            reporter.result(
                f"{clip.id}  {state}  {clip.source} at {clip.start_s:g} s: "
                + ", ".join(clip.reasons)
            )
