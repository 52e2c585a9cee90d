"""Who is followed: bodies that move, break off, cross cuts and hide, without any network."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from loris_cli.errors import InputError
from loris_cli.pose.blazepose import Crop, ImagePyramid, PersonPose, apply_affine
from loris_cli.pose.keypoints import Poses
from loris_cli.pose.main_performer import (
    PerformerTimeline,
    Track,
    link_tracks,
    select_performers,
)
from loris_cli.pose.shot_detection import ShotDetector
from loris_cli.pose.tracking import MAX_PEOPLE, estimate_poses, tile_matrix
from loris_cli.video.frames import Frame

Array = NDArray[Any]
FPS = 16.0
SIZE = (320, 240)


@dataclass(frozen=True)
class Body:
    """A synthetic person whose joints lie on a slanted line through the middle."""

    x: float
    y: float = 120.0
    side: float = 100.0

    @property
    def pose(self) -> PersonPose:
        offset = np.linspace(-0.4, 0.4, 17) * self.side
        joints = np.stack([self.x + offset / 4, self.y + offset, np.full(17, 0.9)], axis=1)
        crop = Crop(center_x_px=self.x, center_y_px=self.y, side_px=self.side, angle_rad=0.0)
        return PersonPose(keypoints=joints.astype(np.float32), crop=crop)


Scene = Callable[[int], list[Body]]


class FakePoseEstimator:
    """Finds the people of a scene; the frame index is the red value of the first pixel."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.n_estimates = 0

    def _people(self, image: ImagePyramid) -> list[Body]:
        return self.scene(int(image.select_level(1)[0, 0, 0]))

    def detect_people(self, image: ImagePyramid, region: Array | None = None) -> list[Crop]:
        return [body.pose.crop for body in self._people(image)]

    def estimate_pose(self, image: ImagePyramid, crop: Crop) -> PersonPose | None:
        def distance_px(body: Body) -> float:
            return float(np.hypot(body.x - crop.center_x_px, body.y - crop.center_y_px))

        self.n_estimates += 1
        nearest = min(self._people(image), key=distance_px, default=None)
        return nearest.pose if nearest and distance_px(nearest) < 30 else None


def grey_frames(n_frames: int, cuts: tuple[int, ...] = ()) -> list[Frame]:
    """Grey frames with their index in the corner; each cut makes them darker or lighter."""
    frames = []
    for k in range(n_frames):
        shade = 60 + 120 * (sum(k >= cut for cut in cuts) % 2)
        rgb = np.full((SIZE[1], SIZE[0], 3), shade, np.uint8)
        rgb[0, 0] = k
        frames.append(Frame(time_s=k / FPS, rgb=rgb))
    return frames


def track(frames: list[Frame], estimator: FakePoseEstimator) -> Poses:
    return estimate_poses(frames, fps=FPS, size=SIZE, estimator=estimator)


def track_scene(scene: Scene, n_frames: int = 48, cuts: tuple[int, ...] = ()) -> Poses:
    return track(grey_frames(n_frames, cuts), FakePoseEstimator(scene))


def hips_x(poses: Poses) -> Array:
    """Where the body is; the mean of the joints of a ``Body`` is its middle."""
    middle: Array = poses.keypoints[..., 0].mean(axis=1)
    return middle


def make_track(frames: list[int], body: Callable[[int], Body]) -> Track:
    return Track(frame_indices=frames, poses=[body(k).pose for k in frames])


# --- following ------------------------------------------------------------------------------


def test_one_body_is_followed_frame_by_frame() -> None:
    poses = track_scene(lambda k: [Body(100 + 2 * k)])

    np.testing.assert_allclose(hips_x(poses), 100 + 2 * np.arange(48), atol=1e-3)
    assert poses.detected_fraction == 1
    assert (poses.keypoints[..., 2] > 0.8).all()
    assert poses.cuts.tolist() == []


def test_joints_are_scaled_back_to_the_video() -> None:
    estimator = FakePoseEstimator(lambda k: [Body(100)])
    poses = estimate_poses(grey_frames(4), fps=FPS, size=(1280, 1200), estimator=estimator)

    np.testing.assert_allclose(hips_x(poses), 100 * 4, rtol=1e-5)
    np.testing.assert_allclose(poses.keypoints[..., 1].mean(axis=1), 120 * 5, rtol=1e-5)


def test_progress_is_told_after_every_frame() -> None:
    counts: list[int] = []

    estimate_poses(
        grey_frames(5),
        fps=FPS,
        size=SIZE,
        estimator=FakePoseEstimator(lambda k: []),
        progress=lambda done, n_people: counts.append(done),
    )

    assert counts == [1, 2, 3, 4, 5]


def test_no_pictures_are_refused() -> None:
    with pytest.raises(InputError, match="the video has no frames"):
        track([], FakePoseEstimator(lambda k: []))


def test_nobody_at_all_is_all_interpolated_and_zero() -> None:
    poses = track_scene(lambda k: [])

    assert poses.interpolated.all()
    assert not poses.keypoints.any()


