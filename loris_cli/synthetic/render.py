"""Pictures of a moving body, with the true place of every joint beside them.

    Motion -> skin -> light, shadow, painter's order -> frames -> video file

A rendered clip is a real video file: what reads it can be tested from the first byte.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from loris_cli.errors import OutputError
from loris_cli.synthetic.body_model import (
    Array,
    BodyMesh,
    load_body,
    regress_coco_joints,
    skin_vertices,
)
from loris_cli.synthetic.motion import Motion
from loris_cli.synthetic.scene import ROOM_BUILDERS, Camera, CameraPath, Image, Room, RoomName

Colour = tuple[int, int, int]

# Frame times are written in this unit: MPEG's, in which all usual frame rates are whole.
TIME_BASE_HZ = 90_000
# The body is drawn this much larger and shrunk, which smooths its edges.
SUPERSAMPLING = 2
# How far a shadow falls, in metres for each metre of height.
SHADOW_SLOPE = np.array([0.18, -0.22, 1.0])
LIGHT_DIRECTION = np.array([0.45, -0.65, 0.8]) / np.linalg.norm([0.45, -0.65, 0.8])


@dataclass(frozen=True)
class Appearance:
    """Colours (red, green, blue) of skin, hair, clothes and shoes."""

    skin: Colour = (224, 172, 140)
    hair: Colour = (62, 40, 28)
    top: Colour = (196, 44, 60)
    legs: Colour = (38, 40, 58)
    shoes: Colour = (236, 236, 240)


APPEARANCES = (
    Appearance(),
    Appearance(skin=(198, 140, 104), hair=(30, 24, 22), top=(40, 92, 190), legs=(58, 58, 62)),
    Appearance(skin=(236, 190, 160), hair=(120, 74, 36), top=(30, 130, 92), legs=(28, 30, 44)),
    Appearance(skin=(150, 98, 70), hair=(24, 20, 20), top=(236, 178, 40), legs=(52, 44, 96)),
)


def compute_face_colours(body: BodyMesh, appearance: Appearance) -> Array:
    """Paint the mesh.

    Args:
        body: the body.
        appearance: the colours.

    Returns:
        red, green and blue of every face, 0 to 255, ``(faces, 3)``.
    """
    bone = np.array([name.split(".")[0] for name in body.vertex_bones])
    x, y, z = body.vertices.T
    colours = np.tile(np.array(appearance.skin, dtype=np.float64), (len(bone), 1))
    colours[np.isin(bone, ["upperarm01", "shoulder01", "clavicle"])] = appearance.top
    colours[np.char.startswith(bone, "spine") & (z < 0.50)] = appearance.top
    colours[np.isin(bone, ["root", "pelvis", "spine05"])] = appearance.legs
    colours[np.char.startswith(bone, "upperleg")] = appearance.legs
    colours[np.char.startswith(bone, "lowerleg")] = appearance.legs
    colours[np.char.startswith(bone, "foot") | np.char.startswith(bone, "toe")] = (
        appearance.shoes
    )
    colours[(bone == "lowerleg02") & (z < -0.78)] = appearance.shoes
    eye = np.char.startswith(bone, "eye")
    colours[eye] = (240, 240, 240)
    colours[eye & (y < y[eye].min() + 0.004)] = (40, 30, 30)
    head = bone == "head"
    hairline = np.maximum(0.74 - 0.9 * (y + 0.12), 0.585)
    ear = (np.abs(x) > 0.066) & (z < 0.69)
    colours[head & (z > hairline) & ~ear] = appearance.hair
    painted: Array = colours[body.faces].mean(axis=1)
    return painted


def draw_body(
    picture: Image, camera: Camera, body: BodyMesh, vertices: Array, colours: Array
) -> Image:
    """Draw the skin over a picture, far faces first.

    Args:
        picture: what is behind, ``(height, width, 3)``.
        camera: the view.
        body: the body.
        vertices: its skin, ``(vertices, 3)``, in metres.
        colours: ``(faces, 3)``, 0 to 255.

    Returns:
        a new picture of the same shape.
    """
    height, width = picture.shape[:2]
    large = (width * SUPERSAMPLING, height * SUPERSAMPLING)
    seen = camera.project(vertices, large)
    corners = seen[body.faces]
    ab, ac = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    facing = np.nonzero(ab[:, 0] * ac[:, 1] - ab[:, 1] * ac[:, 0] < 0)[0]
    order = facing[np.argsort(-corners[facing, :, 2].sum(axis=1))]

    world = vertices[body.faces[order]]
    normals = np.cross(world[:, 1] - world[:, 0], world[:, 2] - world[:, 0])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-12
    shade = 0.62 + 0.38 * np.clip(normals @ LIGHT_DIRECTION, -0.5, 1.0) + 0.06 * normals[:, 2]
    lit = np.clip(colours[order] * shade[:, None], 0, 255).tolist()

    canvas = cv2.resize(picture, large, interpolation=cv2.INTER_LINEAR)
    # fillConvexPoly takes 4 binary places of sub-pixels.
    triangles = np.rint(corners[order, :, :2] * 16).astype(np.int32)
    for triangle, colour in zip(triangles, lit, strict=True):
        cv2.fillConvexPoly(canvas, triangle, colour, cv2.LINE_8, 4)
    shrunk = cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(shrunk, dtype=np.uint8)


def draw_shadow(picture: Image, camera: Camera, vertices: Array) -> Image:
    """Darken the floor where the body keeps the light from it.

    Args:
        picture: the empty room, ``(height, width, 3)``.
        camera: the view.
        vertices: the skin, ``(vertices, 3)``, in metres.

    Returns:
        a new picture of the same shape.
    """
    height, width = picture.shape[:2]
    fallen = vertices - vertices[:, 2:] * SHADOW_SLOPE
    seen = camera.project(fallen, (width, height))
    columns, rows = np.rint(seen[:, :2]).astype(np.int64).T
    inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    mask = np.zeros((height, width), dtype=np.float32)
    mask[rows[inside], columns[inside]] = 1.0
    blur = height / 120
    soft = cv2.GaussianBlur(cv2.dilate(mask, np.ones((3, 3))), (0, 0), blur)
    return np.asarray(picture * (1.0 - 0.35 * soft[..., None]), dtype=np.uint8)


def decimate_mesh(body: BodyMesh, cell_size_m: float) -> BodyMesh:
    """The body with fewer faces: vertices in one cell of a grid become one of them.

    Args:
        body: the body.
        cell_size_m: width of a cell; a face smaller than a pixel is only work. Head, hands and
            feet keep cells half as wide, for their shapes are finer.

    Returns:
        the body, its vertices as they were, with fewer faces.
    """
    bones = body.vertex_bones.tolist()
    fine = np.array(
        [bone.startswith(("head", "eye", "finger", "meta", "toe")) for bone in bones]
    )
    cells = np.rint(body.vertices / np.where(fine, cell_size_m / 2, cell_size_m)[:, None])
    owner = np.argmax(body.skin_weights, axis=1)
    _, first, cell = np.unique(
        np.column_stack([cells, owner]), axis=0, return_index=True, return_inverse=True
    )
    faces = first[cell.ravel()][body.faces]
    a, b, c = faces.T
    faces = faces[(a != b) & (b != c) & (c != a)]
    _, kept = np.unique(np.sort(faces, axis=1), axis=0, return_index=True)
    return replace(body, faces=faces[kept])


def sample_static_camera(seed: int) -> Camera:
    """A camera that stands still before a dancer who stays where she is, arms and all."""
    rng = np.random.default_rng(seed)
    around = np.radians(rng.uniform(-35, 35))
    distance_m = rng.uniform(3.15, 3.45)
    target = np.array([0.0, 0.0, 1.0])
    aside = distance_m * np.array([np.sin(around), -np.cos(around), 0.0])
    return Camera(target + aside + [0.0, 0.0, rng.uniform(0.1, 0.4)], target)


def render_frames(
    motion: Motion,
    times_s: Array,
    *,
    size: tuple[int, int],
    camera: CameraPath,
    room: Room,
    appearance: Appearance,
) -> Iterator[tuple[Image, Array]]:
    """Draw a motion, a picture at a time.

    Args:
        motion: what the body does.
        times_s: when to look, ``(frames,)``, in seconds.
        size: width and height, in pixels.
        camera: the view at each time.
        room: where.
        appearance: colours of the body.

    Yields:
        the picture (red, green, blue), ``(height, width, 3)``, and the true joints in it,
        ``(17, 2)``, in pixels, in COCO order.
    """
    body = load_body()
    drawn = decimate_mesh(body, cell_size_m=6.0 / size[1])
    colours = compute_face_colours(drawn, appearance)
    empty: Image | None = None
    before: Camera | None = None
    for time_s in times_s:
        view = camera(float(time_s))
        if empty is None or view is not before:
            empty, before = room.render_background(view, size), view
        vertices = skin_vertices(body, motion.pose_at(float(time_s)))
        picture = draw_shadow(empty, view, vertices)
        picture = draw_body(picture, view, drawn, vertices, colours)
        yield picture, view.project(regress_coco_joints(body, vertices), size)[:, :2]


def render_video(
    path: Path,
    motion: Motion,
    *,
    fps: float | Fraction = 30,
    times_s: Array | None = None,
    size: tuple[int, int] = (320, 240),
    seed: int = 0,
    room_name: RoomName = "gym",
    camera: CameraPath | None = None,
    crf: int = 20,
) -> Array:
    """Write a motion as a video (H.264, no sound) and give the true joints of every frame.

    Args:
        path: the file to write; its ending decides the container.
        motion: what the body does.
        fps: pictures a second, where ``times_s`` does not say otherwise.
        times_s: presentation times, rising from 0, ``(frames,)``, in seconds; each is kept
            to the nearest 1/90000 s. For a variable frame rate.
        size: width and height, even, in pixels.
        seed: decides colours, room and the default camera.
        room_name: where the body is.
        camera: the view at each time; by default one that stands still before the origin.
        crf: x264's constant rate factor; less is better.

    Returns:
        true joints, ``(frames, 17, 2)``, in pixels, in COCO order.

    Raises:
        OutputError: the file cannot be written.
    """
    rate = Fraction(fps).limit_denominator(1001)
    if times_s is None:
        times_s = np.arange(int(motion.duration_s * rate)) / float(rate)
    still = sample_static_camera(seed)
    rng = np.random.default_rng(seed)
    look = APPEARANCES[rng.integers(len(APPEARANCES))]
    pictures = render_frames(
        motion,
        times_s,
        size=size,
        camera=camera or (lambda time_s: still),
        room=ROOM_BUILDERS[room_name](rng),
        appearance=look,
    )
    joints = []
    try:
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=rate)
            stream.width, stream.height = size
            stream.pix_fmt = "yuv420p"
            stream.options = {"crf": str(crf), "preset": "fast"}
            # One thread: the same bytes on every machine.
            stream.codec_context.thread_count = 1
            stream.codec_context.time_base = Fraction(1, TIME_BASE_HZ)
            for time_s, (picture, seen) in zip(times_s, pictures, strict=True):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts = round(time_s * TIME_BASE_HZ)
                frame.time_base = Fraction(1, TIME_BASE_HZ)
                container.mux(stream.encode(frame))
                joints.append(seen)
            container.mux(stream.encode())
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from error
    return np.array(joints)
