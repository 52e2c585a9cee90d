"""The body in a stretch of a video, found now or read where it was found before; its picture.

frames of the stretch at 16 fps -> estimator -> Poses, and how many bodies were there
frames of the stretch -> a network for action recognition -> features, two rows a second
"""

from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from loris_cli.config import POSE_FPS
from loris_cli.dataset.clip_cutting import PoseSource, Segment
from loris_cli.errors import InputError, UsageError, WeightsError
from loris_cli.models.i3d_inception import load_i3d
from loris_cli.models.i3d_resnet50 import load_i3d_r50, weights_file
from loris_cli.pose.keypoints import Poses, part, read_poses
from loris_cli.pose.tracking import estimate_poses
from loris_cli.soundtrack.video_analysis import POSE_SIDE_PX, Estimator
from loris_cli.soundtrack.visual_encoder import Seer, features_of_picture
from loris_cli.soundtrack.visual_features import VisualSource
from loris_cli.system.atomic_files import printable
from loris_cli.system.device import resolve
from loris_cli.system.file_fingerprints import Identity, identify
from loris_cli.system.progress import Reporter
from loris_cli.video.frames import frames_at
from loris_cli.video.probe import VideoInfo

POSES_SUFFIX = ".poses.npz"


@dataclass(frozen=True, kw_only=True)
class Seen:
    """The body of a stretch of video."""

    poses: Poses
    n_bodies: tuple[int, ...] | None
    """In each frame; None where nobody counted."""

    def part_of(self, segment: Segment, since_s: float) -> "Seen":
        """The part in a segment."""
        frames = within(segment, since_s, POSE_FPS)
        return Seen(
            poses=part(self.poses, frames.start, frames.stop),
            n_bodies=None if self.n_bodies is None else self.n_bodies[frames],
        )


def within(segment: Segment, since_s: float, rate_hz: float) -> slice:
    """A segment in an array that begins at a moment."""
    start = round((segment.start_s - since_s) * rate_hz)
    return slice(start, start + round(segment.seconds * rate_hz))


def see(
    info: VideoInfo,
    span_s: tuple[float, float],
    source: PoseSource,
    *,
    reporter: Reporter,
    estimator: Estimator = estimate_poses,
) -> Seen | None:
    """The body in a stretch of a video; None where nobody is to look.

    Args:
        info: the video.
        span_s: from and to.
        source: who finds the body.
        reporter: hears of damage.
        estimator: makes the poses where they are neither beside nor unwanted.

    Raises:
        InputError: the poses beside it are absent, or not of the whole video.
    """
    if source == "none":
        return None
    first, last = (round(moment_s * POSE_FPS) for moment_s in span_s)
    if source == "beside":
        poses = read_poses(info.path.with_name(info.path.stem + POSES_SUFFIX))
        if poses.fps != POSE_FPS or poses.n_frames < last:
            raise InputError(
                f"the poses of {printable(info.path.name)} are not those of the whole video"
                f" at {POSE_FPS:g} fps",
                hint="make them again with `loris pose`",
            )
        return Seen(poses=part(poses, first, last), n_bodies=None)
    counts: list[int] = []
    pictures = frames_at(
        info.path, POSE_FPS, max_side_px=POSE_SIDE_PX, on_warning=reporter.warn
    )
    poses = estimator(
        islice(pictures, first, last),
        fps=POSE_FPS,
        size=(info.width, info.height),
        progress=lambda done, n_bodies: counts.append(n_bodies),
    )
    poses = _whole(poses, last - first)
    poses = replace(poses, interval_s=info.frame_interval_s)
    return Seen(poses=poses, n_bodies=tuple(counts))


def _whole(poses: Poses, n_frames: int) -> Poses:
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


def visual_weights(
    source: VisualSource, *, offline: bool, reporter: Reporter
) -> tuple[str, Identity]:
    """Who makes features of pictures, and with which weights.

    Args:
        source: as it was asked for.
        offline: whether weights may not be fetched.
        reporter: whom to tell.

    Raises:
        UsageError: it is features, which are of one video.
        WeightsError: there are no weights.
    """
    if source.network is None:
        raise UsageError(
            f"{source} is one video's features", hint="name a network: i3d-r50, i3d=FILE"
        )
    if source.network == "i3d-r50":
        return source.network, weights_file(source.path, offline=offline, reporter=reporter)
    assert source.path is not None
    if not source.path.is_file():
        raise WeightsError(f"no weights {printable(source.path)}", hint="i3d=FILE")
    return source.network, identify(source.path)


def load_seer(network: str, weights: Path, device: str) -> Seer:
    """The network that makes features of pictures.

    Raises:
        MissingDependencyError: a package that it needs is absent.
        WeightsError: its weights are not its own.
    """
    if network == "i3d-r50":
        return load_i3d_r50(identify(weights), device=resolve(device))
    return load_i3d(weights, device=resolve(device))


def features_of(
    info: VideoInfo,
    span_s: tuple[float, float],
    seer: Seer,
    *,
    device: str,
    reporter: Reporter,
) -> NDArray[np.float32]:
    """Features of the picture in a stretch of a video, ``(rows, width)``, two rows a second."""
    found = features_of_picture(
        info, seer, device=resolve(device), reporter=reporter, span_s=span_s
    )
    return found.astype(np.float32)
