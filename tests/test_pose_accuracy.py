"""Accuracy of poses against the reference, by hand."""

from dataclasses import replace

import numpy as np
import pytest
from pck import JOINT_GROUPS, measure_pose_accuracy

from loris_cli.errors import InputError
from loris_cli.pose.keypoints import Poses

N_FRAMES = 4


def true_joints() -> np.ndarray:
    """Seventeen joints in a column of 100 px."""
    column = np.column_stack([np.full(17, 50.0), np.linspace(0, 100, 17)])
    return np.repeat(column[None], N_FRAMES, axis=0)


def estimated_poses(error_px: float) -> Poses:
    """The true joints, moved to the right."""
    keypoints = np.full((N_FRAMES, 17, 3), 0.9, np.float32)
    keypoints[..., :2] = true_joints() + np.array([error_px, 0])
    return Poses(
        keypoints=keypoints,
        times_s=np.arange(N_FRAMES) / 16,
        fps=16.0,
        size=(100, 100),
        interpolated=np.zeros(N_FRAMES, bool),
        cuts=np.zeros(0, np.int64),
    )


@pytest.mark.parametrize(
    ("error_px", "pck_10", "pck_20"), [(0, 1, 1), (9, 1, 1), (15, 0, 1), (25, 0, 0)]
)
def test_joints_count_within_a_share_of_the_body(
    error_px: float, pck_10: float, pck_20: float
) -> None:
    accuracy = measure_pose_accuracy(estimated_poses(error_px), true_joints())
    assert (accuracy.pck_10, accuracy.pck_20) == (pck_10, pck_20)
    assert accuracy.median_error_px == pytest.approx(error_px)
    assert accuracy.median_relative_error == pytest.approx(error_px / 100)
    assert (accuracy.detected_fraction, accuracy.n_tracks) == (1, 1)


def test_some_joints_alone() -> None:
    poses = estimated_poses(0)
    poses.keypoints[:, JOINT_GROUPS["wrists"], 0] += 30
    assert (
        measure_pose_accuracy(poses, true_joints(), joints=JOINT_GROUPS["wrists"]).pck_20 == 0
    )
    assert (
        measure_pose_accuracy(poses, true_joints(), joints=JOINT_GROUPS["ankles"]).pck_10 == 1
    )
    assert measure_pose_accuracy(poses, true_joints()).pck_10 == pytest.approx(15 / 17)
    assert sorted(k for group in JOINT_GROUPS.values() for k in group) == list(range(17))


def test_lost_bodies_are_counted() -> None:
    poses = replace(
        estimated_poses(0),
        interpolated=np.array([True, False, False, False]),
        cuts=np.array([2], np.int64),
    )
    accuracy = measure_pose_accuracy(poses, true_joints())
    assert (accuracy.detected_fraction, accuracy.n_tracks) == (0.75, 2)


def test_the_truth_of_other_frames_is_refused() -> None:
    with pytest.raises(InputError, match="true joints"):
        measure_pose_accuracy(estimated_poses(0), true_joints()[:-1])
