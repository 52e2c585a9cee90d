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
from loris_cli.synthetic.scene import ROOM_BUILDERS, Camera, RoomName

BODY = load_body()
EXAMPLES = Path(__file__).parents[1] / "examples"
SMALL = (160, 120)


def standing(duration_s: float) -> Motion:
    return Motion(duration_s, lambda time_s: REST_CONTROLS)


def frame_times(path: Path) -> list[float]:
    with av.open(str(path)) as container:
        return [float(frame.time or 0) for frame in container.decode(video=0)]


def drawn_mask(vertices: Array, camera: Camera, size: tuple[int, int], cell_m: float) -> Array:
    body = decimate_mesh(BODY, cell_m) if cell_m else BODY
    empty = np.full((size[1], size[0], 3), 255, dtype=np.uint8)
    image = draw_body(empty, camera, body, vertices, np.zeros((len(body.faces), 3)))
    return (255 - image[..., 0]) / 255


def make_skate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_skate", EXAMPLES / "make_skate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_camera_sees_its_target_in_the_middle_and_right_on_the_right() -> None:
    camera = Camera(np.array([0.0, -4.0, 1.0]), np.array([0.0, 0.0, 1.0]), 90.0)
    points = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 1.0], [0.0, 0.0, 2.0]])
    projected = camera.project(points, (201, 101))
    # 90 degrees over 101 pixels: the focal length is 50.5 pixels.
    expected = np.array([[100, 50, 4], [112.625, 50, 4], [100, 37.375, 4]])
    np.testing.assert_allclose(projected, expected, atol=1e-9)


@pytest.mark.parametrize("place", ["gym", "rink"])
def test_a_point_of_the_floor_has_the_colour_of_the_texture(place: RoomName) -> None:
    room = ROOM_BUILDERS[place](np.random.default_rng(0))
    camera = Camera(np.array([0.5, -4.0, 1.5]), np.array([0.0, 0.0, 0.5]))
    image = room.render_background(camera, (320, 240))
    x, y = 0.4, -0.8
    column, row, _ = np.rint(camera.project(np.array([[x, y, 0.0]]), (320, 240))[0]).astype(int)
    texel = [round((metres + room.half_width_m) / 0.025) for metres in (y, x)]
    near = room.floor_texture[texel[0] - 3 : texel[0] + 4, texel[1] - 3 : texel[1] + 4].astype(
        float
    )
    assert np.all(np.abs(image[row, column] - near.mean(axis=(0, 1))) < 20)
    assert np.abs(image[5, 160].astype(float) - near.mean(axis=(0, 1))).max() > 20


def test_the_true_joints_lie_inside_the_drawn_body() -> None:
    motion = sample_impact_motion(1, 6.0)
    for time_s in np.arange(0.2, 6, 0.6):
        vertices = skin_vertices(BODY, motion.pose_at(time_s))
        mask = drawn_mask(vertices, sample_static_camera(1), (320, 240), 0.02) > 0.2
        projected = sample_static_camera(1).project(
            regress_coco_joints(BODY, vertices), (320, 240)
        )
        columns, rows = np.rint(projected[:, :2]).astype(int).T
        wide = cv2.dilate(mask.astype(np.uint8), np.ones((3, 3)))
        assert wide[rows, columns].all()


def test_the_drawn_body_is_upright_and_fills_most_of_the_picture() -> None:
    vertices = skin_vertices(BODY, standing(1.0).pose_at(0.0))
    rows = np.nonzero(
        drawn_mask(vertices, sample_static_camera(0), (320, 240), 0.02).max(axis=1)
    )[0]
    assert 0.6 * 240 < np.ptp(rows) < 0.95 * 240


def test_fewer_faces_keep_the_outline() -> None:
    vertices = skin_vertices(BODY, standing(1.0).pose_at(0.0))
    fine, rough = (
        drawn_mask(vertices, sample_static_camera(0), (320, 240), cell) for cell in (0, 0.025)
    )
    assert len(decimate_mesh(BODY, 0.025).faces) < 0.4 * len(BODY.faces)
    assert np.minimum(fine, rough).sum() / np.maximum(fine, rough).sum() > 0.95


def test_a_face_in_front_hides_the_one_behind() -> None:
    """From the front the face shows skin where the nose is; from behind, hair."""
    appearance = APPEARANCES[0]
    vertices = skin_vertices(BODY, standing(1.0).pose_at(0.0))
    empty = np.zeros((240, 320, 3), dtype=np.uint8)
    reds = []
    for side in (-1, 1):
        nose = regress_coco_joints(BODY, vertices)[0]
        camera = Camera(np.array([0.0, side * 3.0, nose[2]]), np.array([0.0, 0.0, nose[2]]))
        colours = compute_face_colours(BODY, appearance)
        image = draw_body(empty, camera, BODY, vertices, colours)
        reds.append(int(image[120, 160, 0]))
    assert reds[0] > 2 * reds[1]


