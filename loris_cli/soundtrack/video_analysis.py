"""Video analysis: poses of the main performer, visual rhythm, motion energy.

video -> one pass over its frames -> poses or optical flow -> rhythm, energy
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from loris_cli.array_types import Array
from loris_cli.config import POSE_FPS
from loris_cli.errors import InputError
from loris_cli.pose.keypoints import Poses
from loris_cli.pose.tracking import estimate_poses
from loris_cli.rhythm.directogram import Compat
from loris_cli.rhythm.flow_rhythm import FlowTrajectories
from loris_cli.rhythm.pose_rhythm import (
    estimate_body_size,
    frame_timestamps,
    motion_energy,
    rhythm_from_poses,
    split_positions_and_scores,
)
from loris_cli.rhythm.rhythm_file import Rhythm
from loris_cli.rhythm.stft_rhythm import rhythm_from_stft
from loris_cli.system.atomic_files import printable_path
from loris_cli.system.prefetch import prefetch_items
from loris_cli.system.progress import NullReporter, Reporter
from loris_cli.system.threads import pool_size
from loris_cli.video.frames import (
    Frame,
    FrameObserver,
    read_frames,
    read_frames_at_fps,
    record_source_times,
)
from loris_cli.video.probe import VideoInfo, probe_video

RhythmMethod = Literal["directogram", "flow", "stft"]

MIN_VIDEO_DURATION_S = 1.0
"""Minimum duration; shorter videos rarely have two peaks."""
MIN_DETECTED_FRACTION = 0.1
"""If a smaller fraction of frames has a detected person, the rhythm is from optical flow."""
POSE_SIDE_PX = 1280
"""Maximum frame side for pose estimation; small persons need more than the network's 224 px."""
MIN_RELIABLE_BODY_PX = 40.0
"""Body size in the frames of pose estimation below which poses are unreliable: the F-measure of
impacts is 0.70 at 43 px, 0.61 at 32 px and 0.44 at 24 px (docs/experiments/rhythm.md)."""
FLOW_MAX_SIDE_PX = 256
MAX_PREFETCHED_FRAMES = 4
"""Frames that are decoded while an earlier one is analyzed; 11 MB at 720p."""
MAX_DURATION_MISMATCH_S = 1.0
"""Maximum difference between the durations of poses and video, which may be rounded or cut."""


@dataclass(frozen=True, kw_only=True)
class VideoAnalysis:
    """Result of the analysis of a video."""

    info: VideoInfo
    poses: Poses | None
    """None if no person is detected, or with the method ``flow``."""
    rhythm: Rhythm
    energy: Array
    """Motion energy, ``(frames,)`` at 16 Hz, 0..1."""
    visual: Array | None = None
    """Visual features, ``(rows, width)``, 2 rows per second; None if unavailable."""

    @property
    def keypoints(self) -> Array | None:
        """Keypoints: x px, y px, score 0..1, ``(frames, 17, 3)``; None without poses."""
        return None if self.poses is None else self.poses.keypoints


def probe_for_rhythm(video: str | Path, *, reporter: Reporter | None = None) -> VideoInfo:
    """Return the properties of a video; check that it is long enough for a rhythm.

    Raises:
        InputError: the file is not a video, or is too short.
    """
    warn = (reporter or NullReporter()).warn
    info = probe_video(Path(video), on_warning=warn)
    if info.duration_s < MIN_VIDEO_DURATION_S:
        raise InputError(
            f"{video} is too short for a rhythm: got {info.duration_s:.2g} s",
            hint=f"pass a video of at least {MIN_VIDEO_DURATION_S:g} s",
        )
    if info.truncated:
        warn(f"{printable_path(video)}: the file is truncated")
    return info


@contextmanager
def _errors_with_name(path: Path) -> Iterator[None]:
    """Add the file to messages of errors in frames, poses or flow, which lack it."""
    try:
        yield
    except InputError as error:
        if printable_path(path.name) in str(error):
            raise
        raise InputError(f"{printable_path(path)}: {error}", hint=error.hint) from error


