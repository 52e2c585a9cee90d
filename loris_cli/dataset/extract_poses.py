"""Extract the poses of a time span of a video.

frames of the span at 16 fps -> pose estimator -> poses, number of persons in each frame
"""

from dataclasses import replace
from itertools import islice

import numpy as np

from loris_cli.array_types import Array
from loris_cli.config import POSE_FPS
from loris_cli.dataset.clip_cutting import PoseEstimatorName
from loris_cli.errors import InputError
from loris_cli.pose.keypoints import Poses, read_poses, slice_poses
from loris_cli.pose.tracking import estimate_poses
from loris_cli.soundtrack.video_analysis import POSE_SIDE_PX, PoseEstimator
from loris_cli.system.progress import Reporter
from loris_cli.video.frames import read_frames_at_fps, record_source_times
from loris_cli.video.probe import VideoInfo

POSES_SUFFIX = ".poses.npz"


def extract_poses(
    info: VideoInfo,
    span_s: tuple[float, float],
    estimator_name: PoseEstimatorName,
    *,
    reporter: Reporter,
    estimator: PoseEstimator = estimate_poses,
) -> tuple[Poses | None, tuple[int, ...] | None]:
    """Extract the poses of a time span of a video.

    Args:
        info: video to read.
        span_s: start and end in seconds.
        estimator_name: source of the poses; ``file`` reads STEM.poses.npz next to the video.
        reporter: receives warnings about damaged frames.
        estimator: pose estimator; unused if the source is ``file`` or ``none``.

    Returns:
        poses at 16 fps, None for the source ``none``; number of persons in each frame, None if
        persons were not counted.

    Raises:
        InputError: the pose file is missing, has another frame rate, or ends before the span.
    """
    if estimator_name == "none":
        return None, None
    first, last = (round(time_s * POSE_FPS) for time_s in span_s)
    if estimator_name == "file":
        poses = read_poses(info.path.with_name(info.path.stem + POSES_SUFFIX))
        if poses.fps != POSE_FPS or poses.n_frames < last:
            raise InputError(
                f"pose file of {info.path.name} does not cover the video at {POSE_FPS:g} fps",
                hint="extract the poses again with `loris pose`",
            )
        return slice_poses(poses, first, last), None
    counts: list[int] = []
    source_times_s: list[float] = []
    frames = read_frames_at_fps(
        info, POSE_FPS, max_side_px=POSE_SIDE_PX, on_warning=reporter.warn
    )
    poses = estimator(
        record_source_times(islice(frames, first, last), source_times_s),
        fps=POSE_FPS,
        size=(info.width, info.height),
        progress=lambda done, n_persons: counts.append(n_persons),
    )
    poses = replace(
        _pad_to_length(poses, last - first),
        frame_interval_s=info.frame_interval_s,
        source_times_s=_relative_times_s(source_times_s, first, last),
    )
    return poses, tuple(counts)


def _relative_times_s(times_s: list[float], first: int, last: int) -> Array:
    """Return the source times of the frames of a span, padded as its poses."""
    padded = np.pad(times_s, (0, last - first - len(times_s)), mode="edge")
    return np.asarray(padded - first / POSE_FPS)


def _pad_to_length(poses: Poses, n_frames: int) -> Poses:
    """Repeat the last pose if the last frame was lost to rounding of the video duration."""
    n_missing = n_frames - poses.n_frames
    if n_missing <= 0:
        return poses
    padding = np.repeat(poses.keypoints[-1:], n_missing, axis=0)
    padding[..., 2] = 0
    return replace(
        poses,
        keypoints=np.concatenate([poses.keypoints, padding]),
        times_s=np.arange(n_frames) / poses.fps,
        interpolated=np.pad(poses.interpolated, (0, n_missing), constant_values=True),
    )
