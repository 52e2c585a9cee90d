"""The body in a stretch of a video, found now or read where it was found before; its picture.

frames of the stretch at 16 fps -> estimator -> Poses, and how many bodies were there
frames of the stretch -> a network for action recognition -> features, two rows a second
"""

from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from loris_cli.config import POSE_FPS
from loris_cli.dataset.clip_cutting import PoseEstimatorName, Segment
from loris_cli.errors import InputError
from loris_cli.pose.keypoints import Poses, read_poses, slice_poses
from loris_cli.pose.tracking import estimate_poses
from loris_cli.soundtrack.video_analysis import POSE_MAX_SIDE_PX, PoseEstimator
from loris_cli.soundtrack.visual_encoder import VisualEncoder, extract_visual_features
from loris_cli.system.atomic_files import printable_path
from loris_cli.system.device import resolve_device
from loris_cli.system.progress import Reporter
from loris_cli.video.frames import read_frames_at_fps
from loris_cli.video.probe import VideoInfo

POSES_SUFFIX = ".poses.npz"


@dataclass(frozen=True, kw_only=True)
class ExtractedPoses:
    """The body of a stretch of video."""

    poses: Poses
    persons_per_frame: tuple[int, ...] | None
    """In each frame; None where nobody counted."""

    def slice_segment(self, segment: Segment, origin_s: float) -> "ExtractedPoses":
        """The part in a segment."""
        frames = segment_slice(segment, origin_s, POSE_FPS)
        return ExtractedPoses(
            poses=slice_poses(self.poses, frames.start, frames.stop),
            persons_per_frame=None
            if self.persons_per_frame is None
            else self.persons_per_frame[frames],
        )


def segment_slice(segment: Segment, origin_s: float, rate_hz: float) -> slice:
    """A segment in an array that begins at a moment."""
    start = round((segment.start_s - origin_s) * rate_hz)
    return slice(start, start + round(segment.duration_s * rate_hz))


def extract_poses(
    info: VideoInfo,
    span_s: tuple[float, float],
    estimator_name: PoseEstimatorName,
    *,
    reporter: Reporter,
    estimator: PoseEstimator = estimate_poses,
) -> ExtractedPoses | None:
    """The body in a stretch of a video; None where nobody is to look.

    Args:
        info: the video.
        span_s: from and to.
        estimator_name: who finds the body.
        reporter: hears of damage.
        estimator: makes the poses where they are neither beside nor unwanted.

    Raises:
        InputError: the poses beside it are absent, or not of the whole video.
    """
    if estimator_name == "none":
        return None
    first, last = (round(moment_s * POSE_FPS) for moment_s in span_s)
    if estimator_name == "beside":
        poses = read_poses(info.path.with_name(info.path.stem + POSES_SUFFIX))
        if poses.fps != POSE_FPS or poses.n_frames < last:
            raise InputError(
                f"the poses of {printable_path(info.path.name)} are not those of the whole video"
                f" at {POSE_FPS:g} fps",
                hint="make them again with `loris pose`",
            )
        return ExtractedPoses(poses=slice_poses(poses, first, last), persons_per_frame=None)
    counts: list[int] = []
    pictures = read_frames_at_fps(
        info.path, POSE_FPS, max_side_px=POSE_MAX_SIDE_PX, on_warning=reporter.warn
    )
    poses = estimator(
        islice(pictures, first, last),
        fps=POSE_FPS,
        size=(info.width, info.height),
        progress=lambda done, n_bodies: counts.append(n_bodies),
    )
    poses = _pad_to_length(poses, last - first)
    poses = replace(poses, frame_interval_s=info.frame_interval_s)
    return ExtractedPoses(poses=poses, persons_per_frame=tuple(counts))


def _pad_to_length(poses: Poses, n_frames: int) -> Poses:
    """Poses of a stretch whose last frame the video's rounded length cost, perhaps."""
    lack = n_frames - poses.n_frames
    if lack <= 0:
        return poses
    filled = np.repeat(poses.keypoints[-1:], lack, axis=0)
    filled[..., 2] = 0
    return replace(
        poses,
        keypoints=np.concatenate([poses.keypoints, filled]),
        times_s=np.arange(n_frames) / poses.fps,
        interpolated=np.pad(poses.interpolated, (0, lack), constant_values=True),
    )


def extract_segment_features(
    info: VideoInfo,
    span_s: tuple[float, float],
    encoder: VisualEncoder,
    *,
    device: str,
    reporter: Reporter,
) -> NDArray[np.float32]:
    """Features of the picture in a stretch of a video, ``(rows, width)``, two rows a second."""
    found = extract_visual_features(
        info, encoder, device=resolve_device(device), reporter=reporter, span_s=span_s
    )
    return found.astype(np.float32)
