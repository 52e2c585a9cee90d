"""The rhythm is that of the dancer beside a larger person who stands still."""

from itertools import islice
from pathlib import Path

import cv2
import mir_eval
import numpy as np
import pytest
from numpy.typing import NDArray

from loris_cli.pose.tracking import estimate_poses
from loris_cli.rhythm.pose_rhythm import rhythm_from_poses
from loris_cli.video.frames import Frame, read_frames_at_fps

SKATE = Path(__file__).parents[1] / "examples" / "skate.mp4"
FPS, START_S, DURATION_S = 16, 14, 8


def detect_impacts(images: list[NDArray[np.uint8]]) -> NDArray[np.float64]:
    size = (images[0].shape[1], images[0].shape[0])
    frames = (Frame(time_s=k / FPS, rgb=image) for k, image in enumerate(images))
    poses = estimate_poses(frames, fps=FPS, size=size)
    return rhythm_from_poses(poses.keypoints, fps=FPS, cuts=poses.cuts).times_s


@pytest.mark.slow
@pytest.mark.parametrize("dancer_height_px", [240, 480])
def test_rhythm_is_that_of_the_smaller_dancer(dancer_height_px: int) -> None:
    frames = islice(read_frames_at_fps(SKATE, FPS), (START_S + DURATION_S) * FPS)
    images = [frame.rgb[:, 160:480] for frame in frames][START_S * FPS :]
    at_rest = cv2.resize(images[32], (640, 720))
    scenes = []
    for image in images:
        scene = np.full((720, 1280, 3), 128, np.uint8)
        scene[:, :640] = at_rest
        width = dancer_height_px * 320 // 360
        scene[-dancer_height_px:, 640 : 640 + width] = cv2.resize(
            image, (width, dancer_height_px)
        )
        scenes.append(scene)

    expected, actual = detect_impacts(images), detect_impacts(scenes)

    f_measure, _, _ = mir_eval.onset.f_measure(expected, actual, window=0.07)
    assert f_measure >= 0.7
