"""Rendering of a motion as a video, with ground-truth joints for every frame.

    Motion -> skin -> light, shadow, painter's algorithm -> frames -> video file

A rendered clip is an actual video file, so that tests include video decoding.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from loris_cli.array_types import Array
from loris_cli.synthetic import body_model, scene
from loris_cli.synthetic.body_model import BodyMesh
from loris_cli.synthetic.motion import Motion
from loris_cli.synthetic.scene import Camera, CameraPath, Colour, Image
from loris_cli.system.atomic_files import output_errors

# Time base of the frames: that of MPEG, a multiple of all common frame rates.
TIME_BASE_HZ = 90_000
# The body is drawn at this scale and downsampled, for antialiasing.
SUPERSAMPLING = 2
# Offset of the shadow, in metres per metre of height.
SHADOW_SLOPE = np.array([0.18, -0.22, 1.0])
LIGHT_DIRECTION = np.array([0.45, -0.65, 0.8]) / np.linalg.norm([0.45, -0.65, 0.8])


@dataclass(frozen=True)
class Appearance:
    """RGB colours of skin, hair, clothes and shoes."""

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
    """Compute the face colours of the body mesh.

    Args:
        body: the body mesh.
        appearance: colours of skin, hair and clothes.

    Returns:
        RGB colour of every face, 0 to 255, ``(faces, 3)``.
    """
    bones = body.vertex_bones.tolist()

    def on(*prefixes: str) -> NDArray[np.bool_]:
        return np.array([bone.startswith(prefixes) for bone in bones])

    x, y, z = body.vertices.T
    eye, ear = on("eye"), (np.abs(x) > 0.066) & (z < 0.69)
    hairline = np.maximum(0.74 - 0.9 * (y + 0.12), 0.585)
    colours = np.tile(np.array(appearance.skin, dtype=np.float64), (len(bones), 1))
    for mask, colour in (
        (on("upperarm01", "shoulder01", "clavicle"), appearance.top),
        (on("spine") & (z < 0.50), appearance.top),
        (on("root", "pelvis", "spine05", "upperleg", "lowerleg"), appearance.legs),
        (on("foot", "toe"), appearance.shoes),
        (on("lowerleg02") & (z < -0.78), appearance.shoes),
        (eye, (240, 240, 240)),
        (eye & (y < y[eye].min() + 0.004), (40, 30, 30)),
        (on("head") & (z > hairline) & ~ear, appearance.hair),
    ):
        colours[mask] = colour
    return np.asarray(colours[body.faces].mean(axis=1))


def draw_body(
    image: Image, camera: Camera, body: BodyMesh, vertices: Array, colours: Array
) -> Image:
    """Draw the body on an image with the painter's algorithm, far faces first.

    Args:
        image: the background, ``(height, width, 3)``.
        camera: the camera.
        body: the body mesh.
        vertices: skin vertices, ``(vertices, 3)``, in metres.
        colours: face colours, ``(faces, 3)``, 0 to 255.

    Returns:
        New image of the same shape.
    """
    height, width = image.shape[:2]
    large = (width * SUPERSAMPLING, height * SUPERSAMPLING)
    corners = camera.project(vertices, large)[body.faces]
    ab, ac = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    facing = np.nonzero(ab[:, 0] * ac[:, 1] - ab[:, 1] * ac[:, 0] < 0)[0]
    order = facing[np.argsort(-corners[facing, :, 2].sum(axis=1))]

    world = vertices[body.faces[order]]
    normals = np.cross(world[:, 1] - world[:, 0], world[:, 2] - world[:, 0])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-12
    shade = 0.62 + 0.38 * np.clip(normals @ LIGHT_DIRECTION, -0.5, 1.0) + 0.06 * normals[:, 2]
    lit = np.clip(colours[order] * shade[:, None], 0, 255).tolist()

    canvas = cv2.resize(image, large, interpolation=cv2.INTER_LINEAR)
    # fillConvexPoly takes fixed-point coordinates with 4 fractional bits.
    triangles = np.rint(corners[order, :, :2] * 16).astype(np.int32)
    for triangle, colour in zip(triangles, lit, strict=True):
        cv2.fillConvexPoly(canvas, triangle, colour, cv2.LINE_8, 4)
    reduced = cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(reduced, dtype=np.uint8)


def draw_shadow(image: Image, camera: Camera, vertices: Array) -> Image:
    """Draw the shadow of the body on the floor.

    Args:
        image: the background, ``(height, width, 3)``.
        camera: the camera.
        vertices: skin vertices, ``(vertices, 3)``, in metres.

    Returns:
        New image of the same shape.
    """
    height, width = image.shape[:2]
    shadow = camera.project(vertices - vertices[:, 2:] * SHADOW_SLOPE, (width, height))
    columns, rows = np.rint(shadow[:, :2]).astype(np.int64).T
    inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    mask = np.zeros((height, width), dtype=np.float32)
    mask[rows[inside], columns[inside]] = 1.0
    soft = cv2.GaussianBlur(cv2.dilate(mask, np.ones((3, 3))), (0, 0), height / 120)
    return np.asarray(image * (1.0 - 0.35 * soft[..., None]), dtype=np.uint8)


def decimate_mesh(body: BodyMesh, cell_size_m: float) -> BodyMesh:
    """Reduce the number of faces of a mesh by merging the vertices in each cell of a grid.

    Faces smaller than a pixel only increase the rendering time.

    Args:
        body: the body mesh.
        cell_size_m: width of a cell. Head, hands and feet use cells of half the width, because
            their shapes are finer.

    Returns:
        The body mesh with the same vertices and fewer faces.
    """
    prefixes = ("head", "eye", "finger", "meta", "toe")
    fine = np.array([bone.startswith(prefixes) for bone in body.vertex_bones.tolist()])
    cells = np.rint(body.vertices / np.where(fine, cell_size_m / 2, cell_size_m)[:, None])
    joint = np.argmax(body.skin_weights, axis=1)
    _, first, cell = np.unique(
        np.column_stack([cells, joint]), axis=0, return_index=True, return_inverse=True
    )
    faces = first[cell.ravel()][body.faces]
    a, b, c = faces.T
    faces = faces[(a != b) & (b != c) & (c != a)]
    _, distinct = np.unique(np.sort(faces, axis=1), axis=0, return_index=True)
    return replace(body, faces=faces[distinct])


def sample_static_camera(seed: int) -> Camera:
    """Sample a static camera that frames a dancer at the origin with outstretched arms."""
    rng = np.random.default_rng(seed)
    azimuth = np.radians(rng.uniform(-35, 35))
    distance_m = rng.uniform(3.15, 3.45)
    target = np.array([0.0, 0.0, 1.0])
    offset = distance_m * np.array([np.sin(azimuth), -np.cos(azimuth), 0.0])
    return Camera(target + offset + [0.0, 0.0, rng.uniform(0.1, 0.4)], target)


def render_frames(
    motion: Motion,
    times_s: Array,
    *,
    size: tuple[int, int],
    camera: CameraPath,
    room: scene.Room,
    appearance: Appearance,
) -> Iterator[tuple[Image, Array]]:
    """Render a motion frame by frame.

    Args:
        motion: motion of the body.
        times_s: times of the frames, ``(frames,)``, in seconds.
        size: width and height, in pixels.
        camera: camera as a function of time.
        room: the background.
        appearance: colours of the body.

    Yields:
        The RGB image, ``(height, width, 3)``, and its ground-truth joints in COCO order,
        ``(17, 2)``, in pixels.
    """
    body = body_model.load_body()
    mesh = decimate_mesh(body, cell_size_m=6.0 / size[1])
    colours = compute_face_colours(mesh, appearance)
    background: Image | None = None
    previous: Camera | None = None
    for time_s in times_s.tolist():
        view = camera(time_s)
        if background is None or view is not previous:
            background, previous = room.render_background(view, size), view
        vertices = body_model.skin_vertices(body, motion.pose_at(time_s))
        joints = body_model.regress_coco_joints(body, vertices)
        image = draw_shadow(background, view, vertices)
        image = draw_body(image, view, mesh, vertices, colours)
        yield image, view.project(joints, size)[:, :2]


def render_video(
    path: Path,
    motion: Motion,
    *,
    timing: float | Fraction | Array = 30,
    size: tuple[int, int] = (320, 240),
    seed: int = 0,
    scene_name: scene.SceneName = "gym",
    camera: CameraPath | None = None,
    crf: int = 20,
) -> Array:
    """Render a motion as a video (H.264, no audio) and return the ground-truth joints.

    Args:
        path: output file; its extension selects the container.
        motion: motion of the body.
        timing: frame rate in Hz; or, for a variable rate, the presentation times in seconds,
            ``(frames,)``, increasing from 0, which are rounded to 1/90000 s.
        size: width and height, even, in pixels.
        seed: seed of colours, background and the default camera.
        scene_name: the background.
        camera: camera as a function of time; by default static, in front of the origin.
        crf: constant rate factor of x264; lower is better.

    Returns:
        Ground-truth joints in COCO order, ``(frames, 17, 2)``, in pixels.

    Raises:
        OutputError: the file cannot be written.
    """
    if isinstance(timing, np.ndarray):
        rate, times_s = Fraction(30), timing
    else:
        rate = Fraction(timing).limit_denominator(1001)
        times_s = np.arange(int(motion.duration_s * rate)) / float(rate)
    static_camera = sample_static_camera(seed)
    rng = np.random.default_rng(seed)
    appearance = APPEARANCES[rng.integers(len(APPEARANCES))]
    frames = render_frames(
        motion,
        times_s,
        size=size,
        camera=camera or (lambda time_s: static_camera),
        room=scene.ROOM_BUILDERS[scene_name](rng),
        appearance=appearance,
    )
    time_base, joints = Fraction(1, TIME_BASE_HZ), []
    with output_errors(path), av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": str(crf), "preset": "fast"}
        # A single thread makes the output byte-identical on every machine.
        stream.codec_context.thread_count = 1
        stream.codec_context.time_base = time_base
        for time_s, (image, frame_joints) in zip(times_s, frames, strict=True):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = round(time_s * TIME_BASE_HZ), time_base
            container.mux(stream.encode(frame))
            joints.append(frame_joints)
        container.mux(stream.encode())
    return np.array(joints)
