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
from loris_cli.rhythm.flow_rhythm import FlowPaths
from loris_cli.rhythm.pose_rhythm import motion_energy, rhythm_from_poses
from loris_cli.rhythm.rhythm_file import Rhythm
from loris_cli.rhythm.stft_rhythm import rhythm_from_stft
from loris_cli.system.atomic_files import printable
from loris_cli.system.progress import Reporter, Silent
from loris_cli.video.frames import Frame, Watch, frames, frames_at
from loris_cli.video.probe import VideoInfo, probe

Array = NDArray[np.float64]
Method = Literal["directogram", "flow", "stft"]

SHORTEST_S = 1.0
"""A shorter video has no rhythm: two strikes hardly fit into it."""
SEEN_SHARE = 0.1
"""A body seen in fewer of the frames leads nothing: the picture's own movement does."""
POSE_SIDE_PX = 1280
"""Frames are looked at no larger than this; far bodies need more than a network's 224 px."""
POSE_THREADS = 2
FLOW_SIDE_PX = 256
SAME_LENGTH_S = 1.0
"""Poses of a video may end so much before or after it: containers round, ends are cut."""


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What was seen in a video."""

    info: VideoInfo
    poses: Poses | None
    """None where nobody was seen, or flow was asked for."""
    rhythm: Rhythm
    energy: Array
    """How lively the movement is, ``(frames,)`` at 16 Hz, 0..1."""
    visual: Array | None = None
    """Features of the picture, ``(rows, width)``, 2 a second, if somebody made them."""


def look(video: str | Path, *, reporter: Reporter | None = None) -> VideoInfo:
    """What a video is, if it can have a rhythm.

    Raises:
        InputError: it is no video, or too short.
    """
    video = Path(video)
    info = probe(video)
    if info.duration_s < SHORTEST_S:
        raise InputError(
            f"{printable(video)} lasts {info.duration_s:.2g} s, too short to have a rhythm",
            hint=f"give a video of {SHORTEST_S:g} s or more",
        )
    if info.truncated:
        (reporter or Silent()).warn(f"{printable(video)} ends early; what is there is used")
    return info


class Estimator(Protocol):
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


def find_poses(
    info: VideoInfo,
    *,
    reporter: Reporter,
    flow: "_FlowMeanwhile | None" = None,
    estimator: Estimator | None = None,
) -> Poses:
    """Poses of the main performer of a video, at 16 fps.

    Args:
        info: from `look`.
        reporter: whom to tell.
        flow: follows the picture's own movement in the same pass.
        estimator: who makes the poses; None is the embedded one.

    Raises:
        InputError: the video has no readable pictures.
    """

    def progress(done: int, n_bodies: int) -> None:
        advance(1)
        if flow is not None and n_bodies:
            flow.n_seen += 1

    n_frames = round(info.duration_s * POSE_FPS)
    with reporter.stage("poses", n_frames) as advance:
        shown = frames_at(
            info.path,
            POSE_FPS,
            max_side_px=POSE_SIDE_PX,
            on_warning=reporter.warn,
            watch=None if flow is None else Watch(flow.see, max_side_px=FLOW_SIDE_PX),
        )
        estimate = estimator or partial(estimate_poses, n_threads=POSE_THREADS)
        poses = estimate(shown, fps=POSE_FPS, size=(info.width, info.height), progress=progress)
    return replace(poses, interval_s=info.frame_interval_s)


class _FlowMeanwhile:
    """Flow that is followed beside the poses until it is plain that a body leads."""

    def __init__(self, info: VideoInfo) -> None:
        self.paths = FlowPaths()
        self.n_seen = 0
        """Frames at 16 fps with a body in them, so far."""
        self._enough = SEEN_SHARE * info.duration_s * POSE_FPS

    @property
    def whole(self) -> bool:
        """Whether every frame was followed."""
        return self.n_seen <= self._enough

    def see(self, frame: Frame) -> bool:
        if self.whole:
            self.paths.add(frame)
        return self.whole


def observe(
    video: str | Path | VideoInfo,
    *,
    method: Method | None = None,
    compat: Compat = "paper",
    poses: Poses | None = None,
    reporter: Reporter | None = None,
) -> Observation:
    """Find out what moves in a video, and when.

    Its frames are decoded once; a second time only where a body is seen that does not move.

    Args:
        video: a video file, or what `look` found of it.
        method: where the rhythm comes from; None is the body's directogram, or the picture's
            flow where no body is to be seen.
        compat: reading of the paper for the body's rhythm.
        poses: found before, instead of looking for them.
        reporter: whom to tell.

    Raises:
        InputError: it is no video, too short, or nothing moves in it; or the poses are of
            another one.
    """
    reporter = reporter or Silent()
    info = video if isinstance(video, VideoInfo) else look(video, reporter=reporter)
    name = printable(info.path)
    if poses is not None and abs(poses.n_frames / poses.fps - info.duration_s) > SAME_LENGTH_S:
        raise InputError(
            f"the poses last {poses.n_frames / poses.fps:.1f} s and {name}"
            f" {info.duration_s:.1f} s: they are not of one video",
            hint="make them again with `loris pose VIDEO`",
        )
    flow: FlowPaths | None = None
    if method != "flow":
        if poses is None:
            meanwhile = _FlowMeanwhile(info) if method is None else None
            poses = find_poses(info, reporter=reporter, flow=meanwhile)
            flow = meanwhile.paths if meanwhile and meanwhile.whole else None
        lead = _led_by_body(info, poses, compat, method)
        if lead is not None:
            return lead
        if method is not None:
            raise InputError(f"no moving body in {name}", hint="try --rhythm flow")
        reporter.warn(f"no moving body in {name}: the picture's own movement leads")
    rhythm = (flow or _flow_of(info, reporter)).rhythm()
    energy = np.interp(
        np.arange(len(rhythm.envelope)), *_smooth(rhythm.times_s * POSE_FPS, rhythm.strengths)
    )
    return Observation(info=info, poses=None, rhythm=rhythm, energy=energy)


def rhythm_of(
    poses: Poses, *, compat: Compat = "paper", method: Method | None = None
) -> Rhythm:
    """The rhythm of a body alone, with no video at hand; ``method`` is not ``flow``."""
    if method == "stft":
        return rhythm_from_stft(poses.keypoints, fps=poses.fps, cuts=poses.cuts)
    return rhythm_from_poses(
        poses.keypoints,
        fps=poses.fps,
        compat=compat,
        interval_s=poses.interval_s,
        cuts=poses.cuts,
    )


def _led_by_body(
    info: VideoInfo, poses: Poses, compat: Compat, method: Method | None
) -> Observation | None:
    """The rhythm of the body, or None where there is none to follow."""
    if poses.seen_share < SEEN_SHARE:
        return None
    rhythm = rhythm_of(poses, compat=compat, method=method)
    if not len(rhythm.times_s):
        return None
    energy = motion_energy(poses.keypoints, poses.fps, cuts=poses.cuts)
    return Observation(info=info, poses=poses, rhythm=rhythm, energy=energy)


def _flow_of(info: VideoInfo, reporter: Reporter) -> FlowPaths:
    """The flow of a whole video, in a pass of its own."""
    paths = FlowPaths()
    with reporter.stage("flow", info.n_frames) as advance:
        for frame in frames(info.path, max_side_px=FLOW_SIDE_PX, on_warning=reporter.warn):
            paths.add(frame)
            advance(1)
    return paths


def _smooth(frames: Array, strengths: Array) -> tuple[Array, Array]:
    """Knots of a liveliness curve where only peaks are known."""
    if not len(frames):
        return np.zeros(1), np.full(1, 0.5)
    return frames, 0.3 + 0.7 * strengths
