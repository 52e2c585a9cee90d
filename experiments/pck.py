"""How near found joints are to true ones, where those are known: on rendered clips.

PCK@a is the share of joints no further off than a of the body's size, here the longer side of
the box around its true joints in that frame (after Yang and Ramanan, PAMI 2013).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loris_cli.errors import InputError
from loris_cli.pose.keypoints import COCO_17, Poses

Array = NDArray[Any]

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
    """Found joints beside true ones, over all frames, those filled in too."""

    pck_10: float
    """Share of joints within 0.1 of the body's size."""
    pck_20: float
    """... within 0.2."""
    median_error_px: float
    """Half of the joints are nearer than this."""
    median_relative_error: float
    """The same, in sizes of the body."""
    detected_fraction: float
    """Share of frames in which a body was seen."""
    n_tracks: int
    """Bodies followed one after the other; one where there is one and it is never lost."""


def measure_pose_accuracy(
    poses: Poses, reference: Array, *, joints: list[int] | None = None
) -> PoseAccuracy:
    """Compare poses with the truth.

    Args:
        poses: what was found.
        reference: ``(frames, 17, 2)``, in px of the same picture, frame by frame the same.
        joints: only these count; None is all.

    Raises:
        InputError: the truth is of other frames or joints.
    """
    if reference.shape != (poses.n_frames, len(COCO_17), 2):
        raise InputError(
            f"true joints {reference.shape} beside {poses.n_frames} frames of {len(COCO_17)} joints"
        )
    size_px = np.ptp(reference, axis=1).max(axis=1)
    chosen = list(range(len(COCO_17))) if joints is None else joints
    off_px = np.linalg.norm(poses.keypoints[..., :2] - reference, axis=-1)[:, chosen]
    off = off_px / size_px[:, None]
    return PoseAccuracy(
        pck_10=float((off <= 0.1).mean()),
        pck_20=float((off <= 0.2).mean()),
        median_error_px=float(np.median(off_px)),
        median_relative_error=float(np.median(off)),
        detected_fraction=poses.detected_fraction,
        n_tracks=len(poses.cuts) + 1 if poses.detected_fraction else 0,
    )
