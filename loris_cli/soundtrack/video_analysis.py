"""What is seen in a video: who moves, when the movement strikes, how lively it is.

video -> one pass over its frames -> poses, and flow while nobody is seen -> rhythm, energy
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from loris_cli.config import POSE_FPS
from loris_cli.errors import InputError
from loris_cli.pose.keypoints import Poses
from loris_cli.pose.tracking import estimate_poses
from loris_cli.rhythm.directogram import Compat
from loris_cli.rhythm.flow_rhythm import FlowTrajectories
from loris_cli.rhythm.pose_rhythm import motion_energy, rhythm_from_poses
from loris_cli.rhythm.rhythm_file import Rhythm
from loris_cli.rhythm.stft_rhythm import rhythm_from_stft
from loris_cli.system.atomic_files import printable_path
from loris_cli.system.progress import NullReporter, Reporter
from loris_cli.video.frames import Frame, FrameObserver, read_frames, read_frames_at_fps
from loris_cli.video.probe import VideoInfo, probe_video

Array = NDArray[np.float64]
RhythmMethod = Literal["directogram", "flow", "stft"]

MIN_VIDEO_DURATION_S = 1.0
"""A shorter video has no rhythm: two strikes hardly fit into it."""
MIN_DETECTED_FRACTION = 0.1
"""A body seen in fewer of the frames leads nothing: the picture's own movement does."""
POSE_MAX_SIDE_PX = 1280
"""Frames are looked at no larger than this; far bodies need more than a network's 224 px."""
POSE_THREADS = 2
FLOW_MAX_SIDE_PX = 256
MAX_DURATION_MISMATCH_S = 1.0
"""Poses of a video may end so much before or after it: containers round, ends are cut."""


@dataclass(frozen=True, kw_only=True)
class VideoAnalysis:
    """What was seen in a video."""

    info: VideoInfo
    poses: Poses | None
    """None where nobody was seen, or flow was asked for."""
    rhythm: Rhythm
    energy: Array
    """How lively the movement is, ``(frames,)`` at 16 Hz, 0..1."""
    visual: Array | None = None
    """Features of the picture, ``(rows, width)``, 2 a second, if somebody made them."""


def probe_for_rhythm(video: str | Path, *, reporter: Reporter | None = None) -> VideoInfo:
    """What a video is, if it can have a rhythm.

    Raises:
        InputError: it is no video, or too short.
    """
    video = Path(video)
    info = probe_video(video)
    if info.duration_s < MIN_VIDEO_DURATION_S:
        raise InputError(
            f"{printable_path(video)} lasts {info.duration_s:.2g} s, too short to have a rhythm",
            hint=f"give a video of {MIN_VIDEO_DURATION_S:g} s or more",
        )
    if info.truncated:
        (reporter or NullReporter()).warn(
            f"{printable_path(video)} ends early; what is there is used"
        )
    return info


class PoseEstimator(Protocol):
    """What makes poses of frames; ``pose.tracking.estimate_poses`` does."""

    def __call__(
        self,
        frames: Iterable[Frame],
        *,
        fps: float,
        size: tuple[int, int],
        progress: Callable[[int, int], None] | None,
    ) -> Poses:
        """The poses of the main performer in frames."""


def estimate_video_poses(
    info: VideoInfo,
    *,
    reporter: Reporter,
    fallback_flow: "_FallbackFlow | None" = None,
    estimator: PoseEstimator | None = None,
) -> Poses:
    """Poses of the main performer of a video, at 16 fps.

    Args:
        info: from `probe_for_rhythm`.
        reporter: whom to tell.
        fallback_flow: follows the picture's own movement in the same pass.
        estimator: who makes the poses; None is the embedded one.

    Raises:
        InputError: the video has no readable pictures.
    """

    def progress(done: int, n_bodies: int) -> None:
        advance(1)
        if fallback_flow is not None and n_bodies:
            fallback_flow.n_frames_with_person += 1

    n_frames = round(info.duration_s * POSE_FPS)
    with reporter.stage("poses", n_frames) as advance:
        shown = read_frames_at_fps(
            info.path,
            POSE_FPS,
            max_side_px=POSE_MAX_SIDE_PX,
            on_warning=reporter.warn,
            observer=None
            if fallback_flow is None
            else FrameObserver(fallback_flow.add_frame, max_side_px=FLOW_MAX_SIDE_PX),
        )
        estimate = estimator or partial(estimate_poses, n_threads=POSE_THREADS)
        poses = estimate(shown, fps=POSE_FPS, size=(info.width, info.height), progress=progress)
    return replace(poses, frame_interval_s=info.frame_interval_s)


