"""Selection of the main performer of a shot, and interpolation of frames without a pose.

tracks of a shot -> links across gaps -> the most prominent track -> keypoints, frame by frame
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from loris_cli.pose.blazepose import Crop, PersonPose
from loris_cli.pose.keypoints import COCO_17, Array

# Maximum gap between two tracks of the same person.
MAX_LINK_GAP_S = 4.0
# Maximum distance between the end of one track and the start of the next, relative to the crop
# side: at a gap of zero, and its growth per second of gap.
LINK_DISTANCE = 0.5
LINK_DISTANCE_PER_S = 0.5
MAX_LINK_SIZE_RATIO = 1.6
# Another person replaces an absent main performer if present for at least this time ...
MIN_SUBSTITUTE_S = 0.5
# ... with at least this fraction of the main performer's mean prominence per frame.
MIN_SUBSTITUTE_PROMINENCE = 0.25
# Interval over which motion is measured: a quarter of a second at 16 fps.
MOTION_LAG_FRAMES = 4
# Motion from which a person counts as moving, see `limb_motion`. Dancers reach 0.03, people at
# rest 0.001, the keypoint noise of a person of 30 px 0.01.
MIN_MOTION = 0.015
# Prominence of a person at rest, relative to that of a moving person of the same size.
REST_PROMINENCE = 0.05
# In longer gaps the pose is constant up to a transition at the end: linear interpolation over
# several seconds would produce an unnatural glide.
MAX_INTERPOLATED_GAP_S = 3.0
TRANSITION_S = 1.0


@dataclass(kw_only=True, eq=False)
class Track:
    """Poses of one person over time; frames may be missing.

    Attributes:
        frame_indices: increasing frame indices.
        poses: pose in each of these frames.
    """

    frame_indices: list[int]
    poses: list[PersonPose]

    def append(self, frame_index: int, pose: PersonPose) -> None:
        """Append the pose of a later frame."""
        self.frame_indices.append(frame_index)
        self.poses.append(pose)

    @property
    def last_pose(self) -> PersonPose:
        """Pose of the last frame."""
        return self.poses[-1]

    def slice_frames(self, start: int, stop: int) -> "Track":
        """Return the part of the track with ``start <= frame < stop``."""
        low, high = np.searchsorted(self.frame_indices, [start, stop])
        return Track(frame_indices=self.frame_indices[low:high], poses=self.poses[low:high])


def link_tracks(tracks: list[Track], fps: float) -> list[Track]:
    """Link tracks of the same person across gaps.

    A difficult pose or an occlusion by a passer-by can end a track early.

    Args:
        tracks: tracks of one shot.
        fps: frames per second.

    Returns:
        The linked tracks, earliest first; every pose belongs to one of them.
    """
    links = [
        (cost, i, j)
        for i, before in enumerate(tracks)
        for j, after in enumerate(tracks)
        if (cost := _link_cost(before, after, fps)) is not None
    ]
    successors: dict[int, int] = {}
    for _, i, j in sorted(links):
        if i not in successors and j not in successors.values():
            successors[i] = j
    linked = []
    for i in range(len(tracks)):
        if i in successors.values():
            continue
        chain = [i]
        while chain[-1] in successors:
            chain.append(successors[chain[-1]])
        frame_indices = [frame for k in chain for frame in tracks[k].frame_indices]
        poses = [pose for k in chain for pose in tracks[k].poses]
        linked.append(Track(frame_indices=frame_indices, poses=poses))
    return sorted(linked, key=lambda track: track.frame_indices[0])


def _link_cost(before: Track, after: Track, fps: float) -> float | None:
    """Return the cost of linking two tracks; None if they cannot be the same person."""
    gap_s = (after.frame_indices[0] - before.frame_indices[-1]) / fps
    if not 0 < gap_s <= MAX_LINK_GAP_S:
        return None
    old, new = before.last_pose.crop, after.poses[0].crop
    if abs(np.log(new.side_px / old.side_px)) > np.log(MAX_LINK_SIZE_RATIO):
        return None
    distance = crop_center_distance(old, new)
    return gap_s + distance if distance < LINK_DISTANCE + LINK_DISTANCE_PER_S * gap_s else None


def crop_center_distance(crop_a: Crop, crop_b: Crop) -> float:
    """Return the distance between crop centers, relative to the larger crop's side."""
    dx = crop_a.center_x_px - crop_b.center_x_px
    dy = crop_a.center_y_px - crop_b.center_y_px
    return float(np.hypot(dx, dy)) / max(crop_a.side_px, crop_b.side_px)


def limb_motion(track: Track) -> float:
    """Return the motion of the limbs of a person, without camera motion and keypoint noise.

    The mean joint displacement, relative to the median joint, grows with the interval if the
    limbs move; that of noise does not.

    Args:
        track: track of the person; frames may be missing.

    Returns:
        Growth of the displacement from 1 to ``MOTION_LAG_FRAMES`` frames, relative to the crop
        side; 0 for short tracks.
    """
    keypoints = np.stack([pose.keypoints for pose in track.poses]).astype(float)
    sides = np.array([pose.crop.side_px for pose in track.poses])
    frames = np.array(track.frame_indices)
    means = []
    for lag in (1, MOTION_LAG_FRAMES):
        is_consecutive = frames[lag:] - frames[:-lag] == lag
        if not is_consecutive.any():
            return 0.0
        moved = keypoints[lag:, :, :2] - keypoints[:-lag, :, :2]
        moved -= np.median(moved, axis=1, keepdims=True)
        scores = np.minimum(keypoints[lag:, :, 2], keypoints[:-lag, :, 2])
        lengths = (np.linalg.norm(moved, axis=-1) * scores).mean(axis=1) / sides[lag:]
        means.append(float(lengths[is_consecutive].mean()))
    return max(means[1] - means[0], 0.0)


