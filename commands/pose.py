"""``loris pose``: the body in videos, as joints over time."""

from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from loris_cli.config import MMPOSE_NETWORK

from .console import Reporter
from .many import each
from .options import Device, Offline, Out, Overwrite, Quiet, Verbose


def pose(
    inputs: Annotated[
        list[str], typer.Argument(metavar="INPUT...", help="Videos, folders, or @list.txt.")
    ],
    out: Out = None,
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
    ] = MMPOSE_NETWORK,
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
    from loris_cli.pose.overlay import overlay, write_overlay
    from loris_cli.soundtrack.video_analysis import find_poses, look
    from loris_cli.system.atomic_files import check_outputs, replacing
    from loris_cli.system.input_paths import (
        check_suffix,
        expand,
        folder_of,
        lists,
        result_names,
    )
    from loris_cli.video.frames import frames_at

    reporter = Reporter(quiet=quiet, verbose=verbose)
    videos = expand(inputs)
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

    def work(video: Path, place: Path) -> str:
        info = look(video, reporter=reporter)
        poses = find_poses(info, reporter=reporter, estimator=finder)
        if not poses.seen_share:
            raise InputError(
                f"nobody is to be seen in {video.name}",
                hint="`loris soundtrack` follows the picture's own movement instead",
            )
        with replacing(place, overwrite=overwrite) as part:
            write_poses(part, poses)
        if draw is not None:
            with replacing(draw, overwrite=overwrite) as part:
                pictures = overlay(frames_at(video, poses.fps), poses)
                write_overlay(part, pictures, poses.fps, poses.size)
        seen = f"{poses.seen_share:.1%} of {poses.n_frames} frames"
        reporter.note(f"{video.name}: a body in {seen}")
        return str(place)

    with folder_of(out):
        names = result_names(videos, out, suffix=".poses.npz", suffixes=[".npz"])
        outs = [name for (name,) in names]
        results = [*outs, *([draw] if draw else [])]
        check_outputs(results, [*videos, *lists(inputs)], overwrite=overwrite)
        finder = None
        if estimator == "mmpose" and any(video.is_file() for video in videos):
            from loris_cli.pose.batched_detection import estimate_with
            from loris_cli.pose.mmpose_estimator import TopDown
            from loris_cli.pose.mmpose_weights import zoo_weights
            from loris_cli.system.device import resolve

            if weights is None:
                weights = zoo_weights(network, offline=offline, reporter=reporter)
            top_down = TopDown(weights, network=network, device=str(resolve(device)))
            finder = partial(estimate_with, top_down)
        each(list(zip(videos, outs, strict=True)), work, reporter)
