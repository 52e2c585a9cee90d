"""A camera, and a place for a body to move in: a gym or an ice rink.

camera -> rays -> where each meets the floor or a wall -> texture -> background
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from loris_cli.synthetic.body_model import Array

Image = NDArray[np.uint8]
RoomName = Literal["gym", "rink"]

# Metres of the world in a pixel of the textures.
_TEXEL_M = 0.025
_WALL_HEIGHT_M = 6.0


@dataclass(frozen=True)
class Camera:
    """A pinhole camera that keeps the horizon level.

    Attributes:
        position: ``(3,)``, in metres.
        target: the point in the middle of the picture, ``(3,)``, in metres.
        field_of_view_deg: the vertical angle of view.
    """

    position: Array
    target: Array
    field_of_view_deg: float = 40.0

    def axes(self) -> Array:
        """Right, down and forward in the world, ``(3, 3)``, one a row."""
        forward = self.target - self.position
        forward = forward / np.linalg.norm(forward)
        right = np.cross(forward, [0.0, 0.0, 1.0])
        right /= np.linalg.norm(right)
        return np.stack([right, np.cross(forward, right), forward])

    def focal_px(self, height_px: int) -> float:
        """Focal length in pixels of a picture of that height."""
        return float(height_px / 2 / np.tan(np.radians(self.field_of_view_deg) / 2))

    def project(self, points: Array, size: tuple[int, int]) -> Array:
        """Where points of the world fall in the picture.

        Args:
            points: ``(points, 3)``, in metres.
            size: width and height of the picture, in pixels.

        Returns:
            ``(points, 3)``: x and y in pixels, with pixel centres at whole numbers, and the
            depth in metres.
        """
        seen = (points - self.position) @ self.axes().T
        pixels = self.focal_px(size[1]) * seen[:, :2] / seen[:, 2:]
        return np.column_stack([pixels + (np.array(size) - 1) / 2, seen[:, 2]])


CameraPath = Callable[[float], Camera]


@dataclass(frozen=True)
class Room:
    """A square room seen from inside.

    Attributes:
        half_width_m: from the middle, which is the world's origin, to each wall.
        floor: the texture of the floor, ``(rows, rows, 3)``, along x and y.
        walls: the texture of the four walls in a row, ``(rows, columns, 3)``, upside down:
            row 0 touches the floor.
    """

    half_width_m: float
    floor_texture: Image
    wall_texture: Image

    def render_background(self, camera: Camera, size: tuple[int, int]) -> Image:
        """The empty room.

        Args:
            camera: the view, from inside the room.
            size: width and height, in pixels.

        Returns:
            red, green and blue, ``(height, width, 3)``.
        """
        width, height = size
        x, y = np.meshgrid(np.arange(width), np.arange(height))
        offsets = [x - (width - 1) / 2, y - (height - 1) / 2, np.full_like(x, 1.0, dtype=float)]
        offsets[2] *= camera.focal_px(height)
        rays = np.stack(offsets, axis=-1) @ camera.axes()
        rays[np.abs(rays) < 1e-9] = 1e-9
        half = self.half_width_m
        # Distance, in lengths of the ray, to the wall ahead on each axis and to the floor.
        to_x, to_y = (
            (np.sign(rays[..., i]) * half - camera.position[i]) / rays[..., i] for i in (0, 1)
        )
        to_floor = np.where(rays[..., 2] < 0, -camera.position[2] / rays[..., 2], np.inf)
        met = np.minimum(np.minimum(to_x, to_y), to_floor)[..., None] * rays + camera.position

        floor = _sample_texture(self.floor_texture, met[..., 0] + half, met[..., 1] + half)
        along_x, along_y = met[..., 0] + half, met[..., 1] + half
        around = np.where(
            to_x < to_y,
            np.where(rays[..., 0] > 0, along_y, 6 * half - along_y),
            np.where(rays[..., 1] > 0, 4 * half - along_x, 6 * half + along_x),
        )
        walls = _sample_texture(self.wall_texture, around, met[..., 2])
        on_floor = (to_floor < np.minimum(to_x, to_y))[..., None]
        return np.where(on_floor, floor, walls)


def _sample_texture(texture: Image, right_m: Array, up_m: Array) -> Image:
    columns, rows = ((metres / _TEXEL_M).astype(np.float32) for metres in (right_m, up_m))
    found = cv2.remap(texture, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(found, dtype=np.uint8)


def _solid_texture(width_m: float, height_m: float, fill_colour: tuple[int, int, int]) -> Array:
    shape = (round(height_m / _TEXEL_M), round(width_m / _TEXEL_M), 1)
    return np.tile(np.array(fill_colour, dtype=np.float64), shape)


def _add_noise(
    rng: np.random.Generator,
    texture: Array,
    noise_std: float,
    blur_sigma_px: tuple[float, float],
) -> Image:
    """Brightness that wanders with the given size, blurred by so many pixels in x and y."""
    noise = cv2.GaussianBlur(
        rng.normal(size=texture.shape[:2]),
        (0, 0),
        sigmaX=blur_sigma_px[0],
        sigmaY=blur_sigma_px[1],
    )
    grained = texture + (noise_std / noise.std() * noise)[..., None]
    clipped: Image = np.clip(grained, 0, 255).astype(np.uint8)
    return clipped


def build_gym(rng: np.random.Generator) -> Room:
    """A sports hall: boards with court lines, panelled walls."""
    half = 6.0
    floor = _solid_texture(2 * half, 2 * half, (190, 148, 104))
    plank = 5
    for left in range(0, floor.shape[1], plank):
        floor[:, left : left + plank] += rng.normal(0, 5)
        floor[:, left] -= 14
    for radius_m in (1.8, 4.5):
        centre = (floor.shape[1] // 2, floor.shape[0] // 2)
        cv2.circle(floor, centre, round(radius_m / _TEXEL_M), (226, 226, 220), 2)
    cv2.line(floor, (0, centre[1]), (floor.shape[1], centre[1]), (226, 226, 220), 2)
    walls = _solid_texture(8 * half, _WALL_HEIGHT_M, (196, 202, 198))
    walls[: round(1.1 / _TEXEL_M)] = np.array([96, 126, 142]) + rng.normal(0, 12, 3)
    for left in range(0, walls.shape[1], round(1.5 / _TEXEL_M)):
        walls[:, left : left + 2] -= 22
    return Room(half, _add_noise(rng, floor, 5, (0.7, 8)), _add_noise(rng, walls, 5, (4, 4)))


def build_rink(rng: np.random.Generator) -> Room:
    """An ice rink: scratched ice with lines, white boards with banners, dark stands."""
    half = 14.0
    floor = _solid_texture(2 * half, 2 * half, (206, 220, 230))
    for _ in range(260):  # curved scratches of other skaters
        centre = rng.uniform(0, floor.shape[0], 2).astype(int).tolist()
        axes = rng.uniform(20, 160, 2).astype(int).tolist()
        start = float(rng.uniform(0, 360))
        cv2.ellipse(floor, centre, axes, 0, start, start + 70, (218, 229, 237), 1)
    middle = floor.shape[0] // 2
    for offset_m, colour in (
        (-6.0, (110, 140, 205)),
        (0.0, (214, 120, 124)),
        (6.0, (110, 140, 205)),
    ):
        column = middle + round(offset_m / _TEXEL_M)
        cv2.line(floor, (column, 0), (column, floor.shape[0]), colour, 8)
    cv2.circle(floor, (middle, middle), round(4.5 / _TEXEL_M), (110, 140, 205), 3)
    walls = _solid_texture(8 * half, _WALL_HEIGHT_M, (52, 56, 74))
    crowd = walls[round(1.5 / _TEXEL_M) :: 14, ::12]
    crowd += rng.uniform(-20, 90, crowd.shape)
    walls = np.asarray(cv2.dilate(walls, np.ones((7, 5))), dtype=np.float64)
    board = round(1.15 / _TEXEL_M)
    walls[:board] = (232, 234, 236)
    walls[: round(0.2 / _TEXEL_M)] = (226, 190, 60)
    walls[board : board + 3] = (40, 70, 150)
    colours = ((40, 84, 150), (150, 44, 60), (34, 110, 90), (90, 60, 130))
    for i, left in enumerate(range(20, walls.shape[1], 120)):
        walls[14 : board - 8, left : left + 84] = colours[i % len(colours)]
    return Room(half, _add_noise(rng, floor, 2.5, (6, 6)), _add_noise(rng, walls, 3, (2, 2)))


ROOM_BUILDERS: dict[RoomName, Callable[[np.random.Generator], Room]] = {
    "gym": build_gym,
    "rink": build_rink,
}