class PoseEstimator(Protocol):
    """Function that estimates poses; ``pose.tracking.estimate_poses`` is one."""

    def __call__(
        self,
        frames: Iterable[Frame],
        *,
        fps: float,
        size: tuple[int, int],
        progress: Callable[[int, int], None] | None,
    ) -> Poses:
        """Return the poses of the main performer in a sequence of frames."""


def estimate_video_poses(
    info: VideoInfo,
    *,
    reporter: Reporter,
    fallback_flow: "_FallbackFlow | None" = None,
    estimator: PoseEstimator | None = None,
) -> Poses:
    """Estimate the poses of the main performer of a video, at 16 fps.

    Args:
        info: from `probe_for_rhythm`.
        reporter: receives progress and warnings.
        fallback_flow: optical flow to track in the same pass; None for no tracking.
        estimator: pose estimator; None is BlazePose.

    Raises:
        InputError: the video has no readable frames.
    """

    def progress(done: int, n_persons: int) -> None:
        advance(1)
        if fallback_flow is not None and n_persons:
            fallback_flow.n_frames_with_person += 1

    n_frames = round(info.duration_s * POSE_FPS)
    with _errors_with_name(info.path), reporter.stage("poses", n_frames) as advance:
        observer = None
        if fallback_flow is not None:
            observer = FrameObserver(fallback_flow.add_frame, max_side_px=FLOW_MAX_SIDE_PX)
        decoded = read_frames_at_fps(
            info,
            POSE_FPS,
            max_side_px=POSE_SIDE_PX,
            on_warning=reporter.warn,
            observer=observer,
        )
        frames = prefetch_items(decoded, max_items=MAX_PREFETCHED_FRAMES)
        estimate = estimator or partial(estimate_poses, n_threads=pool_size())
        size = (info.width, info.height)
        source_times_s: list[float] = []
        recorded = record_source_times(frames, source_times_s)
        poses = estimate(recorded, fps=POSE_FPS, size=size, progress=progress)
    _warn_if_small(poses, info, reporter)
    return replace(
        poses, frame_interval_s=info.frame_interval_s, source_times_s=np.array(source_times_s)
    )


def _warn_if_small(poses: Poses, info: VideoInfo, reporter: Reporter) -> None:
    """Warn if the performer is too small for reliable poses."""
    if poses.detected_fraction < MIN_DETECTED_FRACTION:
        return
    body_px = estimate_body_size(*split_positions_and_scores(poses.keypoints))
    body_px *= min(POSE_SIDE_PX / max(poses.size), 1.0)
    if body_px < MIN_RELIABLE_BODY_PX:
        reporter.warn(
            f"the person in {printable_path(info.path)} is only {body_px:.0f} pixels tall:"
            " poses and rhythm are unreliable"
        )


class _FallbackFlow:
    """Optical flow, tracked during pose estimation until enough persons are detected."""

    def __init__(self, info: VideoInfo) -> None:
        self.trajectories = FlowTrajectories()
        self.n_frames_with_person = 0
        """Number of frames at 16 fps with a detected person so far."""
        self._max_frames_with_person = MIN_DETECTED_FRACTION * info.duration_s * POSE_FPS

    @property
    def is_complete(self) -> bool:
        """Whether all frames so far were tracked."""
        return self.n_frames_with_person <= self._max_frames_with_person

    def add_frame(self, frame: Frame) -> bool:
        if self.is_complete:
            self.trajectories.add_frame(frame)
        return self.is_complete


