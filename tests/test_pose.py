"""BlazePose: geometry, weights, poses of a rendered dancer, and the overlay video."""

import re
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from builders import make_poses
from hypothesis import given
from hypothesis import strategies as st

from loris_cli.array_types import Array
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
from loris_cli.synthetic.motion import sample_impact_motion
from loris_cli.synthetic.render import APPEARANCES, render_frames, sample_static_camera
from loris_cli.synthetic.scene import build_gym
from loris_cli.video.frames import Frame

# --- geometry -------------------------------------------------------------------------------


def test_crop_of_an_upright_person_is_centered_at_the_hips() -> None:
    crop = Crop.from_alignment_points(np.array([100.0, 80.0]), np.array([100.0, 40.0]))

    assert (crop.center_x_px, crop.center_y_px, crop.angle_rad) == (100, 80, 0)
    assert crop.side_px == 2 * 40 * 1.25
    corners = apply_affine(crop.to_image_matrix(), np.array([[0.0, 0.0], [1.0, 1.0]]))
    np.testing.assert_allclose(corners, [[50, 30], [150, 130]])


@given(
    x=st.floats(-500, 2000),
    y=st.floats(-500, 2000),
    lean_rad=st.floats(-np.pi, np.pi),
    radius_px=st.floats(5, 1000),
)
def test_crop_is_rotated_with_the_person(
    x: float, y: float, lean_rad: float, radius_px: float
) -> None:
    hips = np.array([x, y])
    top = hips + radius_px * np.array([np.sin(lean_rad), -np.cos(lean_rad)])

    matrix = Crop.from_alignment_points(hips, top).to_image_matrix()

    # In the crop, the hips are at the center, and the top is 1 / 1.25 half sides above them.
    points = apply_affine(matrix, np.array([[0.5, 0.5], [0.5, 0.5 - 0.5 / 1.25]]))
    np.testing.assert_allclose(points, [hips, top], atol=1e-6)


@given(angle_rad=st.floats(-np.pi, np.pi), side_px=st.floats(1, 3000))
def test_crop_matrix_is_invertible(angle_rad: float, side_px: float) -> None:
    crop = Crop(center_x_px=300.0, center_y_px=200.0, side_px=side_px, angle_rad=angle_rad)
    matrix = crop.to_image_matrix()
    points = np.random.default_rng(0).uniform(0, 1, (20, 2))

    inverted = (apply_affine(matrix, points) - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T

    np.testing.assert_allclose(inverted, points, atol=1e-9)


@pytest.mark.parametrize(("width", "height"), [(640, 360), (360, 640), (200, 200)])
def test_letterbox_centers_the_image(width: int, height: int) -> None:
    matrix = letterbox_matrix(width, height)

    center, corner = apply_affine(matrix, np.array([[0.5, 0.5], [0.0, 0.0]]))
    np.testing.assert_allclose(center, [width / 2, height / 2])
    assert corner.min() == (min(width, height) - max(width, height)) / 2
    assert corner.max() == 0


@pytest.mark.parametrize("size", [(640, 360), (1920, 1080), (361, 643)])
def test_warped_spot_is_at_the_mapped_position(size: tuple[int, int]) -> None:
    width, height = size
    x, y = 0.3 * width, 0.6 * height
    columns, rows = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    spot = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * (width / 40) ** 2))
    image = np.repeat((255 * spot)[..., None], 3, axis=2).astype(np.uint8)
    matrix = letterbox_matrix(width, height)

    warped = ImagePyramid(image).warp(matrix, 224)[..., 0]

    centers = np.arange(224) + 0.5
    centroid = np.array([warped.sum(axis=0) @ centers, warped.sum(axis=1) @ centers])
    expected = (np.array([x, y]) - matrix[:, 2]) / max(size) * 224
    np.testing.assert_allclose(centroid / warped.sum(), expected, atol=0.1)


def test_warp_is_black_outside_the_image() -> None:
    image = ImagePyramid(np.full((100, 200, 3), 255, np.uint8))

    warped = image.warp(letterbox_matrix(200, 100), 224)

    assert not warped[:50].any()
    assert not warped[-50:].any()
    assert (warped[60:-60, 2:-2] == 255).all()


def test_image_of_three_pixels_can_be_warped() -> None:
    image = ImagePyramid(np.full((1, 3, 3), 200, np.uint8))

    warped = image.warp(letterbox_matrix(3, 1), 6)

    # Rows are at -0.75, -0.25, 0.25, ... px; the only row of the image is at 0.5 px.
    expected = [0, 50, 150, 150, 50, 0]
    np.testing.assert_array_equal(warped[:, 1:-1], np.broadcast_to(expected, (3, 4, 6)).T)


def test_anchors_are_cell_centers() -> None:
    anchors = generate_anchors()

    assert len(anchors) == 28 * 28 * 2 + 14 * 14 * 2 + 7 * 7 * 6
    np.testing.assert_allclose(anchors[:3], np.array([[0.5, 0.5], [0.5, 0.5], [1.5, 0.5]]) / 28)
    np.testing.assert_allclose(anchors[-1], np.array([6.5, 6.5]) / 7)