def test_the_shadow_darkens_the_floor_at_the_feet_and_nothing_far_away() -> None:
    floor = np.full((240, 320, 3), 200, dtype=np.uint8)
    vertices = skin_vertices(BODY, standing(1.0).pose_at(0.0))
    shaded = draw_shadow(floor, sample_static_camera(0), vertices)
    column, row, _ = np.rint(
        sample_static_camera(0).project(np.zeros((1, 3)), (320, 240))[0]
    ).astype(int)
    assert shaded[row - 8 : row + 8, column - 20 : column + 20].min() < 170
    assert (shaded[:100] == 200).all()


@pytest.mark.parametrize("fps", [25, 30, 60, Fraction(30000, 1001)])
def test_a_video_has_a_frame_at_every_tick_of_its_rate(tmp_path: Path, fps: Fraction) -> None:
    joints = render_video(tmp_path / "clip.mp4", standing(0.4), timing=fps, size=SMALL)
    times_s = frame_times(tmp_path / "clip.mp4")
    assert len(times_s) == len(joints) == int(0.4 * float(fps))
    np.testing.assert_allclose(times_s, np.arange(len(times_s)) / float(fps), atol=1e-6)


def test_a_video_keeps_uneven_frame_times(tmp_path: Path) -> None:
    wanted = np.cumsum([0.0, 0.02, 0.05, 0.031, 0.08, 0.033])
    render_video(tmp_path / "clip.mp4", standing(1.0), timing=wanted, size=SMALL)
    np.testing.assert_allclose(frame_times(tmp_path / "clip.mp4"), wanted, atol=1 / 90_000)


def test_the_joints_given_are_those_of_the_frame_drawn(tmp_path: Path) -> None:
    motion = sample_impact_motion(3, 2.5)
    times_s = motion.impact_times_s[0] + np.arange(-2, 3) / 20
    joints = render_video(tmp_path / "clip.mp4", motion, timing=times_s - times_s[0], seed=6)
    vertices = skin_vertices(BODY, motion.pose_at(times_s[4] - times_s[0]))
    expected = sample_static_camera(6).project(regress_coco_joints(BODY, vertices), (320, 240))[
        :, :2
    ]
    np.testing.assert_allclose(joints[4], expected)


def test_the_same_seed_writes_the_same_bytes(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        render_video(tmp_path / f"{name}.mp4", standing(0.3), size=SMALL, seed=seed)
    a, b, c = ((tmp_path / f"{name}.mp4").read_bytes() for name in "abc")
    assert a == b
    assert a != c


def test_a_video_in_a_missing_folder_is_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(OutputError):
        render_video(tmp_path / "no" / "clip.mp4", standing(0.1), size=SMALL)


def test_the_example_is_a_small_silent_video_of_half_a_minute_at_most() -> None:
    path = EXAMPLES / "skate.mp4"
    assert path.stat().st_size < 3_000_000
    with av.open(str(path)) as container:
        assert not container.streams.audio
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.average_rate == 30
        assert 20 <= stream.frames / 30 <= 30


def test_the_example_is_what_its_script_draws() -> None:
    module = make_skate()
    motion = module.build_skating_motion()
    with av.open(str(EXAMPLES / "skate.mp4")) as container:
        shown = next(f.to_ndarray(format="rgb24") for f in container.decode(video=0))
    rng = np.random.default_rng(module.SEED)
    appearance = APPEARANCES[rng.integers(len(APPEARANCES))]
    drawn, _ = next(
        render_frames(
            motion,
            np.zeros(1),
            size=module.SIZE_PX,
            camera=lambda time_s: module.tracking_camera(motion, time_s),
            room=ROOM_BUILDERS["rink"](rng),
            appearance=appearance,
        )
    )
    assert np.abs(shown.astype(float) - drawn).mean() < 6


def test_the_skater_stays_on_the_ice() -> None:
    motion = make_skate().build_skating_motion()
    for time_s in np.arange(0, motion.duration_s, 0.25):
        lowest = skin_vertices(BODY, motion.pose_at(time_s))[:, 2].min()
        in_the_air = 9.9 < time_s < 10.5
        assert lowest > -0.01
        assert in_the_air or lowest < 0.03
