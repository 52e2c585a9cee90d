"""The main performer of a clip: who is followed, and what is done where nobody is seen.

    frames -> bodies followed within each shot -> the main one of each -> Poses

Two stages on purpose. Following (``Follower``) sees one picture at a time and keeps joints
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
from loris_cli.pose.blazepose import BlazePose, Crop, Pyramid, Sighting
from loris_cli.pose.keypoints import Poses
from loris_cli.pose.main_performer import Performance, Track, middle_distance, perform
from loris_cli.pose.shot_detection import ShotChanges

Array = NDArray[Any]

MAX_PEOPLE = 4
# Frames between looks for people who came in: half a second.
DETECT_EVERY = 8
# Two crops are of one body if their middles are nearer than this share of a side.
SAME_PLACE = 0.25
# Two sets of joints are of one body if they differ by less than this share of a side.
SAME_JOINTS = 0.1
# ... and one body does not move further than this from one frame to the next.
CONTINUED_JOINTS = 0.12
MIN_SIDE_PX = 8.0
# When all places are taken, a newcomer must be so many times larger than the smallest.
NEWCOMER_SIZE = 1.5
# Side of a close-up, as a share of the picture's shorter side.
CLOSE_UP = 0.6
CLOSE_UPS_AT_ONCE = 2
# A body so much smaller than the largest is a bystander.
BYSTANDER_SIZE = 0.5
# Close-ups are tried where nobody is found, or all crops are smaller than this share of it.
SMALL = 0.5


class Frame(Protocol):
    """One picture of a video; ``loris_cli.video.frames.Frame`` is one."""

    @property
    def time_s(self) -> float:
        """When it is shown."""

    @property
    def rgb(self) -> Array:
        """The picture, ``(height, width, 3)`` uint8."""


class Eyes(Protocol):
    """What finds bodies in a picture; ``BlazePose`` does."""

    def detect(self, picture: Pyramid, region: Array | None = None) -> list[Crop]:
        """Crops of the bodies in a picture, surest first."""

    def look(self, picture: Pyramid, crop: Crop) -> Sighting | None:
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
    return follow(frames, eyes, fps=fps, size=size, progress=progress)


def follow(
    frames: Iterable[Frame],
    eyes: Eyes,
    *,
    fps: float,
    size: tuple[int, int],
    progress: Callable[[int, int], None] | None = None,
) -> Poses:
    """As ``estimate_poses``, with any ``eyes``."""
    follower = Follower(eyes)
    performance = Performance()
    picture_size = size
    n_frames = shot_start = 0
    for frame in frames:
        picture_size = (frame.rgb.shape[1], frame.rgb.shape[0])
        finished = follower.step(frame.rgb)
        if finished is not None:
            performance.add(perform(finished, picture_size, fps), shot_start)
            shot_start = n_frames
        n_frames += 1
        if progress is not None:
            progress(n_frames, follower.n_followed)
    if not n_frames:
        raise InputError("the video has no pictures", hint="see whether it plays in a player")
    performance.add(perform(follower.finish(), picture_size, fps), shot_start)
    keypoints, interpolated, cuts = performance.fill(n_frames, fps)
    keypoints[..., :2] *= np.array(size) / np.array(picture_size)
    return Poses(
        keypoints=keypoints,
        times_s=np.arange(n_frames) / fps,
        fps=fps,
        size=size,
        interpolated=interpolated,
        cuts=cuts,
    )


class Follower:
    """Follows up to ``MAX_PEOPLE`` bodies from picture to picture, until the shot ends."""

    def __init__(self, eyes: Eyes) -> None:
        """Start before the first picture."""
        self._eyes = eyes
        self._shots = ShotChanges()
        self._frame = -1
        self._search_until = 0
        self._lost: Crop | None = None
        self._turn = 0
        self._live: list[Track] = []
        self._tracks: list[Track] = []

    def step(self, rgb: Array) -> list[Track] | None:
        """Look at the next picture.

        Args:
            rgb: ``(height, width, 3)`` uint8.

        Returns:
            The tracks of the shot before, if this picture is the first of a new one.
        """
        self._frame += 1
        picture = Pyramid(rgb)
        if self._shots.is_cut(rgb):
            return self._change_shot(picture)
        before, self._live = self._live, []
        for track in before:  # the oldest first: of two that come upon one body, it stays
            sighting = self._eyes.look(picture, track.last.crop)
            if sighting is not None and self._is_new(sighting, picture):
                track.add(self._frame, sighting)
                self._live.append(track)
        lost = [track.last.crop for track in before if track not in self._live]
        if lost:  # look for them for a while
            self._lost = max(lost, key=lambda crop: crop.side_px)
            self._search_until = self._frame + DETECT_EVERY
        searching = self._frame < self._search_until or not self._live
        if searching or self._frame % DETECT_EVERY == 0:
            for sighting in self._newcomers(picture):
                self._admit(sighting)
        return None

    @property
    def n_followed(self) -> int:
        """Bodies followed into the last picture, without far smaller ones."""
        sides = [track.last.crop.side_px for track in self._live]
        return sum(side >= BYSTANDER_SIZE * max(sides) for side in sides)

    def finish(self) -> list[Track]:
        """The tracks of the shot that ends here; the next picture begins another."""
        tracks, self._tracks, self._live = self._tracks, [], []
        return tracks

    def _change_shot(self, picture: Pyramid) -> list[Track] | None:
        """The tracks of the shot before, unless a body shows that it still goes on."""
        before, self._live, self._lost = self._live, [], None
        arrivals = self._newcomers(picture)
        for track in before:
            for sighting in arrivals:
                same = joint_distance(track.last, sighting) < CONTINUED_JOINTS
                if same and self._is_new(sighting, picture):
                    track.add(self._frame, sighting)
                    self._live.append(track)
        finished = None if self._live else self.finish()
        for sighting in arrivals:
            if self._is_new(sighting, picture):
                self._admit(sighting)
        return finished

    def _is_new(self, sighting: Sighting, picture: Pyramid) -> bool:
        """Whether a body is in the picture and nobody followed in this frame is that body."""
        crop = sighting.crop
        inside = 0 <= crop.x < picture.width and 0 <= crop.y < picture.height
        return (
            inside
            and crop.side_px >= MIN_SIDE_PX
            and all(joint_distance(t.last, sighting) >= SAME_JOINTS for t in self._live)
        )

    def _newcomers(self, picture: Pyramid) -> list[Sighting]:
        """Bodies in a picture that are not followed yet, surest first."""
        crops = self._eyes.detect(picture)
        sides = [track.last.crop.side_px for track in self._live]
        small = max(sides, default=0.0) < SMALL * min(picture.width, picture.height)
        if self._frame < self._search_until and self._lost is not None:
            crops += self._eyes.detect(picture, replace(self._lost, angle_rad=0.0).to_picture())
        elif small:
            for _ in range(CLOSE_UPS_AT_ONCE):
                crops += self._eyes.detect(picture, close_up(picture, self._turn))
                self._turn += 1
        known = [track.last.crop for track in self._live]
        found: list[Sighting] = []
        for crop in crops:
            if len(found) == MAX_PEOPLE:
                break
            if any(middle_distance(crop, other) < SAME_PLACE for other in known):
                continue
            sighting = self._eyes.look(picture, crop)
            if sighting is not None and self._is_new(sighting, picture):
                found.append(sighting)
                known.append(sighting.crop)
        return found

    def _admit(self, sighting: Sighting) -> None:
        """Follow a newcomer; when all places are taken, only instead of someone far smaller."""
        if len(self._live) >= MAX_PEOPLE:
            smallest = min(self._live, key=lambda track: track.last.crop.side_px)
            if sighting.crop.side_px < NEWCOMER_SIZE * smallest.last.crop.side_px:
                return
            self._live.remove(smallest)
        track = Track()
        track.add(self._frame, sighting)
        self._live.append(track)
        self._tracks.append(track)


def joint_distance(one: Sighting, other: Sighting) -> float:
    """Mean distance of two bodies' joints, in sides of the larger's crop."""
    distance = np.linalg.norm(one.joints[:, :2] - other.joints[:, :2], axis=1).mean()
    return float(distance) / max(one.crop.side_px, other.crop.side_px)


def close_up(picture: Pyramid, turn: int) -> Array:
    """A square part of a picture, for bodies too small to be found in the whole.

    The squares overlap by a third or more; turn by turn they cover the picture.

    Args:
        picture: where to look.
        turn: which of the squares; any number.

    Returns:
        map from the unit square to the part, ``(2, 3)``.
    """
    extent = np.array([picture.width, picture.height])
    side = CLOSE_UP * extent.min()
    n_columns, n_rows = (1 + np.ceil(1.5 * (extent - side) / side).astype(int)).tolist()
    row, column = divmod(turn % (n_columns * n_rows), n_columns)
    along = np.array([column / max(1, n_columns - 1), row / max(1, n_rows - 1)])
    return np.column_stack([side * np.eye(2), along * (extent - side)])