def test_non_max_suppression_keeps_the_best_of_overlapping_boxes() -> None:
    boxes = np.array([[0, 0, 10, 10], [1, 1, 11, 11], [20, 0, 30, 10], [0, 5, 10, 15]], float)
    # IoU with box 0: 81 / 119, 0, and 50 / 150 = 0.33.

    assert non_max_suppression(boxes, np.array([0.8, 0.9, 0.7, 0.6])) == [1, 2]
    assert non_max_suppression(boxes[[0, 3]], np.array([0.8, 0.6]), max_iou=0.3) == [0]
    assert non_max_suppression(boxes[[0, 3]], np.array([0.8, 0.6]), max_iou=0.4) == [0, 1]
    assert non_max_suppression(np.zeros((0, 4)), np.zeros(0)) == []


def test_landmarks_move_only_to_strong_heatmap_peaks_near_them() -> None:
    heatmaps = np.full((64, 64, 39), -20.0)
    heatmaps[20, 30, 0] = 20.0
    heatmaps[20, 30, 1] = 20.0  # too far from landmark 1
    heatmaps[20, 30, 2] = -1.0  # too weak
    heatmaps[20, 30, 33] = 20.0  # an alignment point, which is not refined
    points = np.full((39, 2), [31.5 / 64, 22.0 / 64])
    points[1] = [50.0 / 64, 50.0 / 64]
    points[3] = [-0.2, 1.2]  # outside

    refined = refine_landmarks(points, heatmaps)

    np.testing.assert_allclose(refined[0], [30 / 64, 20 / 64], atol=1e-6)
    np.testing.assert_array_equal(refined[1:], points[1:])


# --- weights --------------------------------------------------------------------------------


def test_weights_with_another_checksum_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    name, _ = blazepose.DETECTOR_FILE
    monkeypatch.setattr(blazepose, "DETECTOR_FILE", (name, "0" * 64))

    with pytest.raises(WeightsError, match=rf"{re.escape(name)}.* SHA-256"):
        BlazePose()


def test_missing_weights_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blazepose, "LANDMARK_FILE", ("none.tflite", "0" * 64))

    with pytest.raises(WeightsError, match=r"none\.tflite") as raised:
        BlazePose()
    assert isinstance(raised.value.__cause__, FileNotFoundError)


# --- poses of a rendered dancer -------------------------------------------------------------

SIZE = (320, 240)
N_FRAMES = 32
RenderedDance = tuple[list[Frame], Array]


@pytest.fixture(scope="module")
def rendered_dance() -> RenderedDance:
    """Two seconds of a rendered dancer at 16 fps, and its joints in px, ``(frames, 17, 2)``."""
    times_s = np.arange(N_FRAMES) / 16
    camera = sample_static_camera(0)
    images, joints = zip(
        *render_frames(
            sample_impact_motion(0, 2.5),
            times_s,
            size=SIZE,
            camera=lambda time_s: camera,
            room=build_gym(np.random.default_rng(0)),
            appearance=APPEARANCES[0],
        ),
        strict=True,
    )
    frames = [Frame(time_s=t, rgb=rgb) for t, rgb in zip(times_s, images, strict=True)]
    return frames, np.stack(joints)


@pytest.fixture(scope="module")
def estimated_poses(rendered_dance: RenderedDance) -> Poses:
    return estimate_poses(rendered_dance[0], size=SIZE)


def test_rendered_dancer_is_detected_in_every_frame(estimated_poses: Poses) -> None:
    assert estimated_poses.detected_fraction == 1.0
    assert estimated_poses.cuts.tolist() == []
    np.testing.assert_array_equal(estimated_poses.times_s, np.arange(N_FRAMES) / 16)


def test_estimated_joints_match_the_rendered_joints(
    rendered_dance: RenderedDance, estimated_poses: Poses
) -> None:
    error_px = np.linalg.norm(estimated_poses.keypoints[..., :2] - rendered_dance[1], axis=-1)

    # The median was 1.4 to 2.7 px in seven rendered motions with images of 240 px height.
    assert np.median(error_px) < 4
    assert (error_px < 12).mean() > 0.9


def test_keypoints_are_in_pixels_of_the_given_size(
    rendered_dance: RenderedDance, estimated_poses: Poses
) -> None:
    scaled = estimate_poses(rendered_dance[0][:2], size=(640, 480))

    np.testing.assert_allclose(
        scaled.keypoints[..., :2], estimated_poses.keypoints[:2, :, :2] * 2, rtol=1e-5
    )


@pytest.mark.parametrize("n_threads", [2, 3])
def test_poses_do_not_depend_on_the_number_of_threads(
    rendered_dance: RenderedDance, estimated_poses: Poses, n_threads: int
) -> None:
    poses = estimate_poses(rendered_dance[0][:8], size=SIZE, n_threads=n_threads)

    assert poses.keypoints.tobytes() == estimated_poses.keypoints[:8].tobytes()


def test_pose_estimation_is_deterministic(
    rendered_dance: RenderedDance, estimated_poses: Poses
) -> None:
    repeated = estimate_poses(rendered_dance[0][:3], size=SIZE)

    np.testing.assert_array_equal(repeated.keypoints, estimated_poses.keypoints[:3])


