"""Rendering of a synthetic dancer: camera, body, shadow, video files and the example."""

import importlib.util
from fractions import Fraction
from pathlib import Path
from types import ModuleType

import av
import cv2
import numpy as np
import pytest

from loris_cli.array_types import Array
from loris_cli.errors import OutputError
from loris_cli.synthetic.body_model import load_body, regress_coco_joints, skin_vertices
from loris_cli.synthetic.body_rig import REST_CONTROLS
from loris_cli.synthetic.motion import Motion, sample_impact_motion
from loris_cli.synthetic.render import (
    APPEARANCES,
    compute_face_colours,
    decimate_mesh,
    draw_body,
    draw_shadow,
    render_frames,
    render_video,
    sample_static_camera,
)
from loris_cli.synthetic.scene import ROOM_BUILDERS, Camera, SceneName

pytestmark = pytest.mark.numpy1

BODY = load_body()
EXAMPLES = Path(__file__).parents[1] / "examples"
SIZE = (320, 240)
SMALL_SIZE = (160, 120)


def make_standing_motion(duration_s: float) -> Motion:
    return Motion(duration_s, lambda time_s: REST_CONTROLS)


def read_frame_times(path: Path) -> list[float]:
    with av.open(str(path)) as container:
        return [float(frame.time or 0) for frame in container.decode(video=0)]


def draw_mask(vertices: Array, camera: Camera, cell_size_m: float) -> Array:
    """Return 1 inside the body and 0 outside; cell size 0 disables decimation."""
    mesh = decimate_mesh(BODY, cell_size_m) if cell_size_m else BODY
    empty = np.full((SIZE[1], SIZE[0], 3), 255, dtype=np.uint8)
    image = draw_body(empty, camera, mesh, vertices, np.zeros((len(mesh.faces), 3)))
    return (255 - image[..., 0]) / 255


@pytest.fixture(scope="module")
def standing_vertices() -> Array:
    """Vertices of the body at rest, ``(vertices, 3)``; not to be modified."""
    return skin_vertices(BODY, make_standing_motion(1.0).pose_at(0.0))


@pytest.fixture(scope="module")
def make_skate() -> ModuleType:
    """Script that renders the example video."""
    spec = importlib.util.spec_from_file_location("make_skate", EXAMPLES / "make_skate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_camera_projects_its_target_to_the_center_of_the_image() -> None:
    camera = Camera(np.array([0.0, -4.0, 1.0]), np.array([0.0, 0.0, 1.0]), 90.0)
    points = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 1.0], [0.0, 0.0, 2.0]])

    projected = camera.project(points, (201, 101))

    # 90 degrees over 101 px: the focal length is 50.5 px.
    expected = np.array([[100, 50, 4], [112.625, 50, 4], [100, 37.375, 4]])
    np.testing.assert_allclose(projected, expected, atol=1e-9)


@pytest.mark.parametrize("scene_name", ["gym", "rink"])
def test_floor_pixel_has_the_colour_of_the_texture(scene_name: SceneName) -> None:
    room = ROOM_BUILDERS[scene_name](np.random.default_rng(0))
    camera = Camera(np.array([0.5, -4.0, 1.5]), np.array([0.0, 0.0, 0.5]))

    image = room.render_background(camera, SIZE).astype(float)

    x, y = 0.4, -0.8
    column, row, _ = np.rint(camera.project(np.array([[x, y, 0.0]]), SIZE)[0]).astype(int)
    i, j = (round((metres + room.half_width_m) / 0.025) for metres in (y, x))
    colour = room.floor_texture[i - 3 : i + 4, j - 3 : j + 4].mean(axis=(0, 1))
    assert np.all(np.abs(image[row, column] - colour) < 20)
    assert np.abs(image[5, 160] - colour).max() > 20


def test_projected_joints_are_inside_the_drawn_body() -> None:
    motion, camera = sample_impact_motion(1, 6.0), sample_static_camera(1)
    for time_s in np.arange(0.2, 6, 1.2):
        vertices = skin_vertices(BODY, motion.pose_at(time_s))
        mask = (draw_mask(vertices, camera, 0.02) > 0.2).astype(np.uint8)

        joints = camera.project(regress_coco_joints(BODY, vertices), SIZE)

        columns, rows = np.rint(joints[:, :2]).astype(int).T
        assert cv2.dilate(mask, np.ones((3, 3)))[rows, columns].all()


def test_drawn_body_fills_most_of_the_image_height(standing_vertices: Array) -> None:
    mask = draw_mask(standing_vertices, sample_static_camera(0), 0.02)

    rows = np.nonzero(mask.max(axis=1))[0]
    assert 0.6 * SIZE[1] < np.ptp(rows) < 0.95 * SIZE[1]


def test_decimated_mesh_preserves_the_silhouette(standing_vertices: Array) -> None:
    camera = sample_static_camera(0)

    fine, coarse = (draw_mask(standing_vertices, camera, cell_m) for cell_m in (0, 0.025))

    assert len(decimate_mesh(BODY, 0.025).faces) < 0.4 * len(BODY.faces)
    assert np.minimum(fine, coarse).sum() / np.maximum(fine, coarse).sum() > 0.95