def prominence(track: Track, size: tuple[int, int]) -> float:
    """Return the prominence of a person: size, centrality and keypoint score over time.

    A person at rest is less prominent than anyone who moves. All people who move count alike,
    so that their order does not depend on the amount of motion.

    Args:
        track: track of the person.
        size: width and height of the frame in px.

    Returns:
        Sum over the frames of a value of about 0..1.
    """
    extent = np.array(size)
    crops = [pose.crop for pose in track.poses]
    centers = np.array([(crop.center_x_px, crop.center_y_px) for crop in crops])
    sides = np.array([crop.side_px for crop in crops])
    scores = np.array([pose.keypoints[:, 2].mean() for pose in track.poses])
    # Gaussian: 1 at the center, 0.37 at the sides, 0.14 in a corner.
    centrality = np.exp(-(((centers - extent / 2) / (extent / 2)) ** 2).sum(axis=1))
    activity = min(max(limb_motion(track) / MIN_MOTION, REST_PROMINENCE), 1.0)
    return activity * float((sides / np.hypot(*size) * centrality * scores).sum())


def select_performers(tracks: list[Track], size: tuple[int, int], fps: float) -> list[Track]:
    """Select the main performer of a shot, and substitutes where the performer is absent.

    Args:
        tracks: tracks of one shot, in any order.
        size: width and height of the frame in px.
        fps: frames per second.

    Returns:
        Tracks that do not overlap in time, earliest first; empty if there are no tracks.
    """
    ranked = sorted(link_tracks(tracks, fps), key=lambda t: prominence(t, size), reverse=True)
    if not ranked:
        return []
    main = ranked[0]
    minimum = MIN_SUBSTITUTE_PROMINENCE * prominence(main, size) / len(main.frame_indices)
    chosen = [main]
    for track in ranked[1:]:
        if prominence(track, size) / len(track.frame_indices) < minimum:
            continue
        for start, stop in _unoccupied_spans(chosen, track.frame_indices[-1] + 1):
            substitute = track.slice_frames(start, stop)
            if len(substitute.frame_indices) >= MIN_SUBSTITUTE_S * fps:
                chosen.append(substitute)
    return sorted(chosen, key=lambda track: track.frame_indices[0])


def _unoccupied_spans(chosen: list[Track], stop: int) -> list[tuple[int, int]]:
    """Return the frame ranges up to ``stop`` that no chosen track occupies."""
    spans = sorted((track.frame_indices[0], track.frame_indices[-1] + 1) for track in chosen)
    edges = [(0, 0), *spans, (max(stop, spans[-1][1]), stop)]
    return [(before[1], after[0]) for before, after in pairwise(edges) if before[1] < after[0]]


class PerformerTimeline:
    """Keypoints of the main performer over a clip, collected shot by shot."""

    def __init__(self) -> None:
        """Create an empty timeline."""
        self._frames: list[int] = []
        self._keypoints: list[Array] = []
        self._cuts: list[int] = []

    def add_shot(self, performers: list[Track], shot_start: int) -> None:
        """Append a shot.

        Args:
            performers: result of ``select_performers``, later than all tracks already added.
            shot_start: first frame of the shot.
        """
        for k, track in enumerate(performers):
            if self._frames:
                self._cuts.append(track.frame_indices[0] if k else shot_start)
            self._frames += track.frame_indices
            self._keypoints.append(np.stack([s.keypoints for s in track.poses]))

    def interpolate_gaps(self, n_frames: int, fps: float) -> tuple[Array, Array, Array]:
        """Return a pose for every frame.

        Short gaps are interpolated linearly. Long gaps are constant, with a transition at their
        end. A gap that contains a cut is constant before and after the cut. Frames before the
        first pose and after the last are constant.

        Args:
            n_frames: number of frames in the clip.
            fps: frames per second.

        Returns:
            Keypoints ``(n_frames, 17, 3)`` float32, with score 0 where interpolated (all zeros
            if no person was detected); interpolated ``(n_frames,)`` bool; cuts ``(cuts,)``.
        """
        keypoints = np.zeros((n_frames, len(COCO_17), 3), np.float32)
        interpolated = np.ones(n_frames, bool)
        cuts = np.array(self._cuts, np.int64)
        if not self._frames:
            return keypoints, interpolated, cuts
        first, last = self._frames[0], self._frames[-1]
        keypoints[self._frames] = np.concatenate(self._keypoints)
        interpolated[self._frames] = False
        positions = keypoints[..., :2]
        for before, after in pairwise(self._frames):
            gap = np.arange(before + 1, after)
            weight = _gap_weights(gap, before, after, cuts, fps)[:, None, None]
            positions[gap] = (1 - weight) * positions[before] + weight * positions[after]
        positions[:first] = positions[first]
        positions[last + 1 :] = positions[last]
        return keypoints, interpolated, cuts


def _gap_weights(gap: Array, before: int, after: int, cuts: Array, fps: float) -> Array:
    """Return the interpolation weight of the pose after the gap for each frame, 0..1."""
    inside = cuts[(cuts > before) & (cuts <= after)]
    if len(inside):
        return np.asarray(gap >= inside[-1], float)
    is_short = after - before <= MAX_INTERPOLATED_GAP_S * fps
    start = before if is_short else after - TRANSITION_S * fps
    return np.asarray(((gap - start) / (after - start)).clip(0, 1))
