"""Bodies found a few frames ahead, many at a time, for who follows them one by one.

frames -> bodies in every fourth -> boxes between them -> one batch of joints -> sightings

A network that takes a batch cannot wait for the joints of one frame to know where to look in
the next. So bodies are detected every few frames, and their boxes carried over to the frames
between and to the next detection, which may miss somebody.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from loris_cli.pose.blazepose import (
    CROP_MARGIN,
    BlazePose,
    Crop,
    ImagePyramid,
    PersonPose,
    non_max_suppression,
)
from loris_cli.pose.keypoints import COCO_17, Poses
from loris_cli.pose.main_performer import crop_center_distance
from loris_cli.pose.tracking import (
    MAX_PEOPLE,
    SAME_PERSON_CENTER_DISTANCE,
    TILES_PER_FRAME,
    Frame,
    tile_matrix,
    track_main_performer,
)

Array = NDArray[Any]

BOX_DETECTION_INTERVAL_FRAMES = 4
"""Frames from one look for bodies to the next: a quarter of a second."""
MIN_KEYPOINT_SCORE = 0.3
"""Of a body's joints, on average, and of a joint that its box is drawn around."""
BOX_MARGIN = 0.1
"""A body ends so much beyond its outermost joints, of its longer side: the skull, the feet."""
MAX_BOX_IOU = 0.6
"""Boxes that overlap more, intersection over union, are of one body."""
PROPAGATED_BOX_SCORE = 0.5
"""A detected box counts 1, one that was carried over this: it gives way."""

SHOULDER_JOINTS = [COCO_17.index(f"{side}_shoulder") for side in ("left", "right")]
HIP_JOINTS = [COCO_17.index(f"{side}_hip") for side in ("left", "right")]


class KeypointNetwork(Protocol):
    """What finds joints in boxes; ``top_down.TopDown`` does."""

    def estimate_keypoints(
        self, images: Sequence[Array], boxes: Sequence[Array]
    ) -> list[NDArray[np.float32]]:
        """Joints ``(bodies, 17, 3)`` of each picture, in the order of its boxes."""


class PersonDetector(Protocol):
    """What finds bodies; ``BlazePose`` does."""

    def detect_people(
        self, image: ImagePyramid, region_matrix: Array | None = None
    ) -> list[Crop]:
        """Crops of the bodies in a picture, surest first."""


def estimate_poses_batched(
    network: KeypointNetwork,
    frames: Iterable[Frame],
    *,
    fps: float = 16.0,
    size: tuple[int, int],
    progress: Callable[[int, int], None] | None = None,
) -> Poses:
    """As ``tracking.estimate_poses``, with another network's joints."""
    ahead = BatchedPoseEstimator(network, BlazePose())
    return track_main_performer(
        ahead.prefetch_frames(frames), ahead, fps=fps, size=size, progress=progress
    )


