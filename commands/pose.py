"""``loris pose``: 2D poses of the main performer of videos."""

from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from loris_cli.config import DEFAULT_MMPOSE_CONFIG

from . import options
from .console import ConsoleReporter
from .input_loop import InputFile, plan_outputs, process_inputs
from .options import option


def pose(
    inputs: options.Inputs,
    out: options.Out = None,
    overlay: Annotated[
        Path | None,
        option(
            "Output",
            "Write the video with the skeleton drawn on it to an MP4 file, or to a folder for"
            " several inputs.",
            metavar="PATH",
        ),
    ] = None,
    overwrite: options.Overwrite = False,
    pose_estimator: Annotated[
        Literal["blazepose", "mmpose"],
        option("Model", "Pose estimator: the built-in BlazePose, or an mmpose network."),
    ] = "blazepose",
    pose_weights: options.PoseWeights = None,
    pose_network: options.PoseNetwork = DEFAULT_MMPOSE_CONFIG,
    offline: options.Offline = False,
    device: options.PoseDevice = "cpu",
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Estimate the 2D poses of the main performer at 16 frames per second.

    Writes STEM.poses.npz next to each video, or to the .npz file or folder given by -o. The
    file contains x and y in pixels and a confidence score for each of the 17 COCO keypoints.

    Examples:
        loris pose skate.mp4

        loris pose skate.mp4 --pose-estimator mmpose --pose-weights hrnet_w48.pth

        loris pose skate.mp4 -o skate.npz --overlay overlay.mp4
    """
    from loris_cli.errors import InputError, UsageError
    from loris_cli.pose.keypoints import write_poses
    from loris_cli.pose.overlay import overlay_poses, write_mp4
    from loris_cli.soundtrack.video_analysis import estimate_video_poses, probe_for_rhythm
    from loris_cli.system.atomic_files import atomic_write
    from loris_cli.system.input_paths import expand_inputs, output_folder
    from loris_cli.video.frames import read_frames_at_fps

    reporter = ConsoleReporter(quiet=quiet, verbose=verbose)
    videos = expand_inputs(inputs, on_warning=reporter.warn)
    if pose_weights is not None and pose_estimator != "mmpose":
        raise UsageError(
            "--pose-weights requires --pose-estimator mmpose",
            hint="add --pose-estimator mmpose",
        )

    def process_video(file: InputFile) -> str:
        video = file.source
        info = probe_for_rhythm(video, reporter=reporter)
        poses = estimate_video_poses(info, reporter=reporter, estimator=estimator)
        if not poses.detected_fraction:
            raise InputError(
                f"no person detected in {video.name}",
                hint="`loris rhythm` and `loris soundtrack` use optical flow for such videos",
            )
        with atomic_write(file.output, overwrite=overwrite) as part:
            write_poses(part, poses)
        if file.extra_output is not None:
            with atomic_write(file.extra_output, overwrite=overwrite) as part:
                frames = overlay_poses(read_frames_at_fps(info, poses.fps), poses)
                write_mp4(part, frames, poses.fps, poses.size)
        detected = f"{poses.detected_fraction:.1%} of {poses.n_frames} frames"
        reporter.info(f"{video.name}: person detected in {detected}")
        return str(file.output)

    with output_folder(out), output_folder(overlay):
        files = plan_outputs(
            videos,
            inputs,
            out,
            suffix=".poses.npz",
            extra=overlay,
            extra_suffix=".poses.loris.mp4",
            overwrite=overwrite,
        )
        estimator = None
        if pose_estimator == "mmpose" and any(video.is_file() for video in videos):
            from loris_cli.pose.batched_detection import estimate_poses_batched
            from loris_cli.pose.mmpose_estimator import MmposeEstimator, fetch_mmpose_weights
            from loris_cli.system.device import resolve_device

            weights = pose_weights or fetch_mmpose_weights(
                pose_network, offline=offline, reporter=reporter
            )
            network = MmposeEstimator(
                weights, network=pose_network, device=str(resolve_device(device))
            )
            estimator = partial(estimate_poses_batched, network)
        process_inputs(files, process_video, reporter)
