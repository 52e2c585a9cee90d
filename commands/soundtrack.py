"""``loris soundtrack``: music for videos, in time with the body."""

import json
from contextlib import closing, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from loris_cli.config import GENRES
from loris_cli.errors import UsageError

from .console import ConsoleReporter, print_error
from .options import (
    Device,
    Jobs,
    JsonOutput,
    Offline,
    OutPath,
    Overwrite,
    Quiet,
    Seed,
    SkipExisting,
    Verbose,
)

if TYPE_CHECKING:
    from loris_cli.soundtrack.job_report import ReportRow


INPAINT_EXAMPLE = "--keep old.wav --from 5 --to 9.5"


def _check_genre(name: str | None) -> str | None:
    if name is not None and name not in GENRES:
        raise typer.BadParameter(f"{name!r} is none of {', '.join(GENRES)}")
    return name


def soundtrack(
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="INPUT...", help="Videos, folders, or @list.txt."),
    ],
    out: OutPath = None,
    model: Annotated[
        str,
        typer.Option(
            metavar="NAME|FILE",
            help="Weights: mini, a .safetensors file, or a released LORIS checkpoint.",
        ),
    ] = "mini",
    genre: Annotated[
        str | None,
        typer.Option(
            callback=_check_genre,
            help=f"Style: {', '.join(GENRES)}. By default one that suits the body's beat.",
        ),
    ] = None,
    seed: Seed = 0,
    takes: Annotated[
        int, typer.Option(min=1, max=999, help="How many for each video, with seeds one apart.")
    ] = 1,
    steps: Annotated[
        int | None,
        typer.Option(
            min=2, max=1000, help="Sampling steps. By default 16, of the paper's model 50."
        ),
    ] = None,
    sampler: Annotated[
        Literal["adpm2", "heun", "euler", "euler-ancestral", "dpmpp-2m", "dpmpp-sde"] | None,
        typer.Option(help="By default dpmpp-2m, of the paper's model its adpm2."),
    ] = None,
    guidance: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=100.0,
            help="How strictly the rhythm is followed. By default 1.3; the paper's 20.",
        ),
    ] = None,
    guided: Annotated[
        tuple[float, float],
        typer.Option(
            metavar="FROM TO",
            help="Part of the steps that is guided: --guided 0.2 0.8 guides in the middle.",
        ),
    ] = (0.0, 1.0),
    visual: Annotated[
        str | None,
        typer.Option(
            metavar="NPY|NAME[=FILE]",
            help="What the paper's model is told of the picture: features of the one input, or"
            " who makes them: i3d=WEIGHTS (Inception), i3d-r50[=WEIGHTS] (pytorchvideo, fetched"
            " where no file is given).",
        ),
    ] = None,
    offline: Offline = False,
    pose_model: Annotated[
        Literal["blazepose"], typer.Option(help="Who finds the body.")
    ] = "blazepose",
    poses: Annotated[
        Path | None,
        typer.Option(metavar="NPZ", help="Poses from `loris pose`, for the one input."),
    ] = None,
    rhythm: Annotated[
        Literal["directogram", "flow", "stft"] | None,
        typer.Option(
            help="The body's rhythm by the directogram of its motion or the STFT of its shape,"
            " or the whole picture's flow. By default the directogram, and the flow where"
            " nobody is seen."
        ),
    ] = None,
    device: Device = "auto",
    precision: Annotated[
        Literal["auto", "fp32", "bf16"],
        typer.Option(
            help="What networks compute in. By default bf16 on CUDA devices that have it,"
            " elsewhere fp32."
        ),
    ] = "auto",
    compiled: Annotated[
        bool,
        typer.Option(
            "--compile", help="Compile the network first: pays for many videos or takes."
        ),
    ] = False,
    mix: Annotated[
        float | None,
        typer.Option(
            metavar="DB",
            min=-60.0,
            max=12.0,
            help="Keep the original sound underneath, at this gain: --mix -12.",
        ),
    ] = None,
    keep: Annotated[
        Path | None,
        typer.Option(
            metavar="OLD",
            help="An earlier result, sound or film, to keep but for --from to --to; its"
            f" loudness too: {INPAINT_EXAMPLE}.",
        ),
    ] = None,
    from_s: Annotated[
        float, typer.Option("--from", metavar="S", min=0.0, help="Second, with --keep.")
    ] = 0.0,
    to_s: Annotated[
        float | None, typer.Option("--to", metavar="S", min=0.0, help="Second, with --keep.")
    ] = None,
    overwrite: Overwrite = False,
    skip_existing: SkipExisting = False,
    jobs: Jobs = 1,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="JSONL",
            help="Add a line of JSON for each result to this file, whatever ends the run.",
        ),
    ] = None,
    json_output: JsonOutput = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what it would take, make nothing.")
    ] = False,
    plot: Annotated[
        Path | None, typer.Option(metavar="PNG", help="Draw rhythm and sound of the one input.")
    ] = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Give videos a soundtrack in time with the body in them.

    The video stream is copied as it is; the sound is new. Without -o a result is
    STEM.loris.mp4 beside its video; -o names a file (.mp4 .mov .mkv .webm .wav .flac), or
    a folder: one that exists, or a new name without a suffix. Results are printed on stdout.

    Examples:
        loris soundtrack skate.mp4

        loris soundtrack skate.mp4 -o out.mp4 --genre skate --seed 7

        loris soundtrack skate.mp4 -o new.wav --keep old.wav --from 5 --to 9.5 --seed 8

        loris soundtrack dance.mp4 --model loris_dance25_epoch100.pt --visual dance.i3d.npy

        loris soundtrack videos/ -o results/ --jobs 2 --skip-existing --report run.jsonl
    """
    del pose_model  # there is one so far
    if overwrite and skip_existing:
        raise UsageError(
            "--overwrite and --skip-existing contradict each other", hint="leave one out"
        )
    if keep is not None and to_s is None:
        raise UsageError("--keep needs --to", hint=INPAINT_EXAMPLE)
    if keep is None and (to_s is not None or from_s):
        raise UsageError("--from and --to go with --keep", hint=INPAINT_EXAMPLE)
    if not 0 <= guided[0] < guided[1] <= 1:
        raise UsageError(
            f"--guided {guided[0]:g} {guided[1]:g} is no part of the steps",
            hint="--guided 0.2 0.8 guides in the middle",
        )
    from loris_cli.soundtrack.inpainting import InpaintSettings
    from loris_cli.soundtrack.job_report import add_to_report, compute_exit_code
    from loris_cli.soundtrack.jobs import SoundtrackSettings
    from loris_cli.soundtrack.jobs import plan_jobs as plan_jobs
    from loris_cli.soundtrack.run_jobs import estimate_jobs
    from loris_cli.soundtrack.run_jobs import run_jobs as run_jobs
    from loris_cli.soundtrack.visual_features import parse_visual_source
    from loris_cli.system.input_paths import expand_inputs, find_list_files, output_folder

    reporter = ConsoleReporter(quiet=quiet, verbose=verbose)
    videos = expand_inputs(inputs)
    settings = SoundtrackSettings(
        model=model,
        genre=genre,
        seed=seed,
        steps=steps,
        guidance=guidance,
        guidance_interval=guided,
        sampler=sampler,
        visual=None if visual is None else parse_visual_source(visual),
        offline=offline,
        rhythm_method=rhythm,
        device=device,
        precision=precision,
        compile=compiled,
        mix_db=mix,
        overwrite=overwrite,
        poses=poses,
        plot=plot,
        inpaint=None
        if keep is None
        else InpaintSettings(path=keep, start_s=from_s, end_s=to_s or 0.0),
    )
    rows: list[ReportRow] = []
    with nullcontext() if dry_run else output_folder(out):
        plan = plan_jobs(
            videos,
            out,
            settings=settings,
            n_takes=takes,
            skip_existing=skip_existing,
            report=report,
            protected_paths=find_list_files(inputs),
        )
        results = (
            estimate_jobs(plan, reporter=reporter)
            if dry_run
            else run_jobs(plan, workers=jobs, reporter=reporter)
        )
        try:
            with closing(results):
                for row in results:
                    rows.append(row)
                    _print_row(
                        row, reporter, json_output=json_output, is_single_input=len(videos) == 1
                    )
        finally:
            if report is not None and rows and not dry_run:
                add_to_report(report, rows, plan)
    n_failed = sum(row["status"] == "failed" for row in rows)
    if n_failed and len(videos) > 1:
        reporter.info(f"{n_failed} of {len(videos)} inputs failed")
    if code := compute_exit_code(rows, n_inputs=len(videos)):
        raise typer.Exit(code)


def _print_row(
    row: "ReportRow", reporter: ConsoleReporter, *, json_output: bool, is_single_input: bool
) -> None:
    if row["status"] == "failed":
        named = is_single_input or Path(row["input"]).name in row["error"]
        text = row["error"] if named else f"{row['input']}: {row['error']}"
        print_error(text, hint=row["hint"])
    if json_output:
        reporter.print_result(json.dumps(row, allow_nan=False))
    elif row["status"] == "estimated":
        reporter.print_result(
            f"{row['input']}: {row['duration_s']:.1f} s, {row['n_windows']} windows,"
            f" {row['n_network_evaluations']} network evaluations, about {row['estimated_s']:.0f} s"
            f" and {row['estimated_memory_mb']} MB"
        )
    elif row["status"] == "skipped":
        reporter.info(f"{row['output']} exists: skipped")
    elif row["status"] == "done":
        reporter.print_result(row["output"])
