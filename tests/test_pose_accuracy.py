"""Percentage of correct keypoints (PCK) of known errors."""

import numpy as np
import pytest
from builders import make_poses
from pck import JOINT_GROUPS, measure_pose_accuracy

from loris_cli.array_types import Array
from loris_cli.errors import InputError
from loris_cli.pose.keypoints import Poses

N_FRAMES = 4


def make_reference() -> Array:
    """Reference joints on a vertical line of 100 px, ``(frames, 17, 2)``."""
    line = np.column_stack([np.full(17, 50.0), np.linspace(0, 100, 17)])
    return np.repeat(line[None], N_FRAMES, axis=0)


def make_shifted_poses(error_px: float) -> Poses:
    """Reference joints, shifted to the right."""
    return make_poses(make_reference() + np.array([error_px, 0]))


@pytest.mark.parametrize(
    ("error_px", "pck_10", "pck_20"), [(0, 1, 1), (9, 1, 1), (15, 0, 1), (25, 0, 0)]
)
def test_pck_thresholds_are_fractions_of_the_person_size(
    error_px: float, pck_10: float, pck_20: float
) -> None:
    accuracy = measure_pose_accuracy(make_shifted_poses(error_px), make_reference())

    assert (accuracy.pck_10, accuracy.pck_20) == (pck_10, pck_20)
    assert accuracy.median_error_px == pytest.approx(error_px)
    assert accuracy.median_relative_error == pytest.approx(error_px / 100)
    assert (accuracy.detected_fraction, accuracy.n_tracks) == (1, 1)


def test_joint_groups_are_measured_separately() -> None:
    poses, reference = make_shifted_poses(0), make_reference()
    poses.keypoints[:, JOINT_GROUPS["wrists"], 0] += 30

    wrists = measure_pose_accuracy(poses, reference, joints=JOINT_GROUPS["wrists"])
    ankles = measure_pose_accuracy(poses, reference, joints=JOINT_GROUPS["ankles"])

    assert (wrists.pck_20, ankles.pck_10) == (0, 1)
    assert measure_pose_accuracy(poses, reference).pck_10 == pytest.approx(15 / 17)


def test_joint_groups_contain_each_joint_once() -> None:
    assert sorted(k for group in JOINT_GROUPS.values() for k in group) == list(range(17))


@pytest.mark.parametrize(
    ("interpolated", "cuts", "detected_fraction", "n_tracks"),
    [([True, False, False, False], [2], 0.75, 2), ([True] * 4, [], 0, 0)],
)
def test_detected_frames_and_tracks_are_counted(
    interpolated: list[bool], cuts: list[int], detected_fraction: float, n_tracks: int
) -> None:
    poses = make_poses(make_reference(), interpolated=interpolated, cuts=cuts)

    accuracy = measure_pose_accuracy(poses, make_reference())

    assert (accuracy.detected_fraction, accuracy.n_tracks) == (detected_fraction, n_tracks)


def test_reference_with_other_frame_count_is_refused() -> None:
    with pytest.raises(InputError, match=r"\(3, 17, 2\)"):
        measure_pose_accuracy(make_shifted_poses(0), make_reference()[:-1])
