"""Accuracy of the pose estimators on rendered clips: ``python experiments/pose_accuracy.py``.

Clips of a body that strikes, each by its seed: near and far, in a gym and on a rink, from the
front, the side and behind; and, turned with the picture, lying and upside down. They are
rendered to video files, so that what is measured includes the decoder. With ``--weights`` the
same clips are seen by one of mmpose's networks.
"""

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pck import GROUPS, Accuracy, accuracy

from loris_cli.config import MMPOSE_NETWORK, POSE_FPS
from loris_cli.pose.batched_detection import estimate_with
from loris_cli.pose.keypoints import Poses
from loris_cli.pose.tracking import estimate_poses
from loris_cli.synthetic.motion import strike_motion
from loris_cli.synthetic.render import portrait, render_video
from loris_cli.synthetic.scene import Camera, Place
from loris_cli.video.frames import Frame, frames_at

SECONDS = 8.0


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A clip to be rendered."""

    name: str
    seed: int
    place: Place
    size: tuple[int, int]
    away: float = 1.0
    """So many times as far from the camera as a portrait."""
    quarters: int = 0
    """Quarter turns of the picture: 1 lays the body down, 2 stands it on its head."""
    around_deg: float = 0.0
    """The camera stands so far around the body; 0 is before it, give or take 35."""


UPRIGHT = (
    Clip(name="gym, near", seed=31, place="gym", size=(320, 240)),
    Clip(name="gym, near, large", seed=32, place="gym", size=(640, 480)),
    Clip(name="rink, far", seed=33, place="rink", size=(640, 480), away=2.0),
    Clip(name="rink, very far", seed=34, place="rink", size=(640, 480), away=3.5),
    Clip(name="gym, from the side", seed=35, place="gym", size=(320, 240), around_deg=90),
    Clip(name="gym, from behind", seed=36, place="gym", size=(320, 240), around_deg=180),
)

TURNED = (
    Clip(name="gym, lying", seed=37, place="gym", size=(320, 240), quarters=1),
    Clip(name="gym, upside down", seed=38, place="gym", size=(320, 240), quarters=2),
)


def render(clip: Clip, path: Path) -> NDArray[np.float64]:
    """Write a clip's video and give its true joints, ``(frames, 17, 2)`` in px."""
    near = portrait(clip.seed)
    cos, sin = np.cos(np.radians(clip.around_deg)), np.sin(np.radians(clip.around_deg))
    turn = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    aside = clip.away * turn @ (near.position - near.target)
    camera = Camera(near.target + aside, near.target)
    true = render_video(
        path,
        strike_motion(clip.seed, SECONDS),
        fps=POSE_FPS,
        size=clip.size,
        seed=clip.seed,
        place=clip.place,
        camera=lambda time_s: camera,
    )
    return true + 0.5  # the renderer counts from the middle of the first pixel, poses do not


def line(name: str, found: Accuracy) -> str:
    """A row of the table."""
    return (
        f"{name:<24} {found.pck_10:7.3f} {found.pck_20:7.3f} {found.median_px:9.2f}"
        f" {found.median_bodies:13.4f} {100 * found.seen_share:9.1f} {found.n_tracks:7}"
    )


def see(
    clip: Clip, estimate: Callable[..., Poses], folder: str
) -> tuple[Poses, NDArray[np.float64]]:
    """Poses of a clip, and its true joints, frame by frame the same."""
    video = Path(folder, f"{clip.seed}.mp4")
    truth = render(clip, video)
    width, height = clip.size
    for _ in range(clip.quarters):  # as the pictures turn: counter-clockwise
        truth = np.stack([truth[..., 1], width - truth[..., 0]], axis=-1)
        width, height = height, width
    shown = (
        Frame(time_s=frame.time_s, rgb=np.ascontiguousarray(np.rot90(frame.rgb, clip.quarters)))
        for frame in frames_at(video, POSE_FPS)
    )
    poses = estimate(shown, fps=POSE_FPS, size=(width, height))
    assert abs(poses.n_frames - len(truth)) <= 1
    return poses, truth[: poses.n_frames]


def main() -> None:
    """Render, look, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, help="of one of mmpose's networks")
    parser.add_argument("--network", default=MMPOSE_NETWORK)
    parser.add_argument("--turned-only", action="store_true", help="leave the upright ones out")
    given = parser.parse_args()
    estimate: Callable[..., Poses] = estimate_poses
    if given.weights is not None:
        from loris_cli.pose.mmpose_estimator import TopDown

        estimate = partial(estimate_with, TopDown(given.weights, network=given.network))
    print(f"{SECONDS:g} s each at {POSE_FPS:g} fps; after each name the seed")
    print("clip                     PCK@0.1 PCK@0.2 median px median bodies  frames %  tracks")
    with tempfile.TemporaryDirectory() as folder:
        for clip in TURNED:
            print(line(f"{clip.name} ({clip.seed})", accuracy(*see(clip, estimate, folder))))
        if given.turned_only:
            return
        seen = []
        for clip in UPRIGHT:
            seen.append(see(clip, estimate, folder))
            print(line(f"{clip.name} ({clip.seed})", accuracy(*seen[-1])))
    print("\nupright   PCK@0.1 PCK@0.2 median bodies, mean of the clips")
    for group, joints in (("all", None), *GROUPS.items()):
        parts = [accuracy(poses, truth, joints=joints) for poses, truth in seen]
        pck_10, pck_20, off = (
            np.mean([getattr(part, name) for part in parts])
            for name in ("pck_10", "pck_20", "median_bodies")
        )
        print(f"{group:<10} {pck_10:6.3f} {pck_20:7.3f} {off:13.4f}")


if __name__ == "__main__":
    main()
