"""Conversion of decoded frames to upright 8-bit RGB with square pixels and a limited size.

decoded frame -> swscale (colour, depth, size) -> flip, rotation -> (height, width, 3)
"""

import struct
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
from av.sidedata.sidedata import Type
from av.video.reformatter import Colorspace, Interpolation, VideoReformatter
from numpy.typing import NDArray

from .containers import MAX_SAMPLE_ASPECT_RATIO

RgbImage = NDArray[np.uint8]

UNSPECIFIED_COLORSPACE = 2  # AVCOL_SPC_UNSPECIFIED
BT709_MIN_LINES = 720  # unlabelled video is BT.709 from this height on, BT.601 below


@dataclass(frozen=True, kw_only=True)
class Orientation:
    """Transform that makes a frame upright: horizontal flip first, then rotation.

    Args:
        rotation_deg: counterclockwise, 0, 90, 180 or 270.
        mirrored: whether to flip the frame, as for the front cameras of some phones.
    """

    rotation_deg: int
    mirrored: bool


def read_orientation(frame: av.VideoFrame) -> Orientation:
    """Read the rotation, rounded to 90 degrees, and the flip of a frame's display matrix."""
    try:
        matrix = bytes(frame.side_data[Type.DISPLAYMATRIX])  # type: ignore[typeddict-item]
    except KeyError:
        return Orientation(rotation_deg=0, mirrored=False)
    # Row vectors: x' = a x + c y, y' = b x + d y, with y down (ISO/IEC 14496-12 Sec. 8.3.2).
    a, b, _, c, d = struct.unpack("=5i", matrix[:20])
    mirrored = a * d - b * c < 0
    if mirrored:
        a, b = -a, -b
    turn = round(float(np.degrees(np.arctan2(-b, a))) / 90) % 4
    return Orientation(rotation_deg=90 * turn, mirrored=mirrored)


def compute_square_pixel_size(
    frame: av.VideoFrame, pixel_aspect: Fraction | None
) -> tuple[int, int]:
    """Return width and height with square pixels, before rotation.

    Args:
        frame: decoded frame.
        pixel_aspect: sample aspect ratio, width over height of one pixel. ``None``, 0 or a
            ratio beyond `MAX_SAMPLE_ASPECT_RATIO` means square.
    """
    ratio, limit = pixel_aspect, MAX_SAMPLE_ASPECT_RATIO
    if not ratio or not Fraction(1, limit) <= ratio <= limit:
        return frame.width, frame.height
    return max(1, round(frame.width * ratio)), frame.height


class FrameConverter:
    """Converts the decoded frames of one video to RGB images of one size.

    Size and orientation are those of the first frame that it converts.

    Args:
        max_side_px: maximum length of the long side; larger frames are scaled down.
    """

    def __init__(self, max_side_px: int | None) -> None:
        """Create a converter; its first frame sets size and orientation."""
        self._max_side_px = max_side_px
        self._size: tuple[int, int] | None = None
        self._orientation = Orientation(rotation_deg=0, mirrored=False)
        self._reformatter = VideoReformatter()

    def __call__(self, frame: av.VideoFrame, sample_aspect_ratio: Fraction | None) -> RgbImage:
        """Convert one frame to a contiguous RGB image, ``(height, width, 3)``."""
        if self._size is None:
            width, height = compute_square_pixel_size(frame, sample_aspect_ratio)
            long_side = max(width, height)
            if self._max_side_px is not None and long_side > self._max_side_px:
                width = max(1, round(width * self._max_side_px / long_side))
                height = max(1, round(height * self._max_side_px / long_side))
            self._size, self._orientation = (width, height), read_orientation(frame)
        width, height = self._size
        colorspace = None
        if frame.colorspace == UNSPECIFIED_COLORSPACE:
            is_hd = frame.height >= BT709_MIN_LINES
            colorspace = Colorspace.ITU709 if is_hd else Colorspace.ITU601
        is_smaller = width < frame.width or height < frame.height
        interpolation = Interpolation.AREA if is_smaller else Interpolation.BICUBIC
        image = self._reformatter.reformat(
            frame, width, height, "rgb24", colorspace, interpolation=interpolation
        ).to_ndarray()
        if self._orientation.mirrored:
            image = image[:, ::-1]
        upright = np.rot90(image, self._orientation.rotation_deg // 90)
        return np.ascontiguousarray(upright)
