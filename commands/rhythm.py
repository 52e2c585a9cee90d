"""``loris rhythm``: the moments at which a body stresses its movement."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from .console import ConsoleReporter
from .many import process_inputs
from .options import OutPath, Overwrite, Quiet, Verbose


def rhythm(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...", help="Videos, poses from `loris pose`, folders, or @list.txt."
        ),
    ],
    out: OutPath = None,
    method: Annotated[
        Literal["directogram", "flow", "stft"] | None,
        typer.Option(
            "--rhythm",
            help="The body's rhythm by the directogram of its motion or the STFT of its shape,"
            " or the whole picture's flow. By default the directogram.",
        ),
    ] = None,
    compat: Annotated[
        Literal["paper", "official"],
        typer.Option(help="Reading of the paper: as written, or as its code does."),
    ] = "paper",
    plot: Annotated[
        Path | None,
        typer.Option(metavar="PNG", help="Draw directogram, envelope, peaks, and any sound."),
    ] = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Find the visual rhythm: peaks of motion, in seconds.

    Writes STEM.rhythm.json beside each input, or to -o, a .json file or a folder.

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
    from loris_cli.system.atomic_files import atomic_write, check_output_paths
    from loris_cli.system.input_paths import (
        check_suffix,
        expand_inputs,
        find_list_files,
        output_folder,
        resolve_output_paths,
    )

    if compat == "official" and method in {"flow", "stft"}:
        raise UsageError(
            f"--compat official is a reading of the directogram, not of {method}",
            hint="leave one of them out",
        )
    reporter = ConsoleReporter(quiet=quiet, verbose=verbose)
    paths = expand_inputs(inputs)
    if plot is not None:
        check_suffix(plot, [".png"])
        if len(paths) > 1:
            raise UsageError(
                f"--plot goes with one input, not {len(paths)}", hint="leave it out"
            )

    def process_input(path: Path, place: Path) -> str:
        sound, keypoints = None, None
        if path.suffix.lower() == ".npz":
            if method == "flow":
                raise UsageError(f"{path.name} has no picture to follow", hint="give the video")
            poses = read_poses(path)
            found, keypoints = (
                compute_pose_rhythm(poses, compat=compat, method=method),
                poses.keypoints,
            )
        else:
            seen = analyze_video(path, method=method, compat=compat, reporter=reporter)
            found, keypoints = seen.rhythm, seen.poses.keypoints if seen.poses else None
            own = read_mono_audio(path) if plot and seen.info.has_audio else None
            sound = None if own is None else own.astype(float)
        with atomic_write(place, overwrite=overwrite) as part:
            write_rhythm(part, found)
        if plot is not None:
            with atomic_write(plot, overwrite=overwrite) as part:
                plot_rhythm(part, found, keypoints=keypoints, audio=sound, title=path.name)
        reporter.info(f"{path.name}: {len(found.times_s)} peaks in {found.duration_s:.1f} s")
        return str(place)

    with output_folder(out):
        names = resolve_output_paths(
            paths, out, default_suffix=".rhythm.json", allowed_suffixes=[".json"]
        )
        outs = [name for (name,) in names]
        results = [*outs, *([plot] if plot else [])]
        check_output_paths(results, [*paths, *find_list_files(inputs)], overwrite=overwrite)
        process_inputs(list(zip(paths, outs, strict=True)), process_input, reporter)
