"""Pose accuracy (PCK) on rendered clips with known joints.

PCK@a is the fraction of joints whose error is at most a times the person size. The person size
is the longer side of the bounding box of the reference joints in that frame (after Yang and
Ramanan, PAMI 2013).
"""

from dataclasses import dataclass

import numpy as np

from loris_cli.errors import InputError
from loris_cli.pose.keypoints import COCO_17, Array, Poses

JOINT_GROUPS = {
    "head": [0, 1, 2, 3, 4],
    "shoulders": [5, 6],
    "elbows": [7, 8],
    "wrists": [9, 10],
    "hips": [11, 12],
    "knees": [13, 14],
    "ankles": [15, 16],
}
"""Indices into ``COCO_17``; left and right joints form one group."""


@dataclass(frozen=True, kw_only=True)
class PoseAccuracy:
    """Accuracy of estimated joints over all frames, including interpolated ones."""

    pck_10: float
    """PCK@0.1: fraction of joints with an error of at most 0.1 person sizes."""
    pck_20: float
    """PCK@0.2."""
    median_error_px: float
    """Median joint error in pixels."""
    median_relative_error: float
    """Median joint error, relative to the person size."""
    detected_fraction: float
    """Fraction of frames with a detected person."""
    n_tracks: int
    """Number of successive tracks; 1 if the track of the person never breaks."""


def measure_pose_accuracy(
    poses: Poses, reference: Array, *, joints: list[int] | None = None
) -> PoseAccuracy:
    """Compare estimated poses with reference joints.

    Args:
        poses: estimated poses.
        reference: reference joints in px of the same frames, ``(frames, 17, 2)``.
        joints: indices of the evaluated joints; None evaluates all.

    Raises:
        InputError: the shape of the reference does not match the poses.
    """
    if reference.shape != (poses.n_frames, len(COCO_17), 2):
        raise InputError(
            f"reference joints have shape {reference.shape}, expected ({poses.n_frames},"
            f" {len(COCO_17)}, 2)"
        )
    size_px = np.ptp(reference, axis=1).max(axis=1)
    error_px = np.linalg.norm(poses.keypoints[..., :2] - reference, axis=-1)
    error_px = error_px if joints is None else error_px[:, joints]
    error = error_px / size_px[:, None]
    return PoseAccuracy(
        pck_10=float((error <= 0.1).mean()),
        pck_20=float((error <= 0.2).mean()),
        median_error_px=float(np.median(error_px)),
        median_relative_error=float(np.median(error)),
        detected_fraction=poses.detected_fraction,
        n_tracks=len(poses.cuts) + 1 if poses.detected_fraction else 0,
    )
