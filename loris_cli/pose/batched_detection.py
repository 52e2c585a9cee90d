"""Batched person detection every four frames; boxes are interpolated in between.

    frames -> people in every fourth frame -> interpolated boxes -> batched keypoints -> poses

With batched inference, the crop of a frame cannot depend on the keypoints of the previous one.
People are therefore detected every few frames. Their boxes are interpolated for the frames in
between and propagated to the next detection, which may miss a person.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import numpy as np

from loris_cli.array_types import Float32Array
from loris_cli.pose import blazepose, tracking
from loris_cli.pose.blazepose import Crop, ImagePyramid, PersonPose
from loris_cli.pose.keypoints import HIP_JOINTS, SHOULDER_JOINTS, Array, Poses
from loris_cli.pose.main_performer import crop_center_distance
from loris_cli.pose.tracking import SAME_PERSON_CENTER_DISTANCE, PersonDetector, estimate_poses
from loris_cli.video.frames import Frame

BOX_DETECTION_INTERVAL_FRAMES = 4
"""Interval between person detections: a quarter of a second at 16 fps."""
MIN_KEYPOINT_SCORE = 0.3
"""Minimum mean score of a person's joints, and minimum score of a joint used for the box."""
BOX_MARGIN = 0.1
"""Margin for skull and feet around the outermost joints, relative to the box's longer side."""
MAX_BOX_IOU = 0.6
"""Boxes with a larger intersection over union belong to the same person."""
PROPAGATED_BOX_SCORE = 0.5
"""Score of a propagated box; a detected box has a score of 1 and suppresses it."""
MAX_MATCH_DISTANCE = 0.5
"""Boxes with closer centers belong to the same person; relative to the longer side of the
larger box."""


class KeypointNetwork(Protocol):
    """Network that estimates keypoints in boxes, e.g. ``mmpose_estimator.MmposeEstimator``."""

    def estimate_keypoints(self, images: list[Array], boxes: list[Array]) -> list[Float32Array]:
        """Estimate keypoints in the boxes of several images.

        Args:
            images: RGB images, each ``(height, width, 3)`` uint8.
            boxes: for each image, left, top, right, bottom in px, ``(people, 4)``.

        Returns:
            For each image, x px, y px and score 0..1, ``(people, 17, 3)``, in the order of its
            boxes.
        """


def estimate_poses_batched(
    network: KeypointNetwork,
    frames: Iterable[Frame],
    *,
    fps: float = 16.0,
    size: tuple[int, int],
    progress: Callable[[int, int], None] | None = None,
) -> Poses:
    """Estimate poses like ``tracking.estimate_poses``, with keypoints from another network."""
    estimator = BatchedPoseEstimator(network, blazepose.BlazePose())
    buffered = estimator.prefetch_frames(frames)
    return estimate_poses(buffered, fps=fps, size=size, estimator=estimator, progress=progress)


