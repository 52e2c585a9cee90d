"""Who the main performer is, once a shot is over, and what fills the frames without a body.

tracks of a shot -> joined where they broke -> the most prominent one -> joints, frame by frame
"""

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loris_cli.pose.blazepose import Crop, Sighting
from loris_cli.pose.keypoints import COCO_17

Array = NDArray[Any]

# A track that begins this long after another's end may be the same body.
MAX_JOIN_S = 4.0
# ... if it begins within this share of the crop's side, and so much more for each second.
JOIN_REACH = 0.5
JOIN_REACH_PER_S = 0.5
JOIN_SIZE_RATIO = 1.6
# Where the main performer is away, somebody else is followed if there for this long
MIN_STAND_IN_S = 0.5
# ... and at least this prominent, frame by frame, compared with the main performer.
MIN_STAND_IN_SHARE = 0.25
# Longer gaps are held still and moved at their end: nobody glides for seconds.
MAX_GLIDE_S = 3.0
MOVE_S = 1.0


@dataclass(kw_only=True, eq=False)
class Track:
    """One body from frame to frame; frames may be missing.

    Attributes:
        frames: rising frame numbers.
        sightings: of those frames.
    """

    frames: list[int] = field(default_factory=list)
    sightings: list[Sighting] = field(default_factory=list)

    def add(self, frame: int, sighting: Sighting) -> None:
        """Append what was seen in a later frame."""
        self.frames.append(frame)
        self.sightings.append(sighting)

    @property
    def first(self) -> Sighting:
        """What was seen first."""
        return self.sightings[0]

    @property
    def last(self) -> Sighting:
        """What was seen last."""
        return self.sightings[-1]

    def within(self, start: int, stop: int) -> "Track":
        """The part with ``start <= frame < stop``."""
        low, high = np.searchsorted(self.frames, [start, stop])
        return Track(frames=self.frames[low:high], sightings=self.sightings[low:high])


def join(tracks: list[Track], fps: float) -> list[Track]:
    """Tracks with the broken ones mended: a hard pose or a passer-by can end a track early.

    Args:
        tracks: of one shot.
        fps: frames a second.

    Returns:
        As many tracks or fewer, the earliest first; every sighting is in one of them.
    """
    joins = []
    for i, before in enumerate(tracks):
        for j, after in enumerate(tracks):
            cost = _join_cost(before, after, fps)
            if cost is not None:
                joins.append((cost, i, j))
    following: dict[int, int] = {}
    preceded: set[int] = set()
    for _, i, j in sorted(joins):
        if i not in following and j not in preceded:
            following[i] = j
            preceded.add(j)
    joined = []
    for i in range(len(tracks)):
        if i in preceded:
            continue
        whole = Track()
        part: int | None = i
        while part is not None:
            whole.frames += tracks[part].frames
            whole.sightings += tracks[part].sightings
            part = following.get(part)
        joined.append(whole)
    return sorted(joined, key=lambda track: track.frames[0])


def _join_cost(before: Track, after: Track, fps: float) -> float | None:
    """How unlikely it is that a body lost is a body found later; None if it cannot be."""
    gap_s = (after.frames[0] - before.frames[-1]) / fps
    if not 0 < gap_s <= MAX_JOIN_S:
        return None
    old, new = before.last.crop, after.first.crop
    if abs(np.log(new.side_px / old.side_px)) > np.log(JOIN_SIZE_RATIO):
        return None
    distance = middle_distance(old, new)
    return gap_s + distance if distance < JOIN_REACH + JOIN_REACH_PER_S * gap_s else None


def middle_distance(one: Crop, other: Crop) -> float:
    """Distance of two crops' middles, in sides of the larger."""
    return float(np.hypot(one.x - other.x, one.y - other.y)) / max(one.side_px, other.side_px)


def prominence(track: Track, size: tuple[int, int]) -> float:
    """How much a body is what the picture shows: large, in the middle, in full, for long.

    Args:
        track: any.
        size: width and height of the picture in px.

    Returns:
        the sum over frames of a share 0..1 or so.
    """
    width, height = size
    crops = np.array([(s.crop.x, s.crop.y, s.crop.side_px) for s in track.sightings])
    scores = np.array([s.joints[:, 2].mean() for s in track.sightings])
    # A Gaussian: 1 in the middle, 0.37 at the sides, 0.14 in a corner.
    offset = (crops[:, :2] - (width / 2, height / 2)) / (width / 2, height / 2)
    centrality = np.exp(-(offset**2).sum(axis=1))
    return float((crops[:, 2] / np.hypot(width, height) * centrality * scores).sum())


