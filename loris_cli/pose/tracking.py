"""The main performer of a clip: who is followed, and what is done where nobody is seen.

    frames -> bodies followed within each shot -> the main one of each -> Poses

Two stages on purpose. Following (``PersonTracker``) sees one picture at a time and keeps joints
only; choosing (``performer``) waits for the end of a shot, when it is known who stayed.

Joints are kept as seen, not smoothed. MediaPipe's own filter lags: on seven rendered dances
at 15 fps it took the correlation of the onset envelope with the true one from 0.82 to 0.68,
a zero-phase filter (1/4, 1/2, 1/4) to 0.79. Only the lightest, (0.1, 0.8, 0.1), helped: 0.83.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from loris_cli.errors import InputError
from loris_cli.pose.blazepose import BlazePose, Crop, ImagePyramid, PersonPose
from loris_cli.pose.keypoints import Poses
from loris_cli.pose.main_performer import (
    PerformerTimeline,
    Track,
    crop_center_distance,
    select_performers,
)
from loris_cli.pose.shot_detection import ShotDetector

Array = NDArray[Any]

MAX_PEOPLE = 4
# Frames between looks for people who came in: half a second.
DETECTION_INTERVAL_FRAMES = 8
# Two crops are of one body if their middles are nearer than this share of a side.
SAME_PERSON_CENTER_DISTANCE = 0.25
# Two sets of joints are of one body if they differ by less than this share of a side.
SAME_PERSON_KEYPOINT_DISTANCE = 0.1
# ... and one body does not move further than this from one frame to the next.
CONTINUITY_KEYPOINT_DISTANCE = 0.12
MIN_CROP_SIDE_PX = 8.0
# When all places are taken, a newcomer must be so many times larger than the smallest.
NEWCOMER_SIZE_RATIO = 1.5
# Side of a close-up, as a share of the picture's shorter side.
TILE_FRACTION = 0.6
TILES_PER_FRAME = 2
# A body so much smaller than the largest is a bystander.
BYSTANDER_SIZE_RATIO = 0.5
# Close-ups are tried where nobody is found, or all crops are smaller than this share of it.
SMALL_PERSON_FRACTION = 0.5


class Frame(Protocol):
    """One picture of a video; ``loris_cli.video.frames.Frame`` is one."""

    @property
    def time_s(self) -> float:
        """When it is shown."""

    @property
    def rgb(self) -> Array:
        """The picture, ``(height, width, 3)`` uint8."""


class FramePoseEstimator(Protocol):
    """What finds bodies in a picture; ``BlazePose`` does."""

    def detect_people(
        self, image: ImagePyramid, region_matrix: Array | None = None
    ) -> list[Crop]:
        """Crops of the bodies in a picture, surest first."""

    def estimate_pose(self, image: ImagePyramid, crop: Crop) -> PersonPose | None:
        """The body in a crop, or None."""


def estimate_poses(
    frames: Iterable[Frame],
    *,
    fps: float = 16.0,
    size: tuple[int, int],
    progress: Callable[[int, int], None] | None = None,
    n_threads: int = 1,
) -> Poses:
    """Poses of the main performer of a clip.

    Args:
        frames: upright pictures at ``fps``, all of one size, perhaps scaled down. None is kept.
        fps: pictures a second.
        size: width and height of the video in px; joints are given in its pixels.
        progress: told after each frame how many are done, and how many bodies are in it that
            are no bystanders.
        n_threads: threads that a network may use.

    Returns:
        One pose for every frame. If nobody was seen at all, every frame is interpolated and
        every score 0: the caller decides what to follow instead.

    Raises:
        InputError: there are no frames.
        WeightsError: the networks are missing or damaged.
    """
    eyes = BlazePose(n_threads=n_threads)
    return track_main_performer(frames, eyes, fps=fps, size=size, progress=progress)


def track_main_performer(
    frames: Iterable[Frame],
    estimator: FramePoseEstimator,
    *,
    fps: float,
    size: tuple[int, int],
    progress: Callable[[int, int], None] | None = None,
) -> Poses:
    """As ``estimate_poses``, with any ``estimator``."""
    follower = PersonTracker(estimator)
    performance = PerformerTimeline()
    picture_size = size
    n_frames = shot_start = 0
    for frame in frames:
        picture_size = (frame.rgb.shape[1], frame.rgb.shape[0])
        finished = follower.update(frame.rgb)
        if finished is not None:
            performance.add_shot(select_performers(finished, picture_size, fps), shot_start)
            shot_start = n_frames
        n_frames += 1
        if progress is not None:
            progress(n_frames, follower.n_performers)
    if not n_frames:
        raise InputError("the video has no pictures", hint="see whether it plays in a player")
    performance.add_shot(
        select_performers(follower.finish_shot(), picture_size, fps), shot_start
    )
    keypoints, interpolated, cuts = performance.interpolate_gaps(n_frames, fps)
    keypoints[..., :2] *= np.array(size) / np.array(picture_size)
    return Poses(
        keypoints=keypoints,
        times_s=np.arange(n_frames) / fps,
        fps=fps,
        size=size,
        interpolated=interpolated,
        cuts=cuts,
    )


class PersonTracker:
    """Follows up to ``MAX_PEOPLE`` bodies from picture to picture, until the shot ends."""

    def __init__(self, estimator: FramePoseEstimator) -> None:
        """Start before the first picture."""
        self._estimator = estimator
        self._shots = ShotDetector()
        self._frame = -1
        self._search_until = 0
        self._lost_crop: Crop | None = None
        self._tile_index = 0
        self._active_tracks: list[Track] = []
        self._tracks: list[Track] = []

    def update(self, rgb: Array) -> list[Track] | None:
        """Look at the next picture.

        Args:
            rgb: ``(height, width, 3)`` uint8.

        Returns:
            The tracks of the shot before, if this picture is the first of a new one.
        """
        self._frame += 1
        picture = ImagePyramid(rgb)
        if self._shots.is_cut(rgb):
            return self._handle_cut(picture)
        before, self._active_tracks = self._active_tracks, []
        for track in before:  # the oldest first: of two that come upon one body, it stays
            sighting = self._estimator.estimate_pose(picture, track.last_pose.crop)
            if sighting is not None and self._is_untracked(sighting, picture):
                track.append(self._frame, sighting)
                self._active_tracks.append(track)
        lost = [track.last_pose.crop for track in before if track not in self._active_tracks]
        if lost:  # look for them for a while
            self._lost_crop = max(lost, key=lambda crop: crop.side_px)
            self._search_until = self._frame + DETECTION_INTERVAL_FRAMES
        searching = self._frame < self._search_until or not self._active_tracks
        if searching or self._frame % DETECTION_INTERVAL_FRAMES == 0:
            for sighting in self._detect_untracked(picture):
                self._start_track(sighting)
        return None

    @property
    def n_performers(self) -> int:
        """Bodies followed into the last picture, without far smaller ones."""
        sides = [track.last_pose.crop.side_px for track in self._active_tracks]
        return sum(side >= BYSTANDER_SIZE_RATIO * max(sides) for side in sides)

    def finish_shot(self) -> list[Track]:
        """The tracks of the shot that ends here; the next picture begins another."""
        tracks, self._tracks, self._active_tracks = self._tracks, [], []
        return tracks

    def _handle_cut(self, image: ImagePyramid) -> list[Track] | None:
        """The tracks of the shot before, unless a body shows that it still goes on."""
        before, self._active_tracks, self._lost_crop = self._active_tracks, [], None
        arrivals = self._detect_untracked(image)
        for track in before:
            for sighting in arrivals:
                same = (
                    keypoint_distance(track.last_pose, sighting) < CONTINUITY_KEYPOINT_DISTANCE
                )
                if same and self._is_untracked(sighting, image):
                    track.append(self._frame, sighting)
                    self._active_tracks.append(track)
        finished = None if self._active_tracks else self.finish_shot()
        for sighting in arrivals:
            if self._is_untracked(sighting, image):
                self._start_track(sighting)
        return finished

    def _is_untracked(self, pose: PersonPose, image: ImagePyramid) -> bool:
        """Whether a body is in the picture and nobody followed in this frame is that body."""
        crop = pose.crop
        inside = 0 <= crop.center_x_px < image.width and 0 <= crop.center_y_px < image.height
        return (
            inside
            and crop.side_px >= MIN_CROP_SIDE_PX
            and all(
                keypoint_distance(t.last_pose, pose) >= SAME_PERSON_KEYPOINT_DISTANCE
                for t in self._active_tracks
            )
        )

    def _detect_untracked(self, image: ImagePyramid) -> list[PersonPose]:
        """Bodies in a picture that are not followed yet, surest first."""
        crops = self._estimator.detect_people(image)
        sides = [track.last_pose.crop.side_px for track in self._active_tracks]
        small = max(sides, default=0.0) < SMALL_PERSON_FRACTION * min(image.width, image.height)
        if self._frame < self._search_until and self._lost_crop is not None:
            crops += self._estimator.detect_people(
                image, replace(self._lost_crop, angle_rad=0.0).to_image_matrix()
            )
        elif small:
            for _ in range(TILES_PER_FRAME):
                crops += self._estimator.detect_people(
                    image, tile_matrix(image, self._tile_index)
                )
                self._tile_index += 1
        known = [track.last_pose.crop for track in self._active_tracks]
        found: list[PersonPose] = []
        for crop in crops:
            if len(found) == MAX_PEOPLE:
                break
            if any(
                crop_center_distance(crop, other) < SAME_PERSON_CENTER_DISTANCE
                for other in known
            ):
                continue
            sighting = self._estimator.estimate_pose(image, crop)
            if sighting is not None and self._is_untracked(sighting, image):
                found.append(sighting)
                known.append(sighting.crop)
        return found

    def _start_track(self, pose: PersonPose) -> None:
        """Follow a newcomer; when all places are taken, only instead of someone far smaller."""
        if len(self._active_tracks) >= MAX_PEOPLE:
            smallest = min(self._active_tracks, key=lambda track: track.last_pose.crop.side_px)
            if pose.crop.side_px < NEWCOMER_SIZE_RATIO * smallest.last_pose.crop.side_px:
                return
            self._active_tracks.remove(smallest)
        track = Track()
        track.append(self._frame, pose)
        self._active_tracks.append(track)
        self._tracks.append(track)


def keypoint_distance(pose_a: PersonPose, pose_b: PersonPose) -> float:
    """Mean distance of two bodies' joints, in sides of the larger's crop."""
    distance = np.linalg.norm(pose_a.keypoints[:, :2] - pose_b.keypoints[:, :2], axis=1).mean()
    return float(distance) / max(pose_a.crop.side_px, pose_b.crop.side_px)


def tile_matrix(image: ImagePyramid, tile_index: int) -> Array:
    """A square part of a picture, for bodies too small to be found in the whole.

    The squares overlap by a third or more; turn by turn they cover the picture.

    Args:
        image: where to look.
        tile_index: which of the squares; any number.

    Returns:
        map from the unit square to the part, ``(2, 3)``.
    """
    extent = np.array([image.width, image.height])
    side = TILE_FRACTION * extent.min()
    n_columns, n_rows = (1 + np.ceil(1.5 * (extent - side) / side).astype(int)).tolist()
    row, column = divmod(tile_index % (n_columns * n_rows), n_columns)
    along = np.array([column / max(1, n_columns - 1), row / max(1, n_rows - 1)])
    return np.column_stack([side * np.eye(2), along * (extent - side)])
