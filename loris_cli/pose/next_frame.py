"""Poses of tracked people in the next frame, estimated in a thread beside those of a frame.

    crops of frame k -> poses of frame k + 1, here  |  poses of frame k + 2, in the thread

A pose network needs the crop of its person, which follows from an earlier pose. The crops have
a margin, so that those of frame k also serve frame k + 2. Two calls with one thread each take
less time than two in succession with two threads each.
"""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

from loris_cli.pose.blazepose import Crop, ImagePyramid, PersonPose
from loris_cli.pose.main_performer import Track


class CropPoseEstimator(Protocol):
    """Pose estimator for a person in a crop, such as ``BlazePose``."""

    def estimate_pose(self, image: ImagePyramid, crop: Crop) -> PersonPose | None:
        """Return the pose of the person in a crop, or None if the crop contains no person."""


class NextFramePoses:
    """Poses of tracked people in the frame after the current one."""

    def __init__(self, estimator: CropPoseEstimator) -> None:
        """Start the thread.

        Args:
            estimator: estimator of this thread; another thread must not use it.
        """
        self._estimator = estimator
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="loris-pose")
        self._image: ImagePyramid | None = None
        self._futures: list[tuple[Track, Future[PersonPose | None]]] = []

    def start(self, image: ImagePyramid, tracks: Sequence[Track]) -> None:
        """Start to estimate the poses of tracked people.

        Args:
            image: the next frame; until `finish`, another thread must not use it.
            tracks: tracks whose last crops are those of the previous frame.
        """
        self._image = image
        self._futures = [
            (t, self._executor.submit(self._estimator.estimate_pose, image, t.last_pose.crop))
            for t in tracks
        ]

    def finish(self) -> tuple[ImagePyramid | None, dict[int, PersonPose | None]]:
        """Return the image of the last `start`, and the pose of each track by its ``id``."""
        image, self._image = self._image, None
        poses = {id(track): future.result() for track, future in self._futures}
        self._futures = []
        return image, poses

    def close(self) -> None:
        """Stop the thread."""
        self._executor.shutdown(cancel_futures=True)
