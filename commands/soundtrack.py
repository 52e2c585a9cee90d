"""``loris soundtrack``: generate soundtracks for videos, in time with the motion."""

import json
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from loris_cli.config import GENRES, BaselineName
from loris_cli.errors import UsageError

from . import options
from .console import ConsoleReporter
from .input_loop import print_input_error
from .options import option

if TYPE_CHECKING:
    from loris_cli.soundtrack.job_report import ReportRow

INPAINT_EXAMPLE = "for example --inpaint old.wav --inpaint-range 5 9.5"


def _check_genre(name: str | None) -> str | None:
    if name is not None and name not in GENRES:
        raise typer.BadParameter(f"{name!r} is not one of {', '.join(GENRES)}")
    return name


def soundtrack(
    inputs: options.Inputs,
    poses: Annotated[
        Path | None,
        option(
            "Input",
            "Use poses from `loris pose` instead of estimating them (one input only).",
            metavar="NPZ",
        ),
    ] = None,
    genre: Annotated[
        str | None,
        option(
            "Input",
            f"Musical style: {', '.join(GENRES)}. Default: drawn by the seed, from the dance"
            " styles if the peaks fit a steady beat, else floor or skate.",
            callback=_check_genre,
        ),
    ] = None,
    out: options.Out = None,
    overwrite: options.Overwrite = False,
    skip_existing: options.SkipExisting = False,
    mix: Annotated[
        float | None,
        option(
            "Output",
            "Mix in the original audio at this gain in dB, such as -12. Default: discard it.",
            metavar="DB",
            min=-60.0,
            max=12.0,
        ),
    ] = None,
    audio_track: options.AudioTrack = None,
    inpaint: Annotated[
        Path | None,
        option(
            "Output",
            "Earlier soundtrack of which only --inpaint-range is regenerated.",
            metavar="OLD",
        ),
    ] = None,
    inpaint_range: Annotated[
        tuple[float, float] | None,
        option(
            "Output",
            "Time range to regenerate, in seconds. Requires --inpaint.",
            metavar="FROM TO",
        ),
    ] = None,
    report: Annotated[
        Path | None,
        option(
            "Output",
            "Append one JSON object per result to this file, even if the run fails.",
            metavar="JSONL",
        ),
    ] = None,
    json_output: options.JsonOutput = False,
    plot: Annotated[
        Path | None,
        option(
            "Output",
            "Plot visual rhythm and audio to a PNG file, or to a folder for several inputs.",
            metavar="PATH",
        ),
    ] = None,
    midi: Annotated[
        Path | None,
        option(
            "Output",
            "Write the score of each take as a MIDI file, or to a folder for several inputs.",
            metavar="PATH",
        ),
    ] = None,
    model: Annotated[
        str | None,
        option(
            "Model",
            "Model: mini, a .safetensors file, or a released LORIS checkpoint. Default: mini.",
            metavar="NAME|FILE",
        ),
    ] = None,
    method: Annotated[
        Literal["score", BaselineName] | None,
        option(
            "Model",
            "Use this system instead of mini. score: play the rule-written score with a"
            " synthesizer. The others are baselines of the paper; --model names weights of"
            " `loris train --method`.",
        ),
    ] = None,
    conditioning: options.Conditioning = None,
    synthesizer: options.Synthesizer = "builtin",
    soundfont: options.Soundfont = None,
    visual_features: Annotated[
        str | None,
        option(
            "Model",
            "Visual features for the paper's model: a .npy file, i3d=WEIGHTS, or"
            " i3d-r50[=WEIGHTS].",
            metavar="NPY|NAME[=FILE]",
        ),
    ] = None,
    offline: options.Offline = False,
    rhythm: options.Rhythm = None,
    takes: options.Takes = 1,
    steps: options.Steps = None,
    sampler: Annotated[
        Literal["adpm2", "heun", "euler", "euler-ancestral", "dpmpp-2m", "dpmpp-2m-sde"] | None,
        option(
            "Sampling",
            "Diffusion sampler. Default: dpmpp-2m, or adpm2 for the paper's model.",
        ),
    ] = None,
    guidance: options.Guidance = None,
    guidance_interval: Annotated[
        tuple[float, float],
        option(
            "Sampling",
            "Apply guidance only in this part of the sampling steps, as fractions from 0 to 1.",
            metavar="FROM TO",
        ),
    ] = (0.0, 1.0),
    seed: options.Seed = 0,
    jobs: options.Jobs = 1,
    threads: options.Threads = None,
    device: options.Device = "auto",
    precision: Annotated[
        Literal["auto", "fp32", "bf16"],
        option(
            "Run",
            "Precision of the networks. Default: bf16 on CUDA devices that support it, else"
            " fp32.",
        ),
    ] = "auto",
    compile_networks: Annotated[
        bool,
        option(
            "Run",
            "Compile the network with torch.compile. Slow to start, faster for many takes.",
            "--compile",
        ),
    ] = False,
    dry_run: options.DryRun = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Generate a soundtrack for each video, in time with the motion.

    Copies the video stream and replaces the audio. Writes STEM.loris.mp4 next to each video, or
    to -o, which is a file (.mp4 .mov .mkv .webm .wav .flac .mid) or a folder (an existing one,
    or a new name without a suffix). Videos that MP4 cannot hold keep their container or become
    .mkv files. Prints the paths of the results on stdout.

    Examples:
        loris soundtrack skate.mp4

        loris soundtrack skate.mp4 -o out.mp4 --genre skate --seed 7

        loris soundtrack skate.mp4 -o out.mp4 --method score --midi score.mid

        loris soundtrack skate.mp4 -o new.wav --inpaint old.wav --inpaint-range 5 9.5

        loris soundtrack dance.mp4 --model loris_dance25_epoch100.pt --visual-features i3d.npy

        loris soundtrack videos/ -o results/ --jobs 2 --skip-existing --report run.jsonl
    """
    if overwrite and skip_existing:
        raise UsageError(
            "--overwrite and --skip-existing cannot be used together", hint="remove one of them"
        )
    if (inpaint is None) != (inpaint_range is None):
        raise UsageError(
            "--inpaint and --inpaint-range must be used together", hint=INPAINT_EXAMPLE
        )
    if audio_track is not None and mix is None:
        raise UsageError("--audio-track requires --mix", hint="add --mix, such as --mix -12")
    if model is not None and method == "score":
        raise UsageError(
            "--model and --method score cannot be used together", hint="remove one of them"
        )
    if not 0 <= guidance_interval[0] < guidance_interval[1] <= 1:
        first, last = guidance_interval
        raise UsageError(
            f"--guidance-interval {first:g} {last:g} is invalid, expected 0 <= FROM < TO <= 1",
            hint="for example --guidance-interval 0.2 0.8",
        )
    from loris_cli.composition.synthesizer_settings import SynthesizerSettings
    from loris_cli.soundtrack.inpainting import InpaintSettings
    from loris_cli.soundtrack.job_report import add_to_report, compute_exit_code
    from loris_cli.soundtrack.jobs import DEFAULT_MODEL, SoundtrackSettings, plan_jobs
    from loris_cli.soundtrack.run_jobs import estimate_jobs, run_jobs
    from loris_cli.soundtrack.visual_features import parse_visual_source
    from loris_cli.system.input_paths import expand_inputs, output_folder

    reporter = ConsoleReporter(quiet=quiet, verbose=verbose)
    videos = expand_inputs(inputs, on_warning=reporter.warn)
    region = None
    if inpaint is not None and inpaint_range is not None:
        start_s, end_s = inpaint_range
        region = InpaintSettings(path=inpaint, start_s=start_s, end_s=end_s)
    settings = SoundtrackSettings(
        model=model or DEFAULT_MODEL,
        method=method,
        conditioning=conditioning,
        synthesizer=SynthesizerSettings(name=synthesizer, soundfont=soundfont),
        genre=genre,
        seed=seed,
        steps=steps,
        guidance=guidance,
        guidance_interval=guidance_interval,
        sampler=sampler,
        visual=None if visual_features is None else parse_visual_source(visual_features),
        offline=offline,
        rhythm_method=rhythm,
        device=device,
        threads=threads,
        precision=precision,
        compile=compile_networks,
        mix_db=mix,
        audio_track=audio_track,
        overwrite=overwrite,
        poses=poses,
        plot=plot,
        midi=midi,
        inpaint=region,
    )
    rows: list[ReportRow] = []
    with ExitStack() as folders:
        for folder in () if dry_run else (out, midi, plot):
            folders.enter_context(output_folder(folder))
        plan = plan_jobs(
            videos,
            out,
            settings=settings,
            n_takes=takes,
            skip_existing=skip_existing,
            report=report,
            inputs=inputs,
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
                    _print_row(row, reporter, json_output=json_output, n_inputs=len(videos))
        finally:
            if report is not None and rows and not dry_run:
                add_to_report(report, rows, plan)
    n_failed = sum(row["status"] == "failed" for row in rows)
    if n_failed and len(videos) > 1:
        reporter.info(f"{n_failed} of {len(videos)} inputs failed")
    if code := compute_exit_code(rows, n_inputs=len(videos)):
        raise typer.Exit(code)


def _print_row(
    row: "ReportRow", reporter: ConsoleReporter, *, json_output: bool, n_inputs: int
) -> None:
    if row["status"] == "failed":
        source = row["input"] if n_inputs > 1 else ""
        print_input_error(source, row["error"], row["hint"])
    if json_output:
        reporter.print_result(json.dumps(row, allow_nan=False))
    elif row["status"] == "estimated":
        network = (
            f" {row['n_windows']} windows, {row['n_network_evaluations']} network evaluations,"
        )
        reporter.print_result(
            f"{row['input']}: {row['duration_s']:.1f} s,{network * (row['n_windows'] > 0)}"
            f" about {row['estimated_s']:.0f} s and {row['estimated_memory_mib']} MiB"
        )
    elif row["status"] == "skipped":
        reporter.info(f"{row['output']} {row['reason']}: skipped")
    elif row["status"] == "done":
        reporter.print_result(row["output"])
        if row["midi"] is not None:
            reporter.print_result(row["midi"])
