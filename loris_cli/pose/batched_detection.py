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

from loris_cli.pose.blazepose import CROP_MARGIN, BlazePose, Crop, Pyramid, Sighting, suppress
from loris_cli.pose.keypoints import COCO_17, Poses
from loris_cli.pose.main_performer import middle_distance
from loris_cli.pose.tracking import (
    CLOSE_UPS_AT_ONCE,
    MAX_PEOPLE,
    SAME_PLACE,
    Frame,
    close_up,
    follow,
)

Array = NDArray[Any]

EVERY = 4
"""Frames from one look for bodies to the next: a quarter of a second."""
MIN_SCORE = 0.3
"""Of a body's joints, on average, and of a joint that its box is drawn around."""
ROOM = 0.1
"""A body ends so much beyond its outermost joints, of its longer side: the skull, the feet."""
ONE_BODY = 0.6
"""Boxes that overlap more, intersection over union, are of one body."""
CARRIED = 0.5
"""A detected box counts 1, one that was carried over this: it gives way."""

SHOULDERS = [COCO_17.index(f"{side}_shoulder") for side in ("left", "right")]
HIPS = [COCO_17.index(f"{side}_hip") for side in ("left", "right")]


class Network(Protocol):
    """What finds joints in boxes; ``top_down.TopDown`` does."""

    def joints(
        self, pictures: Sequence[Array], boxes: Sequence[Array]
    ) -> list[NDArray[np.float32]]:
        """Joints ``(bodies, 17, 3)`` of each picture, in the order of its boxes."""


class Detector(Protocol):
    """What finds bodies; ``BlazePose`` does."""

    def detect(self, picture: Pyramid, region: Array | None = None) -> list[Crop]:
        """Crops of the bodies in a picture, surest first."""


def estimate_with(
    network: Network,
    frames: Iterable[Frame],
    *,
    fps: float = 16.0,
    size: tuple[int, int],
    progress: Callable[[int, int], None] | None = None,
) -> Poses:
    """As ``tracking.estimate_poses``, with another network's joints."""
    ahead = Ahead(network, BlazePose())
    return follow(ahead.read(frames), ahead, fps=fps, size=size, progress=progress)


