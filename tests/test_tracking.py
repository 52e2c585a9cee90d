"""Tracking of people, selection of the main performer and cuts, with a synthetic estimator."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loris_cli.array_types import Array
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

pytestmark = pytest.mark.numpy1

FPS = 16.0
SIZE = (320, 240)


@dataclass(frozen=True)
class Person:
    """Synthetic person whose joints lie on an oblique line through the center, in px."""

    x: float
    y: float = 120.0
    side: float = 100.0
    swing: float = 0.0
    """Shift of the lower third of the joints, relative to the side."""

    @property
    def pose(self) -> PersonPose:
        offset = np.linspace(-0.4, 0.4, 17) * self.side
        joints = np.stack([self.x + offset / 4, self.y + offset, np.full(17, 0.9)], axis=1)
        joints[12:, 0] += self.swing * self.side
        crop = Crop(center_x_px=self.x, center_y_px=self.y, side_px=self.side, angle_rad=0.0)
        return PersonPose(keypoints=joints.astype(np.float32), crop=crop)


Scene = Callable[[int], list[Person]]
"""People in each frame."""


class FakePoseEstimator:
    """Estimator that reads the frame index from the first pixel and returns the scene."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.n_estimates = 0

    def _find_people(self, image: ImagePyramid) -> list[Person]:
        return self.scene(int(image.select_level(1)[0, 0, 0]))

    def detect_people(self, image: ImagePyramid, region: Array | None = None) -> list[Crop]:
        return [person.pose.crop for person in self._find_people(image)]

    def estimate_pose(self, image: ImagePyramid, crop: Crop) -> PersonPose | None:
        def distance_px(person: Person) -> float:
            return float(np.hypot(person.x - crop.center_x_px, person.y - crop.center_y_px))

        self.n_estimates += 1
        nearest = min(self._find_people(image), key=distance_px, default=None)
        return nearest.pose if nearest and distance_px(nearest) < 30 else None


def make_grey_frames(n_frames: int, cuts: tuple[int, ...] = ()) -> list[Frame]:
    """Grey frames with their index in the first pixel; the brightness changes at each cut."""
    frames = []
    for k in range(n_frames):
        shade = 60 + 120 * (sum(k >= cut for cut in cuts) % 2)
        rgb = np.full((SIZE[1], SIZE[0], 3), shade, np.uint8)
        rgb[0, 0] = k
        frames.append(Frame(time_s=k / FPS, rgb=rgb))
    return frames


def track_frames(frames: list[Frame], estimator: FakePoseEstimator) -> Poses:
    return estimate_poses(frames, fps=FPS, size=SIZE, estimator=estimator)


def track_scene(scene: Scene, n_frames: int = 48, cuts: tuple[int, ...] = ()) -> Poses:
    return track_frames(make_grey_frames(n_frames, cuts), FakePoseEstimator(scene))


def center_x(poses: Poses) -> Array:
    """Return x of the performer, the mean of the joints, ``(frames,)``."""
    return np.asarray(poses.keypoints[..., 0].mean(axis=1))


def make_track(frames: list[int], person: Callable[[int], Person]) -> Track:
    return Track(frame_indices=frames, poses=[person(k).pose for k in frames])


# --- tracking -------------------------------------------------------------------------------


def test_moving_person_is_tracked_in_every_frame() -> None:
    poses = track_scene(lambda k: [Person(100 + 2 * k)])

    np.testing.assert_allclose(center_x(poses), 100 + 2 * np.arange(48), atol=1e-3)
    assert poses.detected_fraction == 1
    assert (poses.keypoints[..., 2] > 0.8).all()
    assert poses.cuts.tolist() == []


SCENES: dict[str, tuple[Scene, tuple[int, ...]]] = {
    "two people": (lambda k: [Person(60 + 2 * k), Person(250 - k, side=80.0)], ()),
    "a cut": (lambda k: [Person(80 + k)] if k < 21 else [Person(240 - k)], (21,)),
    "a person leaves": (lambda k: [Person(200)] * (k < 30) + [Person(60, swing=k % 2 / 5)], ()),
    "a person is absent": (lambda k: [Person(100 + k)] * (not 15 <= k < 18), ()),
}


@pytest.mark.parametrize("name", SCENES)
def test_poses_of_the_next_frame_in_a_thread_are_the_same(name: str) -> None:
    scene, cuts = SCENES[name]
    frames = make_grey_frames(48, cuts)
    estimators = FakePoseEstimator(scene), FakePoseEstimator(scene)

    poses = estimate_poses(
        frames, fps=FPS, size=SIZE, estimator=estimators[0], next_estimator=estimators[1]
    )

    expected = track_scene(scene, cuts=cuts)
    np.testing.assert_array_equal(poses.keypoints, expected.keypoints)
    np.testing.assert_array_equal(poses.cuts, expected.cuts)
    np.testing.assert_array_equal(poses.interpolated, expected.interpolated)
    assert estimators[1].n_estimates >= 20