def test_lying_person_has_the_rotated_pose(
    rendered_dance: RenderedDance, estimated_poses: Poses
) -> None:
    # Counterclockwise by 90 degrees: (x, y) becomes (y, width - x).
    rotated = np.ascontiguousarray(np.rot90(rendered_dance[0][0].rgb))

    lying = estimate_poses([Frame(time_s=0.0, rgb=rotated)], size=SIZE[::-1])

    x, y = estimated_poses.keypoints[0, :, 0], estimated_poses.keypoints[0, :, 1]
    expected = np.column_stack([y, SIZE[0] - x])
    error_px = np.linalg.norm(lying.keypoints[0, :, :2] - expected, axis=-1)
    assert np.median(error_px) < 4


def test_small_person_in_a_large_image_is_detected(rendered_dance: RenderedDance) -> None:
    image = np.full((720, 1280, 3), 128, np.uint8)
    image[400:640, 700:1020] = rendered_dance[0][0].rgb
    frames = [Frame(time_s=k / 16, rgb=image) for k in range(8)]

    poses = estimate_poses(frames, size=(1280, 720))

    expected = rendered_dance[1][0] + (700, 400)
    error_px = np.linalg.norm(poses.keypoints[-1, :, :2] - expected, axis=-1)
    assert np.median(error_px) < 4


def test_no_person_is_detected_in_noise() -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (240, 320, 3), np.uint8) for _ in range(4)]
    noise = [Frame(time_s=k / 16, rgb=image) for k, image in enumerate(images)]

    poses = estimate_poses(noise, size=SIZE)

    assert poses.detected_fraction == 0
    assert poses.interpolated.all()
    assert not poses.keypoints.any()


# --- overlay --------------------------------------------------------------------------------

BACKGROUND = 100


def make_diagonal_poses(n_frames: int = 1, *, interpolated: bool = False) -> Poses:
    """Joints on a line from (20, 30) to (120, 90) px, in images of ``(160, 120)``."""
    joints = np.stack([np.linspace(20, 120, 17), np.linspace(30, 90, 17)], axis=1)
    return make_poses(np.tile(joints, (n_frames, 1, 1)), interpolated=interpolated)


def make_grey_frames(n_frames: int, width: int = 160, height: int = 120) -> Iterator[Frame]:
    for k in range(n_frames):
        yield Frame(time_s=k / 16, rgb=np.full((height, width, 3), BACKGROUND, np.uint8))


def test_overlay_is_drawn_at_the_joints() -> None:
    (image,) = overlay_poses(make_grey_frames(1), make_diagonal_poses())

    assert (image[30, 20] != BACKGROUND).any()
    assert (image[90, 120] != BACKGROUND).any()
    assert (image[110:, :10] == BACKGROUND).all()


def test_overlay_is_scaled_to_the_frame_size() -> None:
    (image,) = overlay_poses(make_grey_frames(1, 320, 240), make_diagonal_poses())

    assert (image[60, 40] != BACKGROUND).any()
    assert (image[180, 240] != BACKGROUND).any()
    assert (image[90, 120] == BACKGROUND).all()  # the last joint without scaling


def test_interpolated_joints_are_drawn_faint() -> None:
    contrasts = []
    for interpolated in (False, True):
        poses = make_diagonal_poses(interpolated=interpolated)
        (image,) = overlay_poses(make_grey_frames(1), poses)
        contrasts.append(np.abs(image.astype(int) - BACKGROUND).sum())

    assert 0 < contrasts[1] < contrasts[0] / 2


def test_overlay_without_a_detected_person_is_the_input() -> None:
    poses = make_poses(np.zeros((2, 17, 3)), interpolated=True)

    images = list(overlay_poses(make_grey_frames(3), poses))

    assert len(images) == 2
    assert all((image == BACKGROUND).all() for image in images)


@pytest.mark.parametrize("size", [(160, 120), (161, 121)])
def test_overlay_video_is_h264_of_even_size(tmp_path: Path, size: tuple[int, int]) -> None:
    images = overlay_poses(make_grey_frames(8, *size), make_diagonal_poses(8))

    write_mp4(tmp_path / "a.mp4", images, fps=16.0, size=size)

    with av.open(str(tmp_path / "a.mp4")) as video:
        stream = video.streams.video[0]
        decoded = [frame.to_ndarray(format="rgb24") for frame in video.decode(stream)]
        assert stream.average_rate == 16
        assert stream.codec_context.name == "h264"
    assert len(decoded) == 8
    assert decoded[-1].shape == (120, 160, 3)
    assert np.abs(decoded[-1][110:, :10].astype(int) - BACKGROUND).max() < 8


def test_overlay_in_a_missing_folder_is_refused(tmp_path: Path) -> None:
    images = overlay_poses(make_grey_frames(1), make_diagonal_poses())

    with pytest.raises(OutputError, match=r"a\.mp4"):
        write_mp4(tmp_path / "none" / "a.mp4", images, fps=16.0, size=(160, 120))
    assert not (tmp_path / "none").exists()
