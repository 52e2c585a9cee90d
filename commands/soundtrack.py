"""``loris soundtrack``: music for videos, in time with the body."""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from loris_cli.config import GENRES
from loris_cli.errors import UsageError

from .console import Reporter
from .options import (
    Device,
    Jobs,
    JsonOutput,
    Out,
    Overwrite,
    Quiet,
    Seed,
    SkipExisting,
    Verbose,
)


def _genre(name: str | None) -> str | None:
    if name is not None and name not in GENRES:
        raise typer.BadParameter(f"{name!r} is none of {', '.join(GENRES)}")
    return name


def soundtrack(
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="INPUT...", help="Videos, folders, or @list.txt."),
    ],
    out: Out = None,
    model: Annotated[
        str, typer.Option(metavar="NAME|FILE", help="Weights: mini, or a .safetensors file.")
    ] = "mini",
    genre: Annotated[
        str | None,
        typer.Option(callback=_genre, help=f"Style: {', '.join(GENRES)}. Free if not given."),
    ] = None,
    seed: Seed = 0,
    takes: Annotated[int, typer.Option(min=1, help="How many, with seeds one apart.")] = 1,
    steps: Annotated[int, typer.Option(min=2, max=1000, help="Sampling steps.")] = 20,
    guidance: Annotated[
        float, typer.Option(min=0.0, max=100.0, help="How strictly the rhythm is followed.")
    ] = 2.0,
    pose_model: Annotated[
        Literal["blazepose"], typer.Option(help="Who finds the body.")
    ] = "blazepose",
    poses: Annotated[
        Path | None, typer.Option(help="Poses from `loris pose`, for one input.")
    ] = None,
    rhythm: Annotated[
        Literal["directogram", "flow"] | None,
        typer.Option(help="The body's rhythm, or the whole picture's. By default the body's."),
    ] = None,
    device: Device = "auto",
    mix: Annotated[
        float | None,
        typer.Option(
            metavar="DB",
            min=-60.0,
            max=12.0,
            help="Keep the original sound under it, at this gain.",
        ),
    ] = None,
    keep: Annotated[
        Path | None, typer.Option(help="Keep this soundtrack but for --from to --to.")
    ] = None,
    from_s: Annotated[float, typer.Option("--from", metavar="S", min=0.0)] = 0.0,
    to_s: Annotated[float | None, typer.Option("--to", metavar="S", min=0.0)] = None,
    overwrite: Overwrite = False,
    skip_existing: SkipExisting = False,
    jobs: Jobs = 1,
    report: Annotated[
        Path | None, typer.Option(help="Write a JSON line for each result to this file.")
    ] = None,
    json_output: JsonOutput = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what it would take, make nothing.")
    ] = False,
    plot: Annotated[
        Path | None, typer.Option(metavar="PNG", help="Draw the rhythm of the one input.")
    ] = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Give videos a soundtrack in time with the body in them.

    The video stream is copied as it is; the sound is new. Results are printed on stdout.

    Examples:
        loris soundtrack skate.mp4

        loris soundtrack skate.mp4 -o out.mp4 --genre skate --seed 7

        loris soundtrack videos/ -o results/ --jobs 2 --skip-existing --report run.jsonl
    """
    del pose_model  # there is one so far
    if overwrite and skip_existing:
        raise UsageError("--overwrite and --skip-existing contradict each other")
    if keep is not None and to_s is None:
        raise UsageError("--keep needs --to", hint="--keep OLD.wav --from 5 --to 9.5")
    if keep is None and (to_s is not None or from_s):
        raise UsageError("--from and --to go with --keep")
    from loris_cli import batch
    from loris_cli.files import check_outputs, replacing
    from loris_cli.inputs import expand, result_names

    reporter = Reporter(quiet=quiet, verbose=verbose)
    videos = expand(inputs)
    single = [("--plot", plot), ("--keep", keep), ("--poses", poses)]
    for name, value in single:
        if value is not None and len(videos) > 1:
            raise UsageError(f"{name} goes with one input, not {len(videos)}")
    outs = result_names(videos, out, suffix=".loris.mp4", takes=takes)
    named = [list(enumerate(names)) for names in outs]
    if skip_existing:
        named = [[(n, path) for n, path in names if not path.exists()] for names in named]
        n_done = sum(not names for names in named)
        reporter.note(f"{n_done} of {len(videos)} skipped: they have their results")
    sources = [*videos, *(path for _, path in single[1:] if path is not None)]
    check_outputs([path for names in named for _, path in names], sources, overwrite=overwrite)
    check_outputs([p for p in (plot, report) if p], sources, overwrite=True)
    settings = batch.Settings(
        model=model,
        genre=genre,
        seed=seed,
        steps=steps,
        guidance=guidance,
        rhythm=rhythm,
        device=device,
        mix_db=mix,
        overwrite=overwrite,
        poses=poses,
        plot=plot,
        keep=keep,
        keep_from_s=from_s,
        keep_to_s=to_s or 0.0,
    )
    todo = [
        batch.Job(video=video, takes=tuple(names), settings=settings)
        for video, names in zip(videos, named, strict=True)
        if names
    ]
    rows = []
    try:
        results = (
            map(batch.estimate, todo)
            if dry_run
            else batch.run(todo, workers=jobs, reporter=reporter)
        )
        for row in results:
            rows.append(row)
            _tell(row, reporter, json_output=json_output, only=len(todo) == 1)
    finally:
        if report is not None and rows:
            with replacing(report, overwrite=True) as part:
                part.write_text(
                    "".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8"
                )
    failed = [row for row in rows if row["status"] == "failed"]
    if failed and len(todo) > 1:
        reporter.note(f"{len(failed)} of {len(todo)} inputs failed")
    if failed:
        raise typer.Exit(failed[0]["exit_code"] if len(todo) == 1 else 1)


def _tell(row: dict, reporter: Reporter, *, json_output: bool, only: bool) -> None:  # type: ignore[type-arg]
    if row["status"] == "failed":
        from .console import print_error

        text = row["error"] if only else f"{row['input']}: {row['error']}"
        print_error(text, hint=row["hint"])
    if json_output:
        reporter.result(json.dumps(row))
    elif row["status"] == "planned":
        reporter.result(
            f"{row['input']}: {row['duration_s']:.1f} s, {row['windows']} windows,"
            f" {row['evaluations']} network evaluations, about {row['estimated_s']:.0f} s"
            f" and {row['estimated_memory_mb']} MB"
        )
    elif row["status"] == "done":
        reporter.result(row["output"])