class BatchedPoseEstimator:
    """``tracking.Eyes`` that have looked at the next frames already."""

    def __init__(self, network: KeypointNetwork, detector: PersonDetector) -> None:
        """Start before the first frame."""
        self._network = network
        self._detector = detector
        self._boxes = np.zeros((0, 4))
        self._tile_index = 0
        self._current_people: list[PersonPose] = []

    def prefetch_frames(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """The frames, each when its bodies are known; a few are held."""
        held: list[Frame] = []
        for frame in frames:
            if not held:
                self._boxes = self._detect_boxes(frame.rgb)
            held.append(frame)
            if len(held) > BOX_DETECTION_INTERVAL_FRAMES:
                yield from self._estimate_buffered(held, self._detect_boxes(frame.rgb))
                held = held[-1:]
        if held:
            last = self._detect_boxes(held[-1].rgb) if len(held) > 1 else self._boxes
            yield from self._estimate_buffered([*held, held[-1]], last)

    def detect_people(
        self, image: ImagePyramid, region_matrix: Array | None = None
    ) -> list[Crop]:
        """Crops of the bodies in the frame that ``prefetch_frames`` gave last."""
        return [sighting.crop for sighting in self._current_people]

    def estimate_pose(self, image: ImagePyramid, crop: Crop) -> PersonPose | None:
        """The body in that frame that is nearest to a crop, or None."""
        near = [
            s
            for s in self._current_people
            if crop_center_distance(s.crop, crop) < SAME_PERSON_CENTER_DISTANCE
        ]
        return min(near, key=lambda s: crop_center_distance(s.crop, crop)) if near else None

    def _estimate_buffered(
        self, buffered_frames: list[Frame], last_boxes: Array
    ) -> Iterator[Frame]:
        """All frames but the last, whose bodies are known; then they begin with it."""
        boxes = interpolate_boxes(self._boxes, last_boxes, len(buffered_frames) - 1)
        pictures = [frame.rgb for frame in buffered_frames[:-1]]
        for frame, found in zip(
            buffered_frames[:-1], self._network.estimate_keypoints(pictures, boxes), strict=True
        ):
            seen = [joints for joints in found if joints[:, 2].mean() >= MIN_KEYPOINT_SCORE]
            self._current_people = [
                PersonPose(keypoints=joints, crop=keypoints_to_crop(joints)) for joints in seen
            ]
            yield frame
        self._boxes = last_boxes

    def _detect_boxes(self, rgb: Array) -> Array:
        """Boxes drawn around the joints of the bodies in a picture, ``(bodies, 4)``."""
        picture = ImagePyramid(rgb)
        crops = self._detector.detect_people(picture)
        if not crops and not len(self._boxes):
            for _ in range(TILES_PER_FRAME):
                crops += self._detector.detect_people(
                    picture, tile_matrix(picture, self._tile_index)
                )
                self._tile_index += 1
        boxes = np.array([*map(crop_to_box, crops), *self._boxes]).reshape(-1, 4)
        known = np.repeat([1.0, PROPAGATED_BOX_SCORE], [len(crops), len(self._boxes)])
        boxes = boxes[non_max_suppression(boxes, known, MAX_BOX_IOU)]
        (found,) = self._network.estimate_keypoints([rgb], [boxes])
        found = found[found[..., 2].mean(axis=1) >= MIN_KEYPOINT_SCORE]
        around = np.array([keypoints_to_box(joints) for joints in found]).reshape(-1, 4)
        sizes = np.ptp(around.reshape(-1, 2, 2), axis=1).max(axis=1)
        kept: Array = around[non_max_suppression(around, sizes, MAX_BOX_IOU)[:MAX_PEOPLE]]
        return kept


def interpolate_boxes(first_boxes: Array, last_boxes: Array, n_frames: int) -> list[Array]:
    """Boxes of the frames from one look for bodies to the next, that one left out.

    Args:
        first_boxes: of the first frame, ``(bodies, 4)``.
        last_boxes: of the frame after the last.
        n_frames: how many there are.

    Returns:
        of each frame: a body in both moves in a straight line, others stay where they were or
        will be.
    """
    start, stop = [], []
    free = list(range(len(last_boxes)))
    for box in first_boxes:
        apart = [_box_center_distance(box, last_boxes[k]) for k in free]
        match = free.pop(int(np.argmin(apart))) if apart and min(apart) < 0.5 else None
        start.append(box)
        stop.append(box if match is None else last_boxes[match])
    start += [last_boxes[k] for k in free]
    stop += [last_boxes[k] for k in free]
    ends = np.array(start).reshape(-1, 4), np.array(stop).reshape(-1, 4)
    shares = np.arange(n_frames) / n_frames
    return [(1 - share) * ends[0] + share * ends[1] for share in shares]


def _box_center_distance(one: Array, other: Array) -> float:
    """Distance of two boxes' middles, in longer sides of the larger."""
    middles = [(box[:2] + box[2:]) / 2 for box in (one, other)]
    side = max(float((box[2:] - box[:2]).max()) for box in (one, other))
    return float(np.linalg.norm(middles[0] - middles[1])) / max(side, 1e-6)


def crop_to_box(crop: Crop) -> Array:
    """The square that holds a detected body's circle: left, top, right, bottom."""
    reach = crop.side_px / (2 * CROP_MARGIN)
    middle = np.array([crop.center_x_px, crop.center_y_px])
    return np.concatenate([middle - reach, middle + reach])


def keypoints_to_box(keypoints: Array) -> Array:
    """The box of a body, from its joints ``(17, 3)``: left, top, right, bottom."""
    sure = keypoints[keypoints[:, 2] >= MIN_KEYPOINT_SCORE]
    low, high = sure[:, :2].min(axis=0), sure[:, :2].max(axis=0)
    room = max(BOX_MARGIN * float((high - low).max()), 1.0)
    return np.concatenate([low - room, high + room])


def keypoints_to_crop(keypoints: Array) -> Crop:
    """The crop of a body, as ``BlazePose`` would have it, from its joints ``(17, 3)``."""
    hips, shoulders = (
        keypoints[pair, :2].mean(axis=0) for pair in (HIP_JOINTS, SHOULDER_JOINTS)
    )
    reach = float(np.linalg.norm(keypoints[:, :2] - hips, axis=1).max())
    up = shoulders - hips
    length = float(np.linalg.norm(up))
    up = up / length if length else np.array([0.0, -1.0])
    return Crop.from_alignment_points(hips, hips + max(reach, 1.0) * up)