class BatchedPoseEstimator:
    """A ``tracking.FramePoseEstimator`` that processes frames in batches ahead of tracking."""

    def __init__(self, network: KeypointNetwork, detector: PersonDetector) -> None:
        """Initialize the state before the first frame."""
        self._network = network
        self._detector = detector
        self._boxes = np.zeros((0, 4))
        self._tile_index = 0
        self._people: list[PersonPose] = []

    def prefetch_frames(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """Yield each frame once its poses are estimated; a few frames are buffered."""
        buffer: list[Frame] = []
        for frame in frames:
            if not buffer:
                self._boxes = self._detect_boxes(frame.rgb)
            buffer.append(frame)
            if len(buffer) > BOX_DETECTION_INTERVAL_FRAMES:
                yield from self._estimate_buffered(buffer, self._detect_boxes(frame.rgb))
                buffer = buffer[-1:]
        if buffer:
            last = self._detect_boxes(buffer[-1].rgb) if len(buffer) > 1 else self._boxes
            yield from self._estimate_buffered([*buffer, buffer[-1]], last)

    def detect_people(self, image: ImagePyramid, region: Array | None = None) -> list[Crop]:
        """Return the crops of the people in the frame last yielded by ``prefetch_frames``.

        Args:
            image: not used.
            region: not used; ``(2, 3)`` in `tracking.PersonDetector`.
        """
        return [pose.crop for pose in self._people]

    def estimate_pose(self, image: ImagePyramid, crop: Crop) -> PersonPose | None:
        """Return the pose in that frame nearest to a crop, or None."""

        def distance(pose: PersonPose) -> float:
            return crop_center_distance(pose.crop, crop)

        near = [pose for pose in self._people if distance(pose) < SAME_PERSON_CENTER_DISTANCE]
        return min(near, key=distance, default=None)

    def _estimate_buffered(self, buffer: list[Frame], last_boxes: Array) -> Iterator[Frame]:
        """Estimate poses for all frames but the last, which starts the next batch."""
        frames = buffer[:-1]
        boxes = interpolate_boxes(self._boxes, last_boxes, len(frames))
        batch = self._network.estimate_keypoints([frame.rgb for frame in frames], boxes)
        for frame, people in zip(frames, batch, strict=True):
            self._people = [
                PersonPose(keypoints=keypoints, crop=keypoints_to_crop(keypoints))
                for keypoints in people
                if keypoints[:, 2].mean() >= MIN_KEYPOINT_SCORE
            ]
            yield frame
        self._boxes = last_boxes

    def _detect_boxes(self, rgb: Array) -> Array:
        """Return boxes around the joints of the people in an image, ``(people, 4)``."""
        image = ImagePyramid(rgb)
        crops = self._detector.detect_people(image)
        if not crops and not len(self._boxes):
            crops = tracking.detect_in_tiles(self._detector, image, self._tile_index)
            self._tile_index += tracking.TILES_PER_FRAME
        boxes = np.array([*map(crop_to_box, crops), *self._boxes]).reshape(-1, 4)
        scores = np.repeat([1.0, PROPAGATED_BOX_SCORE], [len(crops), len(self._boxes)])
        boxes = boxes[blazepose.non_max_suppression(boxes, scores, MAX_BOX_IOU)]
        (people,) = self._network.estimate_keypoints([rgb], [boxes])
        people = people[people[..., 2].mean(axis=1) >= MIN_KEYPOINT_SCORE]
        boxes = np.array([*map(keypoints_to_box, people)]).reshape(-1, 4)
        sizes = np.ptp(boxes.reshape(-1, 2, 2), axis=1).max(axis=1)
        largest = blazepose.non_max_suppression(boxes, sizes, MAX_BOX_IOU)
        return np.asarray(boxes[largest[: tracking.MAX_PEOPLE]])


def interpolate_boxes(first_boxes: Array, last_boxes: Array, n_frames: int) -> list[Array]:
    """Interpolate boxes from one person detection to the next, excluding the latter.

    Args:
        first_boxes: left, top, right, bottom in px in the first frame, ``(people, 4)``.
        last_boxes: boxes in the frame after the last, ``(people, 4)``.
        n_frames: number of frames.

    Returns:
        Boxes for each frame, ``(people, 4)``: linear for a person in both detections, constant
        for others.
    """
    unmatched = list(last_boxes)
    pairs = []
    for box in first_boxes:
        distances = [_box_center_distance(box, other) for other in unmatched]
        is_matched = min(distances, default=np.inf) < MAX_MATCH_DISTANCE
        pairs.append((box, unmatched.pop(int(np.argmin(distances))) if is_matched else box))
    pairs += [(box, box) for box in unmatched]
    start, stop = np.array(pairs).reshape(-1, 2, 4).swapaxes(0, 1)
    weights = np.arange(n_frames) / n_frames
    return [(1 - weight) * start + weight * stop for weight in weights]


def _box_center_distance(box_a: Array, box_b: Array) -> float:
    """Return the distance between box centers, relative to the larger box's longer side."""
    centers = [(box[:2] + box[2:]) / 2 for box in (box_a, box_b)]
    side = max(float((box[2:] - box[:2]).max()) for box in (box_a, box_b))
    return float(np.linalg.norm(centers[0] - centers[1])) / max(side, 1e-6)


def crop_to_box(crop: Crop) -> Array:
    """Return the square around a detected person's circle.

    Returns:
        Left, top, right, bottom in px, ``(4,)``.
    """
    radius = crop.side_px / (2 * blazepose.CROP_MARGIN)
    center = np.array([crop.center_x_px, crop.center_y_px])
    return np.concatenate([center - radius, center + radius])


def keypoints_to_box(keypoints: Array) -> Array:
    """Return the box around the keypoints of a person.

    Args:
        keypoints: x px, y px and score 0..1, ``(17, 3)``; at least one joint must have a score
            of ``MIN_KEYPOINT_SCORE``.

    Returns:
        Left, top, right, bottom in px, ``(4,)``, with a margin.
    """
    certain = keypoints[keypoints[:, 2] >= MIN_KEYPOINT_SCORE]
    low, high = certain[:, :2].min(axis=0), certain[:, :2].max(axis=0)
    margin = max(BOX_MARGIN * float((high - low).max()), 1.0)
    return np.concatenate([low - margin, high + margin])


def keypoints_to_crop(keypoints: Array) -> Crop:
    """Return the crop around a person, in the convention of ``BlazePose``.

    Args:
        keypoints: x px, y px and score, ``(17, 3)``; the scores are not used.
    """
    positions = keypoints[:, :2]
    hips, shoulders = (positions[pair].mean(axis=0) for pair in (HIP_JOINTS, SHOULDER_JOINTS))
    radius = float(np.linalg.norm(positions - hips, axis=1).max())
    up = shoulders - hips
    length = float(np.linalg.norm(up))
    up = up / length if length else np.array([0.0, -1.0])
    return Crop.from_alignment_points(hips, hips + max(radius, 1.0) * up)
