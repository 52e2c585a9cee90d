"""Accuracy of the pose estimators on rendered clips: ``python experiments/pose_accuracy.py``.

Each clip shows one person with strong impacts: near or far, in a gym or on a rink, from the
front, the side or behind, upright, lying or upside down (rotated frames). The clips are encoded
to video files, so the accuracy includes the losses of the codec. The estimator is BlazePose, or
the mmpose network of ``--weights``.
"""

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pck import JOINT_GROUPS, PoseAccuracy, measure_pose_accuracy

from loris_cli.config import DEFAULT_MMPOSE_CONFIG, POSE_FPS
from loris_cli.pose.batched_detection import estimate_poses_batched
from loris_cli.pose.keypoints import Poses
from loris_cli.pose.tracking import estimate_poses
from loris_cli.synthetic.motion import sample_impact_motion
from loris_cli.synthetic.render import render_video, sample_static_camera
from loris_cli.synthetic.scene import Camera, SceneName
from loris_cli.video.frames import Frame, read_frames_at_fps

CLIP_S = 8.0


@dataclass(frozen=True, kw_only=True)
class RenderedClip:
    """Parameters of a rendered clip."""

    name: str
    seed: int
    venue: SceneName
    size_px: tuple[int, int]
    relative_distance: float = 1.0
    """Distance from the camera, relative to `sample_static_camera`."""
    quarter_turns: int = 0
    """Counter-clockwise quarter turns of the frame: 1 is lying, 2 is upside down."""
    azimuth_deg: float = 0.0
    """Offset from the azimuth of `sample_static_camera` (within 35 degrees of the front)."""


UPRIGHT_CLIPS = (
    RenderedClip(name="gym, near", seed=31, venue="gym", size_px=(320, 240)),
    RenderedClip(name="gym, near, large", seed=32, venue="gym", size_px=(640, 480)),
    RenderedClip(
        name="rink, far", seed=33, venue="rink", size_px=(640, 480), relative_distance=2.0
    ),
    RenderedClip(
        name="rink, very far", seed=34, venue="rink", size_px=(640, 480), relative_distance=3.5
    ),
    RenderedClip(
        name="gym, from the side", seed=35, venue="gym", size_px=(320, 240), azimuth_deg=90
    ),
    RenderedClip(
        name="gym, from behind", seed=36, venue="gym", size_px=(320, 240), azimuth_deg=180
    ),
)

ROTATED_CLIPS = (
    RenderedClip(name="gym, lying", seed=37, venue="gym", size_px=(320, 240), quarter_turns=1),
    RenderedClip(
        name="gym, upside down", seed=38, venue="gym", size_px=(320, 240), quarter_turns=2
    ),
)


def render_clip(clip: RenderedClip, path: Path) -> NDArray[np.float64]:
    """Write the video of a clip and return its reference joints in px, ``(frames, 17, 2)``."""
    near = sample_static_camera(clip.seed)
    cos, sin = np.cos(np.radians(clip.azimuth_deg)), np.sin(np.radians(clip.azimuth_deg))
    rotation = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    offset = clip.relative_distance * rotation @ (near.position - near.target)
    camera = Camera(near.target + offset, near.target)
    joints = render_video(
        path,
        sample_impact_motion(clip.seed, CLIP_S),
        timing=POSE_FPS,
        size=clip.size_px,
        seed=clip.seed,
        scene_name=clip.venue,
        camera=lambda time_s: camera,
    )
    return joints + 0.5  # in the renderer, pixel centers have integer coordinates


def format_row(name: str, accuracy: PoseAccuracy) -> str:
    """Format the accuracy of a clip as a table row."""
    return (
        f"{name:<24} {accuracy.pck_10:7.3f} {accuracy.pck_20:7.3f}"
        f" {accuracy.median_error_px:9.2f} {accuracy.median_relative_error:13.4f}"
        f" {100 * accuracy.detected_fraction:9.1f} {accuracy.n_tracks:7}"
    )


def estimate_clip(
    clip: RenderedClip, estimate: Callable[..., Poses], folder: str
) -> tuple[Poses, NDArray[np.float64]]:
    """Return the estimated poses and the reference joints of a clip, for the same frames."""
    video = Path(folder, f"{clip.seed}.mp4")
    reference = render_clip(clip, video)
    width, height = clip.size_px
    for _ in range(clip.quarter_turns):  # counter-clockwise, like np.rot90
        reference = np.stack([reference[..., 1], width - reference[..., 0]], axis=-1)
        width, height = height, width
    frames = (
        Frame(
            time_s=frame.time_s,
            rgb=np.ascontiguousarray(np.rot90(frame.rgb, clip.quarter_turns)),
        )
        for frame in read_frames_at_fps(video, POSE_FPS)
    )
    poses = estimate(frames, fps=POSE_FPS, size=(width, height))
    assert abs(poses.n_frames - len(reference)) <= 1
    return poses, reference[: poses.n_frames]


def main() -> None:
    """Render clips, estimate their poses and print the accuracy."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, help="Checkpoint of an mmpose network.")
    parser.add_argument("--network", default=DEFAULT_MMPOSE_CONFIG)
    parser.add_argument("--rotated-only", action="store_true", help="Only the rotated clips.")
    options = parser.parse_args()
    estimate: Callable[..., Poses] = estimate_poses
    if options.weights is not None:
        from loris_cli.pose.mmpose_estimator import MmposeEstimator

        estimate = partial(
            estimate_poses_batched, MmposeEstimator(options.weights, network=options.network)
        )
    print(f"{CLIP_S:g} s each at {POSE_FPS:g} fps; seed in parentheses; rel. = / person size")
    print("clip                     PCK@0.1 PCK@0.2 median px   rel. median detected%  tracks")
    with tempfile.TemporaryDirectory() as folder:
        for clip in ROTATED_CLIPS:
            print(
                format_row(
                    f"{clip.name} ({clip.seed})",
                    measure_pose_accuracy(*estimate_clip(clip, estimate, folder)),
                )
            )
        if options.rotated_only:
            return
        results = []
        for clip in UPRIGHT_CLIPS:
            results.append(estimate_clip(clip, estimate, folder))
            print(format_row(f"{clip.name} ({clip.seed})", measure_pose_accuracy(*results[-1])))
    print("\nupright   PCK@0.1 PCK@0.2   rel. median (mean over clips)")
    for group, joints in (("all", None), *JOINT_GROUPS.items()):
        accuracies = [
            measure_pose_accuracy(poses, reference, joints=joints)
            for poses, reference in results
        ]
        pck_10, pck_20, error = (
            np.mean([getattr(accuracy, name) for accuracy in accuracies])
            for name in ("pck_10", "pck_20", "median_relative_error")
        )
        print(f"{group:<10} {pck_10:6.3f} {pck_20:7.3f} {error:13.4f}")


if __name__ == "__main__":
    main()