def perform(tracks: list[Track], size: tuple[int, int], fps: float) -> list[Track]:
    """The main performer of a shot, and who stands in where they are away.

    Args:
        tracks: of one shot, in any order.
        size: width and height of the picture in px.
        fps: frames a second.

    Returns:
        tracks that do not overlap in time, the earliest first; none if there was nobody.
    """
    ranked = sorted(join(tracks, fps), key=lambda t: prominence(t, size), reverse=True)
    if not ranked:
        return []
    main = ranked[0]
    enough = MIN_STAND_IN_SHARE * prominence(main, size) / len(main.frames)
    chosen = [main]
    for track in ranked[1:]:
        if prominence(track, size) / len(track.frames) < enough:
            continue
        for start, stop in _free_times(chosen, track.frames[-1] + 1):
            part = track.within(start, stop)
            if len(part.frames) >= MIN_STAND_IN_S * fps:
                chosen.append(part)
    return sorted(chosen, key=lambda track: track.frames[0])


def _free_times(chosen: list[Track], stop: int) -> list[tuple[int, int]]:
    """Stretches of frames up to ``stop`` before, between and after tracks chosen so far."""
    spans = sorted((track.frames[0], track.frames[-1] + 1) for track in chosen)
    edges = [(0, 0), *spans, (max(stop, spans[-1][1]), stop)]
    return [(before[1], after[0]) for before, after in pairwise(edges) if before[1] < after[0]]


class Performance:
    """The main performer over the whole clip, shot by shot; keeps joints only."""

    def __init__(self) -> None:
        """Start before the first shot."""
        self._frames: list[int] = []
        self._joints: list[Array] = []
        self._cuts: list[int] = []

    def add(self, performers: list[Track], shot_start: int) -> None:
        """Append a shot.

        Args:
            performers: as from ``perform``, all after those added before.
            shot_start: first frame of the shot.
        """
        for k, track in enumerate(performers):
            if self._frames:
                self._cuts.append(track.frames[0] if k else shot_start)
            self._frames += track.frames
            self._joints.append(np.stack([s.joints for s in track.sightings]))

    def fill(self, n_frames: int, fps: float) -> tuple[Array, Array, Array]:
        """A body in every frame.

        Short gaps are crossed in a straight line; long ones are held, then moved at their end;
        a gap with a cut in it is held up to the cut and after it. The ends are held.

        Args:
            n_frames: of the clip.
            fps: frames a second.

        Returns:
            keypoints ``(n_frames, 17, 3)`` float32 with score 0 where filled in (and all zeros
            if there is no body at all), interpolated ``(n_frames,)`` bool, cuts ``(cuts,)``.
        """
        keypoints = np.zeros((n_frames, len(COCO_17), 3), np.float32)
        interpolated = np.ones(n_frames, bool)
        cuts = np.array(self._cuts, np.int64)
        if not self._frames:
            return keypoints, interpolated, cuts
        keypoints[self._frames] = np.concatenate(self._joints)
        interpolated[self._frames] = False
        for before, after in pairwise(self._frames):
            gap = np.arange(before + 1, after)
            weight = _crossing(gap, before, after, cuts, fps)[:, None, None]
            ends = keypoints[before, :, :2], keypoints[after, :, :2]
            keypoints[gap, :, :2] = (1 - weight) * ends[0] + weight * ends[1]
        keypoints[: self._frames[0], :, :2] = keypoints[self._frames[0], :, :2]
        keypoints[self._frames[-1] + 1 :, :, :2] = keypoints[self._frames[-1], :, :2]
        return keypoints, interpolated, cuts


def _crossing(gap: Array, before: int, after: int, cuts: Array, fps: float) -> Array:
    """How far from the pose before towards the pose after each frame of a gap is, 0..1."""
    inside = cuts[(cuts > before) & (cuts <= after)]
    if len(inside):
        jumped: Array = (gap >= inside[-1]).astype(float)
        return jumped
    start = before if after - before <= MAX_GLIDE_S * fps else after - MOVE_S * fps
    weight: Array = ((gap - start) / (after - start)).clip(0, 1)
    return weight
