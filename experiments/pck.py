"""Pose accuracy (PCK) on rendered clips, where the true joints are known.

PCK@a is the fraction of joints with an error of at most a body sizes, here the longer side of
the box around the true joints in that frame (after Yang and Ramanan, PAMI 2013).
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
"""Joints of ``COCO_17``, left and right together."""


@dataclass(frozen=True, kw_only=True)
class PoseAccuracy:
    """Errors of estimated joints over all frames, including interpolated ones."""

    pck_10: float
    """Fraction of joints with an error of at most 0.1 body sizes."""
    pck_20: float
    """... within 0.2."""
    median_error_px: float
    """Median error of a joint."""
    median_relative_error: float
    """The same, in body sizes."""
    detected_fraction: float
    """Fraction of frames with a detected person."""
    n_tracks: int
    """People tracked one after the other; 1 where one person is never lost."""


def measure_pose_accuracy(
    poses: Poses, reference: Array, *, joints: list[int] | None = None
) -> PoseAccuracy:
    """Compare poses with the true joints.

    Args:
        poses: the estimate.
        reference: true joints, ``(frames, 17, 2)``, in px of the same frames.
        joints: the joints that count; None is all.

    Raises:
        InputError: the true joints are of other frames or joints.
    """
    if reference.shape != (poses.n_frames, len(COCO_17), 2):
        raise InputError(
            f"true joints {reference.shape} for {poses.n_frames} frames"
            f" of {len(COCO_17)} joints"
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