class _FallbackFlow:
    """Flow that is followed beside the poses until it is plain that a body leads."""

    def __init__(self, info: VideoInfo) -> None:
        self.paths = FlowTrajectories()
        self.n_frames_with_person = 0
        """Frames at 16 fps with a body in them, so far."""
        self._max_frames_with_person = MIN_DETECTED_FRACTION * info.duration_s * POSE_FPS

    @property
    def is_complete(self) -> bool:
        """Whether every frame was followed."""
        return self.n_frames_with_person <= self._max_frames_with_person

    def add_frame(self, frame: Frame) -> bool:
        if self.is_complete:
            self.paths.add_frame(frame)
        return self.is_complete


def analyze_video(
    video: str | Path | VideoInfo,
    *,
    method: RhythmMethod | None = None,
    compat: Compat = "paper",
    poses: Poses | None = None,
    reporter: Reporter | None = None,
) -> VideoAnalysis:
    """Find out what moves in a video, and when.

    Its frames are decoded once; a second time only where a body is seen that does not move.

    Args:
        video: a video file, or what `probe_for_rhythm` found of it.
        method: where the rhythm comes from; None is the body's directogram, or the picture's
            flow where no body is to be seen.
        compat: reading of the paper for the body's rhythm.
        poses: found before, instead of looking for them.
        reporter: whom to tell.

    Raises:
        InputError: it is no video, too short, or nothing moves in it; or the poses are of
            another one.
    """
    reporter = reporter or NullReporter()
    info = video if isinstance(video, VideoInfo) else probe_for_rhythm(video, reporter=reporter)
    name = printable_path(info.path)
    if (
        poses is not None
        and abs(poses.n_frames / poses.fps - info.duration_s) > MAX_DURATION_MISMATCH_S
    ):
        raise InputError(
            f"the poses last {poses.n_frames / poses.fps:.1f} s and {name}"
            f" {info.duration_s:.1f} s: they are not of one video",
            hint="make them again with `loris pose VIDEO`",
        )
    flow: FlowTrajectories | None = None
    if method != "flow":
        if poses is None:
            meanwhile = _FallbackFlow(info) if method is None else None
            poses = estimate_video_poses(info, reporter=reporter, fallback_flow=meanwhile)
            flow = meanwhile.paths if meanwhile and meanwhile.is_complete else None
        lead = _analyze_poses(info, poses, compat, method)
        if lead is not None:
            return lead
        if method is not None:
            raise InputError(f"no moving body in {name}", hint="try --rhythm flow")
        reporter.warn(f"no moving body in {name}: the picture's own movement leads")
    rhythm = (flow or _track_flow(info, reporter)).compute_rhythm()
    energy = np.interp(
        np.arange(len(rhythm.envelope)),
        *_energy_knots(rhythm.times_s * POSE_FPS, rhythm.strengths),
    )
    return VideoAnalysis(info=info, poses=None, rhythm=rhythm, energy=energy)


def compute_pose_rhythm(
    poses: Poses, *, compat: Compat = "paper", method: RhythmMethod | None = None
) -> Rhythm:
    """The rhythm of a body alone, with no video at hand; ``method`` is not ``flow``."""
    if method == "stft":
        return rhythm_from_stft(poses.keypoints, fps=poses.fps, cuts=poses.cuts)
    return rhythm_from_poses(
        poses.keypoints,
        fps=poses.fps,
        compat=compat,
        frame_interval_s=poses.frame_interval_s,
        cuts=poses.cuts,
    )


def _analyze_poses(
    info: VideoInfo, poses: Poses, compat: Compat, method: RhythmMethod | None
) -> VideoAnalysis | None:
    """The rhythm of the body, or None where there is none to follow."""
    if poses.detected_fraction < MIN_DETECTED_FRACTION:
        return None
    rhythm = compute_pose_rhythm(poses, compat=compat, method=method)
    if not len(rhythm.times_s):
        return None
    energy = motion_energy(poses.keypoints, poses.fps, cuts=poses.cuts)
    return VideoAnalysis(info=info, poses=poses, rhythm=rhythm, energy=energy)


def _track_flow(info: VideoInfo, reporter: Reporter) -> FlowTrajectories:
    """The flow of a whole video, in a pass of its own."""
    paths = FlowTrajectories()
    with reporter.stage("flow", info.n_frames) as advance:
        for frame in read_frames(
            info.path, max_side_px=FLOW_MAX_SIDE_PX, on_warning=reporter.warn
        ):
            paths.add_frame(frame)
            advance(1)
    return paths


def _energy_knots(peak_frames: Array, strengths: Array) -> tuple[Array, Array]:
    """Knots of a liveliness curve where only peaks are known."""
    if not len(peak_frames):
        return np.zeros(1), np.full(1, 0.5)
    return peak_frames, 0.3 + 0.7 * strengths
