"""Who the main performer is, once a shot is over, and what fills the frames without a body.

tracks of a shot -> joined where they broke -> the most prominent one -> joints, frame by frame
"""

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loris_cli.pose.blazepose import Crop, PersonPose
from loris_cli.pose.keypoints import COCO_17

Array = NDArray[Any]

# A track that begins this long after another's end may be the same body.
MAX_LINK_GAP_S = 4.0
# ... if it begins within this share of the crop's side, and so much more for each second.
LINK_DISTANCE = 0.5
LINK_DISTANCE_PER_S = 0.5
MAX_LINK_SIZE_RATIO = 1.6
# Where the main performer is away, somebody else is followed if there for this long
MIN_SUBSTITUTE_S = 0.5
# ... and at least this prominent, frame by frame, compared with the main performer.
MIN_SUBSTITUTE_PROMINENCE = 0.25
# Longer gaps are held still and moved at their end: nobody glides for seconds.
MAX_INTERPOLATED_GAP_S = 3.0
TRANSITION_S = 1.0


@dataclass(kw_only=True, eq=False)
class Track:
    """One body from frame to frame; frames may be missing.

    Attributes:
        frames: rising frame numbers.
        sightings: of those frames.
    """

    frame_indices: list[int] = field(default_factory=list)
    poses: list[PersonPose] = field(default_factory=list)

    def append(self, frame_index: int, pose: PersonPose) -> None:
        """Append what was seen in a later frame."""
        self.frame_indices.append(frame_index)
        self.poses.append(pose)

    @property
    def first_pose(self) -> PersonPose:
        """What was seen first."""
        return self.poses[0]

    @property
    def last_pose(self) -> PersonPose:
        """What was seen last."""
        return self.poses[-1]

    def slice_frames(self, start: int, stop: int) -> "Track":
        """The part with ``start <= frame < stop``."""
        low, high = np.searchsorted(self.frame_indices, [start, stop])
        return Track(frame_indices=self.frame_indices[low:high], poses=self.poses[low:high])


def link_tracks(tracks: list[Track], fps: float) -> list[Track]:
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
            cost = _link_cost(before, after, fps)
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
            whole.frame_indices += tracks[part].frame_indices
            whole.poses += tracks[part].poses
            part = following.get(part)
        joined.append(whole)
    return sorted(joined, key=lambda track: track.frame_indices[0])


def _link_cost(before: Track, after: Track, fps: float) -> float | None:
    """How unlikely it is that a body lost is a body found later; None if it cannot be."""
    gap_s = (after.frame_indices[0] - before.frame_indices[-1]) / fps
    if not 0 < gap_s <= MAX_LINK_GAP_S:
        return None
    old, new = before.last_pose.crop, after.first_pose.crop
    if abs(np.log(new.side_px / old.side_px)) > np.log(MAX_LINK_SIZE_RATIO):
        return None
    distance = crop_center_distance(old, new)
    return gap_s + distance if distance < LINK_DISTANCE + LINK_DISTANCE_PER_S * gap_s else None


def crop_center_distance(crop_a: Crop, crop_b: Crop) -> float:
    """Distance of two crops' middles, in sides of the larger."""
    return float(
        np.hypot(
            crop_a.center_x_px - crop_b.center_x_px, crop_a.center_y_px - crop_b.center_y_px
        )
    ) / max(crop_a.side_px, crop_b.side_px)


def prominence(track: Track, size: tuple[int, int]) -> float:
    """How much a body is what the picture shows: large, in the middle, in full, for long.

    Args:
        track: any.
        size: width and height of the picture in px.

    Returns:
        the sum over frames of a share 0..1 or so.
    """
    width, height = size
    crops = np.array(
        [(s.crop.center_x_px, s.crop.center_y_px, s.crop.side_px) for s in track.poses]
    )
    scores = np.array([s.keypoints[:, 2].mean() for s in track.poses])
    # A Gaussian: 1 in the middle, 0.37 at the sides, 0.14 in a corner.
    offset = (crops[:, :2] - (width / 2, height / 2)) / (width / 2, height / 2)
    centrality = np.exp(-(offset**2).sum(axis=1))
    return float((crops[:, 2] / np.hypot(width, height) * centrality * scores).sum())


def select_performers(tracks: list[Track], size: tuple[int, int], fps: float) -> list[Track]:
    """The main performer of a shot, and who stands in where they are away.

    Args:
        tracks: of one shot, in any order.
        size: width and height of the picture in px.
        fps: frames a second.

    Returns:
        tracks that do not overlap in time, the earliest first; none if there was nobody.
    """
    ranked = sorted(link_tracks(tracks, fps), key=lambda t: prominence(t, size), reverse=True)
    if not ranked:
        return []
    main = ranked[0]
    enough = MIN_SUBSTITUTE_PROMINENCE * prominence(main, size) / len(main.frame_indices)
    chosen = [main]
    for track in ranked[1:]:
        if prominence(track, size) / len(track.frame_indices) < enough:
            continue
        for start, stop in _unoccupied_spans(chosen, track.frame_indices[-1] + 1):
            part = track.slice_frames(start, stop)
            if len(part.frame_indices) >= MIN_SUBSTITUTE_S * fps:
                chosen.append(part)
    return sorted(chosen, key=lambda track: track.frame_indices[0])


def _unoccupied_spans(chosen: list[Track], stop: int) -> list[tuple[int, int]]:
    """Stretches of frames up to ``stop`` before, between and after tracks chosen so far."""
    spans = sorted((track.frame_indices[0], track.frame_indices[-1] + 1) for track in chosen)
    edges = [(0, 0), *spans, (max(stop, spans[-1][1]), stop)]
    return [(before[1], after[0]) for before, after in pairwise(edges) if before[1] < after[0]]


class PerformerTimeline:
    """The main performer over the whole clip, shot by shot; keeps joints only."""

    def __init__(self) -> None:
        """Start before the first shot."""
        self._frames: list[int] = []
        self._joints: list[Array] = []
        self._cuts: list[int] = []

    def add_shot(self, performers: list[Track], shot_start: int) -> None:
        """Append a shot.

        Args:
            performers: as from ``select_performers``, all after those added before.
            shot_start: first frame of the shot.
        """
        for k, track in enumerate(performers):
            if self._frames:
                self._cuts.append(track.frame_indices[0] if k else shot_start)
            self._frames += track.frame_indices
            self._joints.append(np.stack([s.keypoints for s in track.poses]))

    def interpolate_gaps(self, n_frames: int, fps: float) -> tuple[Array, Array, Array]:
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
            weight = _interpolation_weights(gap, before, after, cuts, fps)[:, None, None]
            ends = keypoints[before, :, :2], keypoints[after, :, :2]
            keypoints[gap, :, :2] = (1 - weight) * ends[0] + weight * ends[1]
        keypoints[: self._frames[0], :, :2] = keypoints[self._frames[0], :, :2]
        keypoints[self._frames[-1] + 1 :, :, :2] = keypoints[self._frames[-1], :, :2]
        return keypoints, interpolated, cuts


def _interpolation_weights(
    gap: Array, before: int, after: int, cuts: Array, fps: float
) -> Array:
    """How far from the pose before towards the pose after each frame of a gap is, 0..1."""
    inside = cuts[(cuts > before) & (cuts <= after)]
    if len(inside):
        jumped: Array = (gap >= inside[-1]).astype(float)
        return jumped
    start = (
        before if after - before <= MAX_INTERPOLATED_GAP_S * fps else after - TRANSITION_S * fps
    )
    weight: Array = ((gap - start) / (after - start)).clip(0, 1)
    return weight