def test_an_error_of_the_next_frame_is_raised() -> None:
    class FailingEstimator(FakePoseEstimator):
        def estimate_pose(self, image: ImagePyramid, crop: Crop) -> PersonPose | None:
            raise MemoryError

    scene = SCENES["two people"][0]
    estimators = FakePoseEstimator(scene), FailingEstimator(scene)
    with pytest.raises(MemoryError):
        estimate_poses(
            make_grey_frames(8),
            fps=FPS,
            size=SIZE,
            estimator=estimators[0],
            next_estimator=estimators[1],
        )


def test_keypoints_are_scaled_to_the_video_size() -> None:
    estimator = FakePoseEstimator(lambda k: [Person(100)])
    poses = estimate_poses(make_grey_frames(4), fps=FPS, size=(1280, 1200), estimator=estimator)

    np.testing.assert_allclose(center_x(poses), 100 * 4, rtol=1e-5)
    np.testing.assert_allclose(poses.keypoints[..., 1].mean(axis=1), 120 * 5, rtol=1e-5)


def test_progress_is_reported_after_every_frame() -> None:
    counts: list[tuple[int, int]] = []

    estimate_poses(
        make_grey_frames(5),
        fps=FPS,
        size=SIZE,
        estimator=FakePoseEstimator(lambda k: [Person(160)] if k < 3 else []),
        progress=lambda n_done, n_people: counts.append((n_done, n_people)),
    )

    assert counts == [(1, 1), (2, 1), (3, 1), (4, 0), (5, 0)]


def test_video_without_frames_is_refused() -> None:
    with pytest.raises(InputError, match="frames"):
        track_frames([], FakePoseEstimator(lambda k: []))


def test_clip_without_a_person_has_zero_interpolated_poses() -> None:
    poses = track_scene(lambda k: [])

    assert poses.interpolated.all()
    assert not poses.keypoints.any()


def test_person_in_one_frame_is_extended_as_interpolated() -> None:
    poses = track_scene(lambda k: [Person(100)] if k == 10 else [])

    assert np.flatnonzero(~poses.interpolated).tolist() == [10]
    np.testing.assert_allclose(center_x(poses), 100, rtol=1e-5)
    assert not poses.keypoints[poses.interpolated][..., 2].any()


def test_newcomer_is_detected_within_half_a_second() -> None:
    # A small person is tracked from the start, so people are detected only every 8 frames.
    poses = track_scene(lambda k: [Person(40, side=30)] + ([Person(180)] if k >= 9 else []))

    assert center_x(poses)[17:] == pytest.approx(180)


def test_larger_of_two_people_is_the_main_performer() -> None:
    poses = track_scene(lambda k: [Person(110, side=60), Person(210, side=100)])

    np.testing.assert_allclose(center_x(poses), 210, rtol=1e-5)


def test_central_one_of_two_people_is_the_main_performer() -> None:
    poses = track_scene(lambda k: [Person(20), Person(160)])

    np.testing.assert_allclose(center_x(poses), 160, rtol=1e-5)


def test_large_passer_by_is_not_the_main_performer() -> None:
    poses = track_scene(
        lambda k: [Person(160)] + ([Person(240, side=150)] if 16 <= k < 26 else [])
    )

    np.testing.assert_allclose(center_x(poses), 160, rtol=1e-5)
    assert poses.cuts.tolist() == []


def swing(k: int) -> float:
    """Return the position of a limb that swings once a second."""
    return 0.2 * float(np.sin(2 * np.pi * k / FPS))


def test_small_dancer_wins_over_a_large_person_at_rest() -> None:
    poses = track_scene(lambda k: [Person(110, side=40, swing=swing(k)), Person(210, side=150)])

    assert np.median(center_x(poses)) == pytest.approx(110, abs=5)


def test_dancer_is_tracked_beside_many_people_at_rest() -> None:
    bystanders = [Person(60.0 * n, side=80.0 + n) for n in range(1, MAX_PEOPLE + 1)]
    poses = track_scene(lambda k: [*bystanders, Person(150, 200, side=60, swing=swing(k))])

    assert center_x(poses)[12:] == pytest.approx(150, abs=8)


def test_noise_of_the_keypoints_of_a_person_is_no_motion() -> None:
    jitter = np.random.default_rng(0).normal(0, 0.05, 48)
    poses = track_scene(
        lambda k: [Person(110, side=60, swing=swing(k)), Person(210, swing=jitter[k])]
    )

    assert np.median(center_x(poses)) == pytest.approx(110, abs=5)


