"""Scene of a rendered dancer: pinhole camera, and a gym or an ice rink as background.

camera -> rays -> intersection with floor or wall -> texture -> background
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from loris_cli.array_types import Array

Image = NDArray[np.uint8]
Colour = tuple[int, int, int]
SceneName = Literal["gym", "rink"]

# Size of a texel in metres.
_TEXEL_M = 0.025
_WALL_HEIGHT_M = 6.0


@dataclass(frozen=True)
class Camera:
    """Pinhole camera without roll.

    Attributes:
        position: ``(3,)``, in metres.
        target: point at the centre of the image, ``(3,)``, in metres.
        field_of_view_deg: vertical field of view.
    """

    position: Array
    target: Array
    field_of_view_deg: float = 40.0

    def axes(self) -> Array:
        """Return the right, down and forward axes in world coordinates as rows, ``(3, 3)``."""
        forward = self.target - self.position
        forward = forward / np.linalg.norm(forward)
        right = np.cross(forward, [0.0, 0.0, 1.0])
        right /= np.linalg.norm(right)
        return np.stack([right, np.cross(forward, right), forward])

    def focal_px(self, height_px: int) -> float:
        """Return the focal length in pixels for a given image height."""
        return float(height_px / 2 / np.tan(np.radians(self.field_of_view_deg) / 2))

    def project(self, points: Array, size: tuple[int, int]) -> Array:
        """Project points in world coordinates onto the image.

        Args:
            points: ``(points, 3)``, in metres.
            size: width and height of the image, in pixels.

        Returns:
            ``(points, 3)``: x and y in pixels, with pixel centres at integer coordinates, and
            the depth in metres.
        """
        local = (points - self.position) @ self.axes().T
        pixels = self.focal_px(size[1]) * local[:, :2] / local[:, 2:]
        return np.column_stack([pixels + (np.array(size) - 1) / 2, local[:, 2]])


CameraPath = Callable[[float], Camera]


@dataclass(frozen=True)
class Room:
    """Square room around the camera.

    Attributes:
        half_width_m: distance from the world's origin to each wall.
        floor_texture: ``(rows, rows, 3)``, along x and y.
        wall_texture: texture of the four walls side by side, ``(rows, columns, 3)``, upside
            down: row 0 is at the floor.
    """

    half_width_m: float
    floor_texture: Image
    wall_texture: Image

    def render_background(self, camera: Camera, size: tuple[int, int]) -> Image:
        """Render the empty room.

        Args:
            camera: camera inside the room.
            size: width and height, in pixels.

        Returns:
            RGB image, ``(height, width, 3)``.
        """
        width, height = size
        x, y = np.meshgrid(np.arange(width), np.arange(height))
        offsets = [x - (width - 1) / 2, y - (height - 1) / 2, np.full_like(x, 1.0, dtype=float)]
        offsets[2] *= camera.focal_px(height)
        rays = np.stack(offsets, axis=-1) @ camera.axes()
        rays[np.abs(rays) < 1e-9] = 1e-9
        half = self.half_width_m
        # Distances to the wall on each axis and to the floor, in ray lengths.
        origin = camera.position
        to_x, to_y = ((np.sign(rays[..., i]) * half - origin[i]) / rays[..., i] for i in (0, 1))
        to_floor = np.where(rays[..., 2] < 0, -origin[2] / rays[..., 2], np.inf)
        to_wall = np.minimum(to_x, to_y)
        hits = np.minimum(to_wall, to_floor)[..., None] * rays + origin

        along_x, along_y = hits[..., 0] + half, hits[..., 1] + half
        floor = _sample_texture(self.floor_texture, along_x, along_y)
        along_walls = np.where(
            to_x < to_y,
            np.where(rays[..., 0] > 0, along_y, 6 * half - along_y),
            np.where(rays[..., 1] > 0, 4 * half - along_x, 6 * half + along_x),
        )
        walls = _sample_texture(self.wall_texture, along_walls, hits[..., 2])
        return np.where((to_floor < to_wall)[..., None], floor, walls)


def _sample_texture(texture: Image, right_m: Array, up_m: Array) -> Image:
    x, y = ((metres / _TEXEL_M).astype(np.float32) for metres in (right_m, up_m))
    pixels = cv2.remap(texture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(pixels, dtype=np.uint8)


def _solid_texture(width_m: float, height_m: float, colour: Colour) -> Array:
    shape = (round(height_m / _TEXEL_M), round(width_m / _TEXEL_M), 1)
    return np.tile(np.array(colour, dtype=np.float64), shape)


def _add_noise(rng: Generator, texture: Array, std: float, sigma: tuple[float, float]) -> Image:
    """Add brightness noise with a given standard deviation, blurred by ``sigma`` px in x, y."""
    sigma_x, sigma_y = sigma
    white = rng.normal(size=texture.shape[:2])
    noise = cv2.GaussianBlur(white, (0, 0), sigmaX=sigma_x, sigmaY=sigma_y)
    noisy = texture + (std / noise.std() * noise)[..., None]
    return np.asarray(np.clip(noisy, 0, 255), np.uint8)


def build_gym(rng: Generator) -> Room:
    """Build a gym with floorboards, court lines and panelled walls."""
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


def build_rink(rng: Generator) -> Room:
    """Build an ice rink with scratched ice, lines, white boards, banners and dark stands."""
    half = 14.0
    floor = _solid_texture(2 * half, 2 * half, (206, 220, 230))
    for _ in range(260):  # curved scratches in the ice
        centre = rng.uniform(0, floor.shape[0], 2).astype(int).tolist()
        axes = rng.uniform(20, 160, 2).astype(int).tolist()
        start = float(rng.uniform(0, 360))
        cv2.ellipse(floor, centre, axes, 0, start, start + 70, (218, 229, 237), 1)
    middle = floor.shape[0] // 2
    blue, red = (110, 140, 205), (214, 120, 124)
    for offset_m, colour in ((-6.0, blue), (0.0, red), (6.0, blue)):
        column = middle + round(offset_m / _TEXEL_M)
        cv2.line(floor, (column, 0), (column, floor.shape[0]), colour, 8)
    cv2.circle(floor, (middle, middle), round(4.5 / _TEXEL_M), blue, 3)
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


ROOM_BUILDERS = {"gym": build_gym, "rink": build_rink}
