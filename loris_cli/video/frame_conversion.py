"""A decoded frame as people see it: upright, square pixels, 8-bit RGB, no larger than asked.

decoded frame -> swscale (colour, depth, size) -> quarter turns -> (height, width, 3)
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
BT709_MIN_LINES = 720  # from here on, video without a label is BT.709, below it BT.601


@dataclass(frozen=True, kw_only=True)
class Orientation:
    """How a picture is set upright: mirrored left to right first, then turned.

    Args:
        rotation_deg: counterclockwise, 0, 90, 180 or 270.
        mirrored: as the front camera of some phones writes it.
    """

    rotation_deg: int
    mirrored: bool


def read_orientation(frame: av.VideoFrame) -> Orientation:
    """The nearest quarter turn of a frame's display matrix, and its mirroring."""
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


def square_pixel_size(
    frame: av.VideoFrame, sample_aspect_ratio: Fraction | None
) -> tuple[int, int]:
    """Width and height with square pixels, before any turn.

    Args:
        frame: a decoded frame.
        sample_aspect_ratio: width over height of one pixel; ``None``, 0 or absurd means square.
    """
    if (
        not sample_aspect_ratio
        or not Fraction(1, MAX_SAMPLE_ASPECT_RATIO)
        <= sample_aspect_ratio
        <= MAX_SAMPLE_ASPECT_RATIO
    ):
        return frame.width, frame.height
    return max(1, round(frame.width * sample_aspect_ratio)), frame.height


class FrameConverter:
    """Turns the decoded frames of one video into pictures of one size.

    Args:
        frame: the first shown frame; it decides the size for all.
        sample_aspect_ratio: width over height of one pixel.
        max_side_px: the long side is scaled down to this, never up.
    """

    def __init__(
        self,
        frame: av.VideoFrame,
        *,
        sample_aspect_ratio: Fraction | None,
        max_side_px: int | None,
    ) -> None:
        """Fix the size and the turn."""
        width, height = square_pixel_size(frame, sample_aspect_ratio)
        long = max(width, height)
        if max_side_px is not None and long > max_side_px:
            width = max(1, round(width * max_side_px / long))
            height = max(1, round(height * max_side_px / long))
        self._size = width, height
        self._orientation = read_orientation(frame)
        self._reformatter = VideoReformatter()

    def __call__(self, frame: av.VideoFrame) -> RgbImage:
        """One frame as ``(height, width, 3)``, RGB, contiguous."""
        width, height = self._size
        hd = frame.height >= BT709_MIN_LINES
        smaller = width < frame.width or height < frame.height
        picture = self._reformatter.reformat(
            frame,
            width=width,
            height=height,
            format="rgb24",
            src_colorspace=(Colorspace.ITU709 if hd else Colorspace.ITU601)
            if frame.colorspace == UNSPECIFIED_COLORSPACE
            else None,
            interpolation=Interpolation.AREA if smaller else Interpolation.BICUBIC,
        ).to_ndarray()
        if self._orientation.mirrored:
            picture = picture[:, ::-1]
        turned = np.rot90(picture, self._orientation.rotation_deg // 90)
        upright: RgbImage = np.ascontiguousarray(turned)
        return upright