@pytest.mark.parametrize("amount", [1, 4])
def test_larger_of_two_dancers_is_the_main_performer(amount: float) -> None:
    poses = track_scene(
        lambda k: [
            Person(110, side=60, swing=amount * swing(k)),
            Person(210, side=100, swing=swing(k)),
        ]
    )

    assert np.median(center_x(poses)) == pytest.approx(210, abs=5)


def test_dancer_seen_only_in_tiles_is_found_beside_a_person_at_rest() -> None:
    class TilePoseEstimator(FakePoseEstimator):
        """Estimator that overlooks small people in the whole image."""

        def detect_people(self, image: ImagePyramid, region: Array | None = None) -> list[Crop]:
            people = super().detect_people(image, region)
            return [person for person in people if region is not None or person.side_px > 80]

    def scene(k: int) -> list[Person]:
        return [Person(110, side=40, swing=swing(k)), Person(210, side=150)]

    poses = track_frames(make_grey_frames(48), TilePoseEstimator(scene))

    assert center_x(poses)[12:] == pytest.approx(110, abs=5)


def test_number_of_estimates_in_a_crowd_is_limited() -> None:
    def make_crowd(k: int) -> list[Person]:
        return [Person(40.0 * n, side=20.0 + 6 * n) for n in range(1, 8)]

    estimator = FakePoseEstimator(make_crowd)
    poses = track_frames(make_grey_frames(33), estimator)

    # MAX_PEOPLE per frame, and up to as many newcomers every eighth frame.
    assert estimator.n_estimates <= 33 * MAX_PEOPLE + 5 * MAX_PEOPLE
    assert poses.detected_fraction == 1


def test_tracks_that_converge_on_a_person_are_merged() -> None:
    def scene(k: int) -> list[Person]:
        return [Person(100), Person(128)] if k < 10 else [Person(114)]

    estimator = FakePoseEstimator(scene)
    track_frames(make_grey_frames(48), estimator)

    assert estimator.n_estimates < 10 * 2 + 38 + 30


# --- gaps -----------------------------------------------------------------------------------


def test_short_gap_is_interpolated_linearly() -> None:
    poses = track_scene(lambda k: [] if 20 <= k < 28 else [Person(100 + k)])

    assert np.flatnonzero(poses.interpolated).tolist() == list(range(20, 28))
    np.testing.assert_allclose(center_x(poses), 100 + np.arange(48), rtol=1e-5)
    assert not poses.keypoints[20:28, :, 2].any()
    assert poses.cuts.tolist() == []


def test_long_gap_is_constant_before_a_transition_of_one_second() -> None:
    def scene(k: int) -> list[Person]:
        return [Person(100)] if k < 20 else [Person(130)] if k >= 80 else []

    x = center_x(track_scene(scene, 100))

    np.testing.assert_allclose(x[:65], 100, rtol=1e-5)
    assert (np.diff(x[64:81]) > 1).all()
    np.testing.assert_allclose(x[80:], 130, rtol=1e-5)


def test_poses_are_constant_before_the_first_and_after_the_last() -> None:
    poses = track_scene(lambda k: [Person(100 + k)] if 8 <= k < 40 else [])

    np.testing.assert_allclose(center_x(poses)[:8], 108, rtol=1e-5)
    np.testing.assert_allclose(center_x(poses)[40:], 139, rtol=1e-5)
    assert np.flatnonzero(~poses.interpolated).tolist() == list(range(8, 40))


def test_similar_person_substitutes_an_absent_main_performer() -> None:
    def scene(k: int) -> list[Person]:
        return [Person(160, side=100)] if k < 60 else [Person(240, side=90)]

    poses = track_scene(scene, 100)

    assert poses.detected_fraction == 1
    assert poses.cuts.tolist() == [60]
    np.testing.assert_allclose(center_x(poses)[60:], 240, rtol=1e-5)


def test_small_distant_person_is_no_substitute() -> None:
    def scene(k: int) -> list[Person]:
        return [Person(160, side=100)] if k < 60 else [Person(300, 20, side=20)]

    poses = track_scene(scene, 100)

    assert poses.interpolated[60:].all()
    np.testing.assert_allclose(center_x(poses), 160, rtol=1e-5)


# --- cuts -----------------------------------------------------------------------------------


def test_main_performer_is_selected_again_after_a_cut() -> None:
    def scene(k: int) -> list[Person]:
        return [Person(80)] if k < 24 else [Person(60, side=50), Person(200, side=120)]

    poses = track_scene(scene, cuts=(24,))

    assert poses.cuts.tolist() == [24]
    assert poses.detected_fraction == 1
    np.testing.assert_allclose(center_x(poses)[:24], 80, rtol=1e-5)
    np.testing.assert_allclose(center_x(poses)[24:], 200, rtol=1e-5)


