"""``loris prep``: from raw videos to a data set that ``train`` reads."""

import json
import os
from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from loris_cli.config import GENRES
from loris_cli.errors import UsageError

from .console import Reporter, print_error
from .options import Device, Jobs, JsonOutput, Quiet, Seed, Verbose

if TYPE_CHECKING:
    from loris_cli.dataset.records import Record


def prep(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(metavar="INPUT...", help="Videos, folders, or @list.txt."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DATA",
            help="Data set to make or to add to. By default LORIS_DATA, else the platform's"
            " data folder.",
        ),
    ] = None,
    kind: Annotated[
        Literal["dance", "floor", "skate"] | None,
        typer.Option(
            help="What the videos show. By default their names tell: those of AIST++, FineGym,"
            " FisV and FS1000 do."
        ),
    ] = None,
    genre: Annotated[
        str | None, typer.Option(help="Style of dances whose names do not tell.")
    ] = None,
    trim: Annotated[
        float | None,
        typer.Option(
            metavar="S",
            min=0.0,
            help="Left out at both ends; by default 5 s of sport, none of dance.",
        ),
    ] = None,
    separator: Annotated[
        Literal["torch", "none"],
        typer.Option(help="Who takes voices out: Spleeter's 2stems in torch, or nobody."),
    ] = "torch",
    accompaniment_rate: Annotated[
        Literal["16000", "22050"],
        typer.Option(help="Rate the music goes through; the paper's is 16000."),
    ] = "22050",
    poses: Annotated[
        Literal["embedded", "beside", "none"],
        typer.Option(
            help="Who finds the body: the embedded estimator, STEM.poses.npz beside each"
            " video, or nobody."
        ),
    ] = "embedded",
    filters: Annotated[
        bool, typer.Option("--filters/--no-filters", help="Set unfit clips aside.")
    ] = True,
    seed: Seed = 0,
    jobs: Jobs = 1,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            help="Work on every N-th video only. By default what SLURM's job array says.",
        ),
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try again what failed before.")
    ] = False,
    time_limit: Annotated[
        float, typer.Option(metavar="S", min=1.0, help="A video that takes longer fails.")
    ] = 1800.0,
    memory_limit: Annotated[
        int, typer.Option(metavar="MB", min=512, help="A video that needs more fails.")
    ] = 6144,
    device: Device = "cpu",
    check: Annotated[
        Path | None,
        typer.Option(metavar="DATA", help="Tell what is missing or damaged in a data set."),
    ] = None,
    stats: Annotated[
        Path | None,
        typer.Option(metavar="DATA", help="Tell what a data set holds: table 1 of the paper."),
    ] = None,
    review: Annotated[
        Path | None,
        typer.Option(
            metavar="DATA", help="List the clips set aside, for a second look, and why."
        ),
    ] = None,
    keep: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="With --review: take the clips listed in it back."),
    ] = None,
    drop: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="With --review: set the clips listed in it aside."),
    ] = None,
    release: Annotated[
        Path | None,
        typer.Option(
            "--import",
            metavar="DIR",
            help="Bring a copy of the authors' published data set into --data.",
        ),
    ] = None,
    synthetic: Annotated[
        Path | None,
        typer.Option(metavar="DATA", help="Make a stand-in for the paper's data set."),
    ] = None,
    clips: Annotated[
        int,
        typer.Option(min=1, help="With --synthetic: of each subset; two a split at least."),
    ] = 40,
    json_output: JsonOutput = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Make clips of 25 and 50 s with music, poses and rhythm, and their manifest.

    What is there already is left as it is, so the same command goes on after a stop, and
    several may work on one folder. A video that cannot be used fails alone.

    Examples:
        loris prep videos/ --data DATA --jobs 4

        loris prep skating/ --kind skate --data DATA --shard 0/16

        loris prep --check DATA

        loris prep --review DATA --keep good.txt

        loris prep --synthetic DATA --clips 4 --jobs 2

        loris prep --import LORIS/ --data DATA
    """
    reporter = Reporter(quiet=quiet, verbose=verbose)
    modes = {
        "--check": check,
        "--stats": stats,
        "--review": review,
        "--synthetic": synthetic,
        "--import": release,
    }
    chosen = [name for name, folder in modes.items() if folder is not None]
    if len(chosen) + bool(inputs) > 1:
        raise UsageError(
            f"{chosen[0]} goes without videos and without the other modes", hint="leave one out"
        )
    if (keep or drop) and review is None:
        raise UsageError("--keep and --drop go with --review", hint="--review DATA --keep FILE")
    if genre is not None and genre not in GENRES:
        raise UsageError(f"no genre {genre!r}", hint="one of " + ", ".join(GENRES))
    if check is not None:
        return _check(check, reporter)
    if stats is not None:
        return _stats(stats, reporter, json_output=json_output)
    if review is not None:
        return _review(review, keep, drop, seed, reporter, json_output=json_output)

    from loris_cli.config import data_home
    from loris_cli.dataset.many import Limits, VideoTask, prepare_all, prepare_task, shard_of
    from loris_cli.dataset.prep import Work
    from loris_cli.dataset.recipe import Settings
    from loris_cli.dataset.released import find, import_clip, unpack_all
    from loris_cli.dataset.standin import make_and_prepare, stand_ins
    from loris_cli.inputs import expand, folder_of

    limits = Limits(seconds=time_limit, memory_mb=memory_limit)
    ours = shard_of(shard, os.environ)
    place = data_home(data) if synthetic is None else synthetic
    if release is not None:
        with folder_of(place):
            unpack_all(release, place)
        found = ours.of(find(release, place), key=lambda task: str(task.video))
        records = prepare_all(found, import_clip, jobs=jobs, limits=limits)
        n_videos = len(found)
    elif synthetic is not None:
        made_up = ours.of(stand_ins(place, clips, seed=seed), key=lambda task: str(task.video))
        records = prepare_all(made_up, make_and_prepare, jobs=jobs, limits=limits)
        n_videos = len(made_up)
    else:
        settings = Settings(
            kind=kind,
            genre=genre,
            trim_s=trim,
            separator=separator,
            accompaniment_hz=int(accompaniment_rate),
            poses=poses,
            filters=filters,
        )
        work = Work(data=place, settings=settings, device=device, retry_failed=retry_failed)
        videos = ours.of(expand(inputs or []), key=str)
        tasks = [VideoTask(video=video, work=work) for video in videos]
        records = prepare_all(tasks, prepare_task, jobs=jobs, limits=limits)
        n_videos = len(tasks)
    with folder_of(place):
        _run(place, n_videos, records, seed, reporter, json_output=json_output)


def _run(
    data: Path,
    n_videos: int,
    records: "Generator[Record, None, None]",
    seed: int,
    reporter: Reporter,
    *,
    json_output: bool,
) -> None:
    """Work through videos, tell of each, and write the manifest whatever ends the run."""
    from loris_cli.dataset.gather import gather
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


def _tell(record: "Record", reporter: Reporter, *, json_output: bool) -> None:
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


def _check(data: Path, reporter: Reporter) -> None:
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


def _stats(data: Path, reporter: Reporter, *, json_output: bool) -> None:
    from dataclasses import asdict

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


def _review(
    data: Path,
    keep: Path | None,
    drop: Path | None,
    seed: int,
    reporter: Reporter,
    *,
    json_output: bool,
) -> None:
    from dataclasses import asdict

    from loris_cli.dataset.gather import DROP, KEEP, decide, gather, read_ids
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