def test_front_faces_hide_those_behind(standing_vertices: Array) -> None:
    """From the front, the center of the head is skin; from behind, it is hair."""
    colours = compute_face_colours(BODY, APPEARANCES[0])
    empty = np.zeros((SIZE[1], SIZE[0], 3), dtype=np.uint8)
    nose_z = regress_coco_joints(BODY, standing_vertices)[0][2]
    reds = []
    for camera_y in (-3.0, 3.0):
        camera = Camera(np.array([0.0, camera_y, nose_z]), np.array([0.0, 0.0, nose_z]))
        image = draw_body(empty, camera, BODY, standing_vertices, colours)
        reds.append(int(image[120, 160, 0]))

    assert reds[0] > 2 * reds[1]


def test_shadow_darkens_only_the_floor_near_the_feet(standing_vertices: Array) -> None:
    floor = np.full((SIZE[1], SIZE[0], 3), 200, dtype=np.uint8)
    camera = sample_static_camera(0)

    shaded = draw_shadow(floor, camera, standing_vertices)

    column, row, _ = camera.project(np.zeros((1, 3)), SIZE)[0].astype(int)
    assert shaded[row - 8 : row + 8, column - 20 : column + 20].min() < 170
    assert (shaded[:100] == 200).all()


@pytest.mark.parametrize("fps", [25, 30, 60, Fraction(30000, 1001)], ids=str)
def test_video_has_a_frame_at_every_multiple_of_the_interval(
    tmp_path: Path, fps: Fraction
) -> None:
    path = tmp_path / "clip.mp4"

    joints = render_video(path, make_standing_motion(0.2), timing=fps, size=SMALL_SIZE)

    times_s = read_frame_times(path)
    assert len(times_s) == len(joints) == int(0.2 * float(fps))
    np.testing.assert_allclose(times_s, np.arange(len(times_s)) / float(fps), atol=1e-6)


def test_video_preserves_irregular_frame_times(tmp_path: Path) -> None:
    times_s = np.cumsum([0.0, 0.02, 0.05, 0.031, 0.08, 0.033])

    render_video(
        tmp_path / "clip.mp4", make_standing_motion(1.0), timing=times_s, size=SMALL_SIZE
    )

    np.testing.assert_allclose(
        read_frame_times(tmp_path / "clip.mp4"), times_s, atol=1 / 90_000
    )


def test_returned_joints_are_those_of_each_frame(tmp_path: Path) -> None:
    motion, times_s = sample_impact_motion(3, 2.5), np.arange(5) / 20

    joints = render_video(tmp_path / "clip.mp4", motion, timing=times_s, size=SIZE, seed=6)

    for time_s, frame_joints in zip(times_s, joints, strict=True):
        vertices = skin_vertices(BODY, motion.pose_at(time_s))
        expected = sample_static_camera(6).project(regress_coco_joints(BODY, vertices), SIZE)
        np.testing.assert_allclose(frame_joints, expected[:, :2])


def test_seed_determines_the_bytes_of_the_video(tmp_path: Path) -> None:
    contents = []
    for k, seed in enumerate((1, 1, 2)):
        path = tmp_path / f"{k}.mp4"
        render_video(path, make_standing_motion(0.1), size=SMALL_SIZE, seed=seed)
        contents.append(path.read_bytes())

    assert contents[0] == contents[1]
    assert contents[0] != contents[2]


def test_video_in_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"clip\.mp4"):
        render_video(tmp_path / "none" / "clip.mp4", make_standing_motion(0.1), size=SMALL_SIZE)
    assert not (tmp_path / "none").exists()


def test_example_is_a_short_small_h264_video_without_audio() -> None:
    path = EXAMPLES / "skate.mp4"
    assert path.stat().st_size < 3_000_000
    with av.open(str(path)) as container:
        assert not container.streams.audio
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.average_rate == 30
        assert 20 <= stream.frames / 30 <= 30


def test_first_frame_of_the_example_is_rendered_by_its_script(make_skate: ModuleType) -> None:
    motion = make_skate.build_skating_motion()
    with av.open(str(EXAMPLES / "skate.mp4")) as container:
        decoded = next(f.to_ndarray(format="rgb24") for f in container.decode(video=0))
    rng = np.random.default_rng(make_skate.SEED)
    appearance = APPEARANCES[rng.integers(len(APPEARANCES))]

    rendered, _ = next(
        render_frames(
            motion,
            np.zeros(1),
            size=make_skate.SIZE_PX,
            camera=lambda time_s: make_skate.tracking_camera(motion, time_s),
            room=ROOM_BUILDERS["rink"](rng),
            appearance=appearance,
        )
    )

    assert np.abs(decoded.astype(float) - rendered).mean() < 6


def test_skater_of_the_example_is_on_the_ice_except_for_the_jump(
    make_skate: ModuleType,
) -> None:
    motion = make_skate.build_skating_motion()
    for time_s in np.arange(0, motion.duration_s, 0.5):
        lowest_m = skin_vertices(BODY, motion.pose_at(time_s))[:, 2].min()
        is_jump = 9.9 < time_s < 10.5
        assert lowest_m > -0.01
        assert is_jump or lowest_m < 0.03
