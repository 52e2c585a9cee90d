"""``loris rhythm``: visual rhythm of videos."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from . import options
from .console import ConsoleReporter
from .input_loop import InputFile, plan_outputs, process_inputs
from .options import option


def rhythm(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT",
            help="Video files, pose files from `loris pose`, folders, or @list.txt with one"
            " path per line.",
            rich_help_panel="Input",
        ),
    ],
    out: options.Out = None,
    plot: Annotated[
        Path | None,
        option(
            "Output",
            "Plot directogram, onset envelope, peaks and audio to a PNG file, or to a folder"
            " for several inputs.",
            metavar="PATH",
        ),
    ] = None,
    overwrite: options.Overwrite = False,
    method: options.Rhythm = None,
    compat: Annotated[
        Literal["paper", "official", "strict"],
        option(
            "Model",
            "Directogram and peak picking of the paper with noise reduction and impact timing,"
            " of its released code, or of the paper's equations alone.",
        ),
    ] = "paper",
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Detect the visual rhythm, the times and strengths of motion peaks.

    Writes STEM.rhythm.json next to each input, or to the .json file or folder given by -o.

    Examples:
        loris rhythm skate.mp4 --plot rhythm.png

        loris rhythm skate.poses.npz -o skate.json --compat official
    """
    from loris_cli.errors import UsageError
    from loris_cli.pose.keypoints import read_poses
    from loris_cli.rhythm.plot import plot_rhythm
    from loris_cli.rhythm.rhythm_file import write_rhythm
    from loris_cli.soundtrack.pipeline import read_mono_audio
    from loris_cli.soundtrack.video_analysis import analyze_video, compute_pose_rhythm
    from loris_cli.system.atomic_files import atomic_write
    from loris_cli.system.input_paths import expand_inputs, output_folder

    if compat != "paper" and method in {"flow", "stft"}:
        raise UsageError(
            f"--compat {compat} requires the directogram, got --rhythm {method}",
            hint="remove one of the two options",
        )
    reporter = ConsoleReporter(quiet=quiet, verbose=verbose)
    sources = expand_inputs(inputs, on_warning=reporter.warn)

    def process_input(file: InputFile) -> str:
        source = file.source
        audio, keypoints = None, None
        if source.suffix.lower() == ".npz":
            if method == "flow":
                raise UsageError(
                    f"{source.name} has no video frames for --rhythm flow",
                    hint="specify the video file",
                )
            poses = read_poses(source)
            rhythm = compute_pose_rhythm(poses, compat=compat, method=method)
            keypoints = poses.keypoints
        else:
            analysis = analyze_video(source, method=method, compat=compat, reporter=reporter)
            rhythm = analysis.rhythm
            keypoints = analysis.poses.keypoints if analysis.poses else None
            if plot and analysis.info.has_audio:
                samples = read_mono_audio(source)
                audio = None if samples is None else samples.astype(float)
        with atomic_write(file.output, overwrite=overwrite) as part:
            write_rhythm(part, rhythm)
        if file.extra_output is not None:
            with atomic_write(file.extra_output, overwrite=overwrite) as part:
                plot_rhythm(part, rhythm, keypoints=keypoints, audio=audio, title=source.name)
        reporter.info(
            f"{source.name}: {len(rhythm.times_s)} peaks in {rhythm.duration_s:.1f} s"
        )
        return str(file.output)

    with output_folder(out), output_folder(plot):
        files = plan_outputs(
            sources,
            inputs,
            out,
            suffix=".rhythm.json",
            extra=plot,
            extra_suffix=".png",
            overwrite=overwrite,
        )
        process_inputs(files, process_input, reporter)