def analyze_video(
    video: str | Path | VideoInfo,
    *,
    method: RhythmMethod | None = None,
    compat: Compat = "paper",
    poses: Poses | None = None,
    reporter: Reporter | None = None,
) -> VideoAnalysis:
    """Extract the visual rhythm of a video.

    The frames are decoded once, or twice if the detected person does not move.

    Args:
        video: video file, or its properties from `probe_for_rhythm`.
        method: rhythm method; None is the directogram of the poses, or optical flow if no
            person is detected.
        compat: compatibility mode of the rhythm extraction from poses.
        poses: poses of the video; None runs pose estimation.
        reporter: receives progress and warnings.

    Raises:
        InputError: the file is not a video, is too short or has no motion, or the poses are
            those of another video or not at 16 fps.
    """
    reporter = reporter or NullReporter()
    info = video if isinstance(video, VideoInfo) else probe_for_rhythm(video, reporter=reporter)
    name = printable_path(info.path)
    if poses is not None and poses.fps != POSE_FPS:
        raise InputError(
            f"the poses of {name} are at {poses.fps:g} fps, expected {POSE_FPS:g} fps",
            hint="extract the poses of this video with `loris pose VIDEO`",
        )
    poses_s = info.duration_s if poses is None else poses.n_frames / poses.fps
    if abs(poses_s - info.duration_s) > MAX_DURATION_MISMATCH_S:
        raise InputError(
            f"the duration of the poses ({poses_s:.1f} s) does not match {name}"
            f" ({info.duration_s:.1f} s)",
            hint="extract the poses of this video with `loris pose VIDEO`",
        )
    flow: FlowTrajectories | None = None
    if method != "flow":
        if poses is None:
            fallback = _FallbackFlow(info) if method is None else None
            poses = estimate_video_poses(info, reporter=reporter, fallback_flow=fallback)
            flow = fallback.trajectories if fallback and fallback.is_complete else None
        analysis = _analyze_poses(info, poses, compat, method)
        if analysis is not None:
            return analysis
        if method is not None:
            raise InputError(f"no moving person found in {name}", hint="try --rhythm flow")
        reporter.warn(f"no moving person found in {name}: using the rhythm of optical flow")
    with _errors_with_name(info.path):
        rhythm = (flow or _track_flow(info, reporter)).compute_rhythm()
    frames, energy = np.arange(len(rhythm.envelope)), np.full(len(rhythm.envelope), 0.5)
    if len(rhythm.times_s):
        energy = np.interp(frames, rhythm.times_s * POSE_FPS, 0.3 + 0.7 * rhythm.strengths)
    return VideoAnalysis(info=info, poses=None, rhythm=rhythm, energy=energy)


def compute_pose_rhythm(
    poses: Poses, *, compat: Compat = "paper", method: RhythmMethod | None = None
) -> Rhythm:
    """Return the rhythm of poses; ``method`` must not be ``flow``."""
    if method == "stft":
        return rhythm_from_stft(poses.keypoints, fps=poses.fps, cuts=poses.cuts)
    source_times_s = poses.source_times_s
    if source_times_s is None and poses.frame_interval_s is not None:
        source_times_s = frame_timestamps(poses.n_frames, poses.frame_interval_s, fps=poses.fps)
    return rhythm_from_poses(
        poses.keypoints,
        fps=poses.fps,
        compat=compat,
        source_times_s=source_times_s,
        cuts=poses.cuts,
    )


def _analyze_poses(
    info: VideoInfo, poses: Poses, compat: Compat, method: RhythmMethod | None
) -> VideoAnalysis | None:
    """Return the analysis of poses, or None if they have no rhythm."""
    if poses.detected_fraction < MIN_DETECTED_FRACTION:
        return None
    rhythm = compute_pose_rhythm(poses, compat=compat, method=method)
    if not len(rhythm.times_s):
        return None
    energy = motion_energy(poses.keypoints, poses.fps, cuts=poses.cuts)
    return VideoAnalysis(info=info, poses=poses, rhythm=rhythm, energy=energy)


def _track_flow(info: VideoInfo, reporter: Reporter) -> FlowTrajectories:
    """Track the optical flow of a video in a separate pass."""
    trajectories = FlowTrajectories()
    frames = read_frames(info.path, max_side_px=FLOW_MAX_SIDE_PX, on_warning=reporter.warn)
    with reporter.stage("optical flow", info.n_frames) as advance:
        for frame in frames:
            trajectories.add_frame(frame)
            advance(1)
    return trajectories