class Ahead:
    """``tracking.Eyes`` that have looked at the next frames already."""

    def __init__(self, network: Network, detector: Detector) -> None:
        """Start before the first frame."""
        self._network = network
        self._detector = detector
        self._boxes = np.zeros((0, 4))
        self._turn = 0
        self._now: list[Sighting] = []

    def read(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """The frames, each when its bodies are known; a few are held."""
        held: list[Frame] = []
        for frame in frames:
            if not held:
                self._boxes = self._find(frame.rgb)
            held.append(frame)
            if len(held) > EVERY:
                yield from self._between(held, self._find(frame.rgb))
                held = held[-1:]
        if held:
            last = self._find(held[-1].rgb) if len(held) > 1 else self._boxes
            yield from self._between([*held, held[-1]], last)

    def detect(self, picture: Pyramid, region: Array | None = None) -> list[Crop]:
        """Crops of the bodies in the frame that ``read`` gave last."""
        return [sighting.crop for sighting in self._now]

    def look(self, picture: Pyramid, crop: Crop) -> Sighting | None:
        """The body in that frame that is nearest to a crop, or None."""
        near = [s for s in self._now if middle_distance(s.crop, crop) < SAME_PLACE]
        return min(near, key=lambda s: middle_distance(s.crop, crop)) if near else None

    def _between(self, held: list[Frame], last: Array) -> Iterator[Frame]:
        """All frames but the last, whose bodies are known; then they begin with it."""
        boxes = between(self._boxes, last, len(held) - 1)
        pictures = [frame.rgb for frame in held[:-1]]
        for frame, found in zip(held[:-1], self._network.joints(pictures, boxes), strict=True):
            seen = [joints for joints in found if joints[:, 2].mean() >= MIN_SCORE]
            self._now = [Sighting(joints=joints, crop=crop_of(joints)) for joints in seen]
            yield frame
        self._boxes = last

    def _find(self, rgb: Array) -> Array:
        """Boxes drawn around the joints of the bodies in a picture, ``(bodies, 4)``."""
        picture = Pyramid(rgb)
        crops = self._detector.detect(picture)
        if not crops and not len(self._boxes):
            for _ in range(CLOSE_UPS_AT_ONCE):
                crops += self._detector.detect(picture, close_up(picture, self._turn))
                self._turn += 1
        boxes = np.array([*map(box_of_crop, crops), *self._boxes]).reshape(-1, 4)
        known = np.repeat([1.0, CARRIED], [len(crops), len(self._boxes)])
        boxes = boxes[suppress(boxes, known, ONE_BODY)]
        (found,) = self._network.joints([rgb], [boxes])
        found = found[found[..., 2].mean(axis=1) >= MIN_SCORE]
        around = np.array([box_of(joints) for joints in found]).reshape(-1, 4)
        sizes = np.ptp(around.reshape(-1, 2, 2), axis=1).max(axis=1)
        kept: Array = around[suppress(around, sizes, ONE_BODY)[:MAX_PEOPLE]]
        return kept


def between(first: Array, last: Array, n_frames: int) -> list[Array]:
    """Boxes of the frames from one look for bodies to the next, that one left out.

    Args:
        first: of the first frame, ``(bodies, 4)``.
        last: of the frame after the last.
        n_frames: how many there are.

    Returns:
        of each frame: a body in both moves in a straight line, others stay where they were or
        will be.
    """
    start, stop = [], []
    free = list(range(len(last)))
    for box in first:
        apart = [_apart(box, last[k]) for k in free]
        match = free.pop(int(np.argmin(apart))) if apart and min(apart) < 0.5 else None
        start.append(box)
        stop.append(box if match is None else last[match])
    start += [last[k] for k in free]
    stop += [last[k] for k in free]
    ends = np.array(start).reshape(-1, 4), np.array(stop).reshape(-1, 4)
    shares = np.arange(n_frames) / n_frames
    return [(1 - share) * ends[0] + share * ends[1] for share in shares]


def _apart(one: Array, other: Array) -> float:
    """Distance of two boxes' middles, in longer sides of the larger."""
    middles = [(box[:2] + box[2:]) / 2 for box in (one, other)]
    side = max(float((box[2:] - box[:2]).max()) for box in (one, other))
    return float(np.linalg.norm(middles[0] - middles[1])) / max(side, 1e-6)


def box_of_crop(crop: Crop) -> Array:
    """The square that holds a detected body's circle: left, top, right, bottom."""
    reach = crop.side_px / (2 * CROP_MARGIN)
    middle = np.array([crop.x, crop.y])
    return np.concatenate([middle - reach, middle + reach])


def box_of(joints: Array) -> Array:
    """The box of a body, from its joints ``(17, 3)``: left, top, right, bottom."""
    sure = joints[joints[:, 2] >= MIN_SCORE]
    low, high = sure[:, :2].min(axis=0), sure[:, :2].max(axis=0)
    room = max(ROOM * float((high - low).max()), 1.0)
    return np.concatenate([low - room, high + room])


def crop_of(joints: Array) -> Crop:
    """The crop of a body, as ``BlazePose`` would have it, from its joints ``(17, 3)``."""
    hips, shoulders = (joints[pair, :2].mean(axis=0) for pair in (HIPS, SHOULDERS))
    reach = float(np.linalg.norm(joints[:, :2] - hips, axis=1).max())
    up = shoulders - hips
    length = float(np.linalg.norm(up))
    up = up / length if length else np.array([0.0, -1.0])
    return Crop.around(hips, hips + max(reach, 1.0) * up)