def test_a_body_for_a_moment_is_held_and_marked() -> None:
    poses = track_scene(lambda k: [Body(100)] if k == 10 else [])

    assert np.flatnonzero(~poses.interpolated).tolist() == [10]
    np.testing.assert_allclose(hips_x(poses), 100, rtol=1e-5)
    assert not poses.keypoints[poses.interpolated][..., 2].any()


def test_a_body_that_comes_in_between_detections_is_found_within_half_a_second() -> None:
    # A small one is followed from the start, so detection runs only now and then.
    poses = track_scene(lambda k: [Body(40, side=30)] + ([Body(180)] if k >= 9 else []))

    assert hips_x(poses)[17:] == pytest.approx(180)


def test_the_larger_of_two_is_followed() -> None:
    poses = track_scene(lambda k: [Body(110, side=60), Body(210, side=100)])

    np.testing.assert_allclose(hips_x(poses), 210, rtol=1e-5)


def test_the_one_in_the_middle_of_two_is_followed() -> None:
    poses = track_scene(lambda k: [Body(20), Body(160)])

    np.testing.assert_allclose(hips_x(poses), 160, rtol=1e-5)


def test_the_one_who_stays_is_followed_rather_than_a_passer_by() -> None:
    poses = track_scene(lambda k: [Body(160)] + ([Body(240, side=150)] if 16 <= k < 26 else []))

    np.testing.assert_allclose(hips_x(poses), 160, rtol=1e-5)
    assert poses.cuts.tolist() == []


def test_a_crowd_costs_no_more_than_its_four_largest() -> None:
    def crowd(k: int) -> list[Body]:
        return [Body(40.0 * n, side=20.0 + 6 * n) for n in range(1, 8)]

    estimator = FakePoseEstimator(crowd)
    poses = track(grey_frames(33), estimator)

    # MAX_PEOPLE every frame, and up to as many newcomers every eighth one.
    assert estimator.n_estimates <= 33 * MAX_PEOPLE + 5 * MAX_PEOPLE
    assert poses.detected_fraction == 1


def test_two_tracks_that_come_upon_one_body_become_one() -> None:
    def scene(k: int) -> list[Body]:
        return [Body(100), Body(128)] if k < 10 else [Body(114)]

    estimator = FakePoseEstimator(scene)
    track(grey_frames(48), estimator)

    assert estimator.n_estimates < 10 * 2 + 38 + 30


# --- gaps -----------------------------------------------------------------------------------


def test_a_short_gap_is_crossed_in_a_straight_line_and_marked() -> None:
    poses = track_scene(lambda k: [] if 20 <= k < 28 else [Body(100 + k)])

    assert np.flatnonzero(poses.interpolated).tolist() == list(range(20, 28))
    np.testing.assert_allclose(hips_x(poses), 100 + np.arange(48), rtol=1e-5)
    assert not poses.keypoints[20:28, :, 2].any()
    assert poses.cuts.tolist() == []


def test_a_long_gap_is_held_then_moved() -> None:
    def scene(k: int) -> list[Body]:
        return [Body(100)] if k < 20 else [Body(130)] if k >= 80 else []

    x = hips_x(track_scene(scene, 100))

    np.testing.assert_allclose(x[:65], 100, rtol=1e-5)  # the move takes one second
    assert (np.diff(x[64:81]) > 1).all()
    np.testing.assert_allclose(x[80:], 130, rtol=1e-5)


def test_the_ends_are_held() -> None:
    poses = track_scene(lambda k: [Body(100 + k)] if 8 <= k < 40 else [])

    np.testing.assert_allclose(hips_x(poses)[:8], 108, rtol=1e-5)
    np.testing.assert_allclose(hips_x(poses)[40:], 139, rtol=1e-5)
    assert np.flatnonzero(~poses.interpolated).tolist() == list(range(8, 40))


def test_somebody_stands_in_while_the_main_performer_is_away() -> None:
    def scene(k: int) -> list[Body]:
        return [Body(160, side=100)] if k < 60 else [Body(240, side=90)]

    poses = track_scene(scene, 100)

    assert poses.detected_fraction == 1
    assert poses.cuts.tolist() == [60]
    np.testing.assert_allclose(hips_x(poses)[60:], 240, rtol=1e-5)


def test_somebody_far_off_does_not_stand_in() -> None:
    def scene(k: int) -> list[Body]:
        return [Body(160, side=100)] if k < 60 else [Body(300, 20, side=20)]

    poses = track_scene(scene, 100)

    assert poses.interpolated[60:].all()
    np.testing.assert_allclose(hips_x(poses), 160, rtol=1e-5)


# --- cuts -----------------------------------------------------------------------------------


def test_after_a_cut_the_main_one_of_the_new_shot_is_followed() -> None:
    def scene(k: int) -> list[Body]:
        return [Body(80)] if k < 24 else [Body(60, side=50), Body(200, side=120)]

    poses = track_scene(scene, cuts=(24,))

    assert poses.cuts.tolist() == [24]
    assert poses.detected_fraction == 1
    np.testing.assert_allclose(hips_x(poses)[:24], 80, rtol=1e-5)
    np.testing.assert_allclose(hips_x(poses)[24:], 200, rtol=1e-5)