def test_flash_of_light_does_not_break_the_track() -> None:
    poses = track_scene(lambda k: [Person(100 + k)], cuts=(20, 21))

    assert poses.cuts.tolist() == []
    np.testing.assert_allclose(center_x(poses), 100 + np.arange(48), rtol=1e-5)


def test_gap_across_a_cut_is_not_interpolated() -> None:
    def scene(k: int) -> list[Person]:
        return [Person(80)] if k < 20 else [Person(240)] if k >= 30 else []

    poses = track_scene(scene, cuts=(25,))

    assert poses.cuts.tolist() == [25]
    assert poses.interpolated[20:30].all()
    np.testing.assert_allclose(center_x(poses)[:25], 80, rtol=1e-5)
    np.testing.assert_allclose(center_x(poses)[25:], 240, rtol=1e-5)


def test_shot_without_a_person_keeps_the_last_pose() -> None:
    def scene(k: int) -> list[Person]:
        return [Person(80)] if k < 16 else [Person(240)] if k >= 32 else []

    poses = track_scene(scene, cuts=(16, 32))

    assert poses.cuts.tolist() == [32]
    np.testing.assert_allclose(center_x(poses)[:32], 80, rtol=1e-5)


def test_cut_is_detected_and_a_pan_is_not() -> None:
    rng = np.random.default_rng(0)
    wall = np.kron(rng.integers(0, 256, (30, 200, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    shots = ShotDetector()

    panned = [shots.is_cut(wall[:, 6 * k : 6 * k + 320]) for k in range(20)]
    cut = shots.is_cut(np.full((240, 320, 3), 200, np.uint8))
    after = shots.is_cut(np.full((240, 320, 3), 201, np.uint8))

    assert not any(panned[3:])  # the median of the differences follows the pan
    assert cut
    assert not after


# --- linking and selection ------------------------------------------------------------------


def test_tracks_across_a_short_gap_are_linked() -> None:
    first = make_track([0, 1, 2], lambda k: Person(100))
    second = make_track([8, 9], lambda k: Person(110, side=120))

    (linked,) = link_tracks([second, first], FPS)

    assert linked.frame_indices == [0, 1, 2, 8, 9]
    assert len(linked.poses) == 5


@pytest.mark.parametrize(
    ("frames", "person"),
    [
        pytest.param([8, 9], Person(300), id="other position"),
        pytest.param([8, 9], Person(100, side=300), id="other size"),
        pytest.param([300, 301], Person(100), id="much later"),
        pytest.param([2, 3], Person(100), id="same time"),
    ],
)
def test_tracks_of_different_people_are_not_linked(frames: list[int], person: Person) -> None:
    first = make_track([0, 1, 2], lambda k: Person(100))
    second = make_track(frames, lambda k: person)

    linked = link_tracks([first, second], FPS)

    assert [track.frame_indices for track in linked] == [[0, 1, 2], frames]


def test_nearer_of_two_tracks_is_linked() -> None:
    first = make_track([0, 1, 2], lambda k: Person(100))
    near = make_track([6, 7], lambda k: Person(105))
    far = make_track([6, 7, 8], lambda k: Person(140))

    linked = link_tracks([first, far, near], FPS)

    assert sorted(track.frame_indices for track in linked) == [[0, 1, 2, 6, 7], [6, 7, 8]]


def test_empty_shot_has_no_performers() -> None:
    assert select_performers([], SIZE, FPS) == []


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_performers_do_not_overlap_and_every_frame_has_a_pose(data: st.DataObject) -> None:
    tracks = []
    for _ in range(data.draw(st.integers(0, 5))):
        start = data.draw(st.integers(0, 90))
        stop = data.draw(st.integers(start + 1, 100))
        person = Person(data.draw(st.floats(0, 320)), 120, data.draw(st.floats(20, 150)))
        poses = [person.pose] * (stop - start)
        tracks.append(Track(frame_indices=list(range(start, stop)), poses=poses))

    chosen = select_performers(tracks, SIZE, FPS)
    timeline = PerformerTimeline()
    timeline.add_shot(chosen, 0)
    keypoints, interpolated, cuts = timeline.interpolate_gaps(100, FPS)

    frames = [k for track in chosen for k in track.frame_indices]
    assert frames == sorted(set(frames))
    assert bool(chosen) == bool(tracks)
    assert np.flatnonzero(~interpolated).tolist() == frames
    assert np.isfinite(keypoints).all()
    assert len(cuts) == max(0, len(chosen) - 1)
    if chosen:
        assert keypoints[..., :2].any(axis=(1, 2)).all()
    assert ((keypoints[..., 2] > 0).all(axis=1) == ~interpolated).all()


def test_tiles_cover_the_image() -> None:
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
