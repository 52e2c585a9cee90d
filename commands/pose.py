"""``loris pose``: the body in videos, as joints over time."""

from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from loris_cli.config import DEFAULT_MMPOSE_CONFIG

from .console import ConsoleReporter
from .many import process_inputs
from .options import Device, Offline, OutPath, Overwrite, Quiet, Verbose


def pose(
    inputs: Annotated[
        list[str], typer.Argument(metavar="INPUT...", help="Videos, folders, or @list.txt.")
    ],
    out: OutPath = None,
    draw: Annotated[
        Path | None,
        typer.Option(metavar="MP4", help="Draw the body over the one input, as a video."),
    ] = None,
    estimator: Annotated[
        Literal["embedded", "mmpose"],
        typer.Option(help="Who finds the joints: the embedded estimator, or mmpose."),
    ] = "embedded",
    weights: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="With --estimator mmpose: its network's weights; by default they are fetched.",
        ),
    ] = None,
    network: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="With --estimator mmpose: which of its own configurations."
        ),
    ] = DEFAULT_MMPOSE_CONFIG,
    offline: Offline = False,
    device: Device = "cpu",
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Find the main performer's joints, 16 times a second.

    Writes STEM.poses.npz beside each video, or to -o, an .npz file or a folder: x and y in
    pixels and a score for the 17 joints of COCO. mmpose's weights come from a file, or are
    fetched once from where mmpose says they are.

    Examples:
        loris pose skate.mp4

        loris pose skate.mp4 --estimator mmpose --weights hrnet_w48.pth

        loris pose skate.mp4 -o skate.npz --draw overlay.mp4
    """
    from loris_cli.errors import InputError, UsageError
    from loris_cli.pose.keypoints import write_poses
    from loris_cli.pose.overlay import overlay_poses, write_mp4
    from loris_cli.soundtrack.video_analysis import estimate_video_poses, probe_for_rhythm
    from loris_cli.system.atomic_files import atomic_write, check_output_paths
    from loris_cli.system.input_paths import (
        check_suffix,
        expand_inputs,
        find_list_files,
        output_folder,
        resolve_output_paths,
    )
    from loris_cli.video.frames import read_frames_at_fps

    reporter = ConsoleReporter(quiet=quiet, verbose=verbose)
    videos = expand_inputs(inputs)
    if weights is not None and estimator != "mmpose":
        raise UsageError(
            "--weights goes with --estimator mmpose", hint="add --estimator mmpose"
        )
    if draw is not None:
        check_suffix(draw, [".mp4"])
        if len(videos) > 1:
            raise UsageError(
                f"--draw goes with one input, not {len(videos)}", hint="leave it out"
            )

    def process_video(video: Path, place: Path) -> str:
        info = probe_for_rhythm(video, reporter=reporter)
        poses = estimate_video_poses(info, reporter=reporter, estimator=finder)
        if not poses.detected_fraction:
            raise InputError(
                f"nobody is to be seen in {video.name}",
                hint="`loris soundtrack` follows the picture's own movement instead",
            )
        with atomic_write(place, overwrite=overwrite) as part:
            write_poses(part, poses)
        if draw is not None:
            with atomic_write(draw, overwrite=overwrite) as part:
                pictures = overlay_poses(read_frames_at_fps(video, poses.fps), poses)
                write_mp4(part, pictures, poses.fps, poses.size)
        seen = f"{poses.detected_fraction:.1%} of {poses.n_frames} frames"
        reporter.info(f"{video.name}: a body in {seen}")
        return str(place)

    with output_folder(out):
        names = resolve_output_paths(
            videos, out, default_suffix=".poses.npz", allowed_suffixes=[".npz"]
        )
        outs = [name for (name,) in names]
        results = [*outs, *([draw] if draw else [])]
        check_output_paths(results, [*videos, *find_list_files(inputs)], overwrite=overwrite)
        finder = None
        if estimator == "mmpose" and any(video.is_file() for video in videos):
            from loris_cli.pose.batched_detection import estimate_poses_batched
            from loris_cli.pose.mmpose_estimator import MmposeEstimator, fetch_mmpose_weights
            from loris_cli.system.device import resolve_device

            if weights is None:
                weights = fetch_mmpose_weights(network, offline=offline, reporter=reporter)
            top_down = MmposeEstimator(
                weights, network=network, device=str(resolve_device(device))
            )
            finder = partial(estimate_poses_batched, top_down)
        process_inputs(list(zip(videos, outs, strict=True)), process_video, reporter)