def test_a_body_that_stays_through_a_flash_is_one_body() -> None:
    poses = track_scene(lambda k: [Body(100 + k)], cuts=(20, 21))

    assert poses.cuts.tolist() == []
    np.testing.assert_allclose(hips_x(poses), 100 + np.arange(48), rtol=1e-5)


def test_nothing_glides_across_a_cut() -> None:
    def scene(k: int) -> list[Body]:
        return [Body(80)] if k < 20 else [Body(240)] if k >= 30 else []

    poses = track_scene(scene, cuts=(25,))

    assert poses.cuts.tolist() == [25]
    assert poses.interpolated[20:30].all()
    np.testing.assert_allclose(hips_x(poses)[:25], 80, rtol=1e-5)
    np.testing.assert_allclose(hips_x(poses)[25:], 240, rtol=1e-5)


def test_a_shot_without_a_body_is_held_up_to_the_next() -> None:
    def scene(k: int) -> list[Body]:
        return [Body(80)] if k < 16 else [Body(240)] if k >= 32 else []

    poses = track_scene(scene, cuts=(16, 32))

    assert poses.cuts.tolist() == [32]
    np.testing.assert_allclose(hips_x(poses)[:32], 80, rtol=1e-5)


def test_a_cut_shows_and_a_moving_camera_does_not() -> None:
    rng = np.random.default_rng(0)
    wall = np.kron(rng.integers(0, 256, (30, 200, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    shots = ShotDetector()

    panned = [shots.is_cut(wall[:, 6 * k : 6 * k + 320]) for k in range(20)]
    cut = shots.is_cut(np.full((240, 320, 3), 200, np.uint8))
    after = shots.is_cut(np.full((240, 320, 3), 201, np.uint8))

    assert not any(panned[3:])  # by then the pan is what is usual
    assert cut
    assert not after


# --- joining and choosing -------------------------------------------------------------------


def test_a_broken_track_is_joined() -> None:
    first = make_track([0, 1, 2], lambda k: Body(100))
    second = make_track([8, 9], lambda k: Body(110, side=120))

    (linked,) = link_tracks([second, first], FPS)

    assert linked.frame_indices == [0, 1, 2, 8, 9]
    assert len(linked.poses) == 5


@pytest.mark.parametrize(
    "other",
    [
        make_track([8, 9], lambda k: Body(300)),  # elsewhere
        make_track([8, 9], lambda k: Body(100, side=300)),  # of another size
        make_track([300, 301], lambda k: Body(100)),  # much later
        make_track([2, 3], lambda k: Body(100)),  # at the same time
    ],
)
def test_what_cannot_be_the_same_body_is_not_joined(other: Track) -> None:
    assert len(link_tracks([make_track([0, 1, 2], lambda k: Body(100)), other], FPS)) == 2


def test_of_two_that_fit_the_nearer_is_joined() -> None:
    first = make_track([0, 1, 2], lambda k: Body(100))
    near = make_track([6, 7], lambda k: Body(105))
    far = make_track([6, 7, 8], lambda k: Body(140))

    joined = link_tracks([first, far, near], FPS)

    assert sorted(t.frame_indices for t in joined) == [[0, 1, 2, 6, 7], [6, 7, 8]]


def test_nobody_performs_in_an_empty_shot() -> None:
    assert select_performers([], SIZE, FPS) == []


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_performers_never_overlap_and_every_frame_is_filled(data: st.DataObject) -> None:
    tracks = []
    for _ in range(data.draw(st.integers(0, 5))):
        start = data.draw(st.integers(0, 90))
        stop = data.draw(st.integers(start + 1, 100))
        body = Body(data.draw(st.floats(0, 320)), 120, data.draw(st.floats(20, 150)))
        poses = [body.pose] * (stop - start)
        tracks.append(Track(frame_indices=list(range(start, stop)), poses=poses))

    chosen = select_performers(tracks, SIZE, FPS)
    performance = PerformerTimeline()
    performance.add_shot(chosen, 0)
    keypoints, interpolated, cuts = performance.interpolate_gaps(100, FPS)

    frames = [k for track in chosen for k in track.frame_indices]
    assert frames == sorted(set(frames))
    assert bool(chosen) == bool(tracks)
    assert np.flatnonzero(~interpolated).tolist() == frames
    assert np.isfinite(keypoints).all()
    assert len(cuts) == max(0, len(chosen) - 1)
    if chosen:
        assert keypoints[..., :2].any(axis=(1, 2)).all()
    assert ((keypoints[..., 2] > 0).all(axis=1) == ~interpolated).all()


def test_close_ups_cover_the_picture() -> None:
    image = ImagePyramid(np.zeros((360, 640, 3), np.uint8))
    covered = np.zeros((360, 640), bool)

    for tile_index in range(8):
        (left, top), (right, bottom) = apply_affine(
            tile_matrix(image, tile_index), np.array([[0.0, 0.0], [1.0, 1.0]])
        )
        assert min(left, top) >= 0
        assert (right, bottom) <= (640.001, 360.001)
        covered[round(top) : round(bottom), round(left) : round(right)] = True

    assert covered.all()
