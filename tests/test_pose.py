"""BlazePose: geometry by hand, a rendered dancer with known joints, the overlay."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from loris_cli.errors import OutputError, WeightsError
from loris_cli.pose import blazepose
from loris_cli.pose.blazepose import (
    BlazePose,
    Crop,
    ImagePyramid,
    apply_affine,
    generate_anchors,
    letterbox_matrix,
    non_max_suppression,
    refine_landmarks,
)
from loris_cli.pose.keypoints import Poses
from loris_cli.pose.overlay import overlay_poses, write_mp4
from loris_cli.pose.tracking import estimate_poses
from loris_cli.video.frames import Frame

Array = NDArray[Any]


# --- geometry -------------------------------------------------------------------------------


def test_an_upright_body_has_an_upright_crop_around_its_hips() -> None:
    crop = Crop.from_alignment_points(np.array([100.0, 80.0]), np.array([100.0, 40.0]))

    assert (crop.center_x_px, crop.center_y_px, crop.angle_rad) == (100, 80, 0)
    assert crop.side_px == 2 * 40 * 1.25
    corners = apply_affine(crop.to_image_matrix(), np.array([[0.0, 0.0], [1.0, 1.0]]))
    np.testing.assert_allclose(corners, [[50, 30], [150, 130]])


@given(
    x=st.floats(-500, 2000),
    y=st.floats(-500, 2000),
    lean=st.floats(-np.pi, np.pi),
    reach=st.floats(5, 1000),
)
def test_the_crop_stands_up_with_the_body(
    x: float, y: float, lean: float, reach: float
) -> None:
    hips = np.array([x, y])
    rim = hips + reach * np.array([np.sin(lean), -np.cos(lean)])

    matrix = Crop.from_alignment_points(hips, rim).to_image_matrix()

    # In the crop the hips are in the middle and the rim straight above, 1 / 1.25 up.
    sampled = apply_affine(matrix, np.array([[0.5, 0.5], [0.5, 0.5 - 0.5 / 1.25]]))
    np.testing.assert_allclose(sampled, [hips, rim], atol=1e-6)


@given(lean=st.floats(-np.pi, np.pi), side=st.floats(1, 3000))
def test_a_crop_and_its_inverse_are_nothing(lean: float, side: float) -> None:
    matrix = Crop(
        center_x_px=300.0, center_y_px=200.0, side_px=side, angle_rad=lean
    ).to_image_matrix()
    inverse = np.linalg.inv(matrix[:, :2])
    points = np.random.default_rng(0).uniform(0, 1, (20, 2))

    back = (apply_affine(matrix, points) - matrix[:, 2]) @ inverse.T

    np.testing.assert_allclose(back, points, atol=1e-9)


@pytest.mark.parametrize(("width", "height"), [(640, 360), (360, 640), (200, 200)])
def test_the_letterbox_puts_the_picture_in_the_middle(width: int, height: int) -> None:
    matrix = letterbox_matrix(width, height)

    middle, corner = apply_affine(matrix, np.array([[0.5, 0.5], [0.0, 0.0]]))
    np.testing.assert_allclose(middle, [width / 2, height / 2])
    assert corner.min() == (min(width, height) - max(width, height)) / 2
    assert corner.max() == 0


@pytest.mark.parametrize("size", [(640, 360), (1920, 1080), (361, 643)])
def test_a_warp_shows_a_spot_where_the_map_says(size: tuple[int, int]) -> None:
    width, height = size
    x, y = 0.3 * width, 0.6 * height
    columns, rows = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    spot = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * (width / 40) ** 2))
    image = np.repeat((255 * spot)[..., None], 3, axis=2).astype(np.uint8)

    sampled = ImagePyramid(image).warp(letterbox_matrix(width, height), 224)[..., 0]

    middle = np.arange(224) + 0.5
    found = (
        np.array([sampled.sum(axis=0) @ middle, sampled.sum(axis=1) @ middle]) / sampled.sum()
    )
    expected = (np.array([x, y]) - letterbox_matrix(width, height)[:, 2]) / max(size) * 224
    np.testing.assert_allclose(found, expected, atol=0.1)


def test_outside_the_picture_a_warp_is_black() -> None:
    sampled = ImagePyramid(np.full((100, 200, 3), 255, np.uint8)).warp(
        letterbox_matrix(200, 100), 224
    )

    assert not sampled[:50].any()
    assert not sampled[-50:].any()
    assert (sampled[60:-60, 2:-2] == 255).all()


def test_a_tiny_picture_has_a_pyramid_too() -> None:
    assert ImagePyramid(np.full((1, 3, 3), 9, np.uint8)).warp(
        letterbox_matrix(3, 1), 4
    ).shape == (4, 4, 3)


def test_anchors_are_the_middles_of_cells() -> None:
    boxes = generate_anchors()

    assert len(boxes) == 28 * 28 * 2 + 14 * 14 * 2 + 7 * 7 * 6
    np.testing.assert_allclose(boxes[:3], np.array([[0.5, 0.5], [0.5, 0.5], [1.5, 0.5]]) / 28)
    np.testing.assert_allclose(boxes[-1], np.array([6.5, 6.5]) / 7)


def test_overlapping_boxes_leave_the_strongest() -> None:
    boxes = np.array([[0, 0, 10, 10], [1, 1, 11, 11], [20, 0, 30, 10], [0, 5, 10, 15]], float)
    # Overlaps with box 0: 81 / 119, 0, and 50 / 150 = 0.33.

    assert non_max_suppression(boxes, np.array([0.8, 0.9, 0.7, 0.6])) == [1, 2]
    assert non_max_suppression(boxes[[0, 3]], np.array([0.8, 0.6]), max_iou=0.3) == [0]
    assert non_max_suppression(boxes[[0, 3]], np.array([0.8, 0.6]), max_iou=0.4) == [0, 1]
    assert non_max_suppression(np.zeros((0, 4)), np.zeros(0)) == []


def test_a_landmark_moves_to_the_heat_near_it_and_only_there() -> None:
    heatmaps = np.full((64, 64, 39), -20.0)
    heatmaps[20, 30, 0] = 20.0
    heatmaps[20, 30, 1] = 20.0  # too far from landmark 1
    heatmaps[20, 30, 2] = -1.0  # too faint
    heatmaps[20, 30, 33] = 20.0  # frames the crop
    points = np.full((39, 2), [31.5 / 64, 22.0 / 64])
    points[1] = [50.0 / 64, 50.0 / 64]
    points[3] = [-0.2, 1.2]  # outside

    refined = refine_landmarks(points, heatmaps)

    np.testing.assert_allclose(refined[0], [30 / 64, 20 / 64], atol=1e-6)
    np.testing.assert_array_equal(refined[1:], points[1:])


# --- weights --------------------------------------------------------------------------------


def test_damaged_weights_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blazepose, "DETECTOR_FILE", (blazepose.DETECTOR_FILE[0], "0" * 64))

    with pytest.raises(WeightsError, match="damaged"):
        BlazePose()


def test_missing_weights_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blazepose, "LANDMARK_FILE", ("none.tflite", "0" * 64))

    with pytest.raises(WeightsError, match="missing"):
        BlazePose()


# --- end to end, on a rendered dancer -------------------------------------------------------

SIZE = (320, 240)


@pytest.fixture(scope="module")
def dance() -> tuple[list[Frame], Array]:
    """Two seconds of a rendered dancer at 16 fps and the true joints, ``(frames, 17, 2)``."""
    render = pytest.importorskip("loris_cli.synthetic.render")
    motion = pytest.importorskip("loris_cli.synthetic.motion")
    scene = pytest.importorskip("loris_cli.synthetic.scene")
    times_s = np.arange(32) / 16
    camera = render.sample_static_camera(0)
    drawn = list(
        render.render_frames(
            motion.sample_impact_motion(0, 2.5),
            times_s,
            size=SIZE,
            camera=lambda time_s: camera,
            room=scene.build_gym(np.random.default_rng(0)),
            appearance=render.APPEARANCES[0],
        )
    )
    frames = [Frame(time_s=t, rgb=rgb) for t, (rgb, _) in zip(times_s, drawn, strict=True)]
    return frames, np.stack([joints for _, joints in drawn])


@pytest.fixture(scope="module")
def poses(dance: tuple[list[Frame], Array]) -> Poses:
    return estimate_poses(dance[0], size=SIZE)


def test_a_rendered_dancer_is_seen_in_every_frame(poses: Poses) -> None:
    assert poses.detected_fraction == 1.0
    assert poses.cuts.tolist() == []
    np.testing.assert_array_equal(poses.times_s, np.arange(32) / 16)


def test_the_joints_found_are_the_true_ones(
    dance: tuple[list[Frame], Array], poses: Poses
) -> None:
    error_px = np.linalg.norm(poses.keypoints[..., :2] - dance[1], axis=-1)

    # At 240 px of height: 1.4 to 2.7 px were measured on seven rendered motions.
    assert np.median(error_px) < 4
    assert (error_px < 12).mean() > 0.9


def test_joints_are_given_in_pixels_of_the_full_size(
    dance: tuple[list[Frame], Array], poses: Poses
) -> None:
    large = estimate_poses(dance[0][:2], size=(640, 480))

    np.testing.assert_allclose(
        large.keypoints[..., :2], poses.keypoints[:2, :, :2] * 2, rtol=1e-5
    )


def test_the_same_frames_give_the_same_poses(
    dance: tuple[list[Frame], Array], poses: Poses
) -> None:
    again = estimate_poses(dance[0][:3], size=SIZE)

    np.testing.assert_array_equal(again.keypoints, poses.keypoints[:3])


def test_a_body_that_lies_is_found_as_one_that_stands(
    dance: tuple[list[Frame], Array], poses: Poses
) -> None:
    turned = Frame(
        time_s=0.0, rgb=np.ascontiguousarray(np.rot90(dance[0][0].rgb))
    )  # counterclockwise

    lying = estimate_poses([turned], size=SIZE[::-1])

    x, y = poses.keypoints[0, :, 0], poses.keypoints[0, :, 1]
    error_px = np.hypot(lying.keypoints[0, :, 0] - y, lying.keypoints[0, :, 1] - (320 - x))
    assert np.median(error_px) < 4


def test_a_small_dancer_in_a_large_picture_is_found(dance: tuple[list[Frame], Array]) -> None:
    field = np.full((720, 1280, 3), 128, np.uint8)
    field[400:640, 700:1020] = dance[0][0].rgb

    poses = estimate_poses(
        [Frame(time_s=k / 16, rgb=field) for k in range(8)], size=(1280, 720)
    )

    error_px = np.linalg.norm(poses.keypoints[-1, :, :2] - (700, 400) - dance[1][0], axis=-1)
    assert np.median(error_px) < 4


def test_where_nobody_is_nobody_is_seen() -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (240, 320, 3), np.uint8) for _ in range(4)]
    noise = [Frame(time_s=k / 16, rgb=image) for k, image in enumerate(images)]

    poses = estimate_poses(noise, size=SIZE)

    assert poses.detected_fraction == 0
    assert poses.interpolated.all()
    assert not poses.keypoints.any()


# --- overlay --------------------------------------------------------------------------------


def still_poses(n_frames: int, *, interpolated: bool = False) -> Poses:
    joints = np.stack([np.linspace(20, 120, 17), np.linspace(30, 90, 17), np.ones(17)], axis=1)
    return Poses(
        keypoints=np.repeat(joints[None].astype(np.float32), n_frames, axis=0),
        times_s=np.arange(n_frames) / 16,
        fps=16.0,
        size=(160, 120),
        interpolated=np.full(n_frames, interpolated),
        cuts=np.zeros(0, np.int64),
    )


def grey_frames(n_frames: int, width: int = 160, height: int = 120) -> Iterator[Frame]:
    for k in range(n_frames):
        yield Frame(time_s=k / 16, rgb=np.full((height, width, 3), 100, np.uint8))


def test_the_overlay_draws_joints_where_they_are() -> None:
    (image,) = overlay_poses(grey_frames(1), still_poses(1))

    assert (image[30, 20] != 100).any()
    assert (image[90, 120] != 100).any()
    assert (image[110:, :10] == 100).all()


def test_the_overlay_fits_pictures_that_were_scaled() -> None:
    (image,) = overlay_poses(grey_frames(1, 320, 240), still_poses(1))

    assert (image[180, 240] != 100).any()


def test_joints_that_are_filled_in_are_faint() -> None:
    (detected,) = overlay_poses(grey_frames(1), still_poses(1))
    (filled,) = overlay_poses(grey_frames(1), still_poses(1, interpolated=True))

    strength = [np.abs(image.astype(int) - 100).sum() for image in (detected, filled)]
    assert 0 < strength[1] < strength[0] / 2


def test_the_overlay_of_nobody_is_the_video() -> None:
    poses = still_poses(2, interpolated=True)
    poses.keypoints[:] = 0

    images = list(overlay_poses(grey_frames(3), poses))

    assert len(images) == 2
    assert all((image == 100).all() for image in images)


@pytest.mark.parametrize("size", [(160, 120), (161, 121)])
def test_an_overlay_is_a_video_that_plays(tmp_path: Path, size: tuple[int, int]) -> None:
    write_mp4(
        tmp_path / "a.mp4",
        overlay_poses(grey_frames(20, *size), still_poses(20)),
        fps=16.0,
        size=size,
    )

    with av.open(str(tmp_path / "a.mp4")) as video:
        stream = video.streams.video[0]
        images = [frame.to_ndarray(format="rgb24") for frame in video.decode(stream)]
        assert stream.average_rate == 16
        assert stream.codec_context.name == "h264"
    assert len(images) == 20
    assert images[-1].shape == (120, 160, 3)
    assert np.abs(images[-1][110:, :10].astype(int) - 100).max() < 8


def test_an_overlay_without_a_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot write"):
        write_mp4(
            tmp_path / "none" / "a.mp4",
            overlay_poses(grey_frames(1), still_poses(1)),
            fps=16.0,
            size=(160, 120),
        )
