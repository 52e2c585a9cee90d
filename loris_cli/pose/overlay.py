"""A video with the skeleton over it, to see what was followed."""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from loris_cli.errors import OutputError
from loris_cli.pose.keypoints import COCO_17, Poses
from loris_cli.system.atomic_files import printable_path

Array = NDArray[Any]
Colour = tuple[int, int, int]

LEFT_COLOUR: Colour = (255, 140, 0)
RIGHT_COLOUR: Colour = (0, 160, 255)
CENTRE_COLOUR: Colour = (240, 240, 240)
INTERPOLATED_OPACITY = 0.3
MIN_KEYPOINT_SCORE = 0.3

SKELETON_EDGES = tuple(
    (COCO_17.index(one), COCO_17.index(other))
    for side in ("left", "right")
    for one, other in (
        ("nose", f"{side}_eye"),
        (f"{side}_eye", f"{side}_ear"),
        (f"{side}_ear", f"{side}_shoulder"),
        (f"{side}_shoulder", f"{side}_elbow"),
        (f"{side}_elbow", f"{side}_wrist"),
        (f"{side}_shoulder", f"{side}_hip"),
        (f"{side}_hip", f"{side}_knee"),
        (f"{side}_knee", f"{side}_ankle"),
    )
) + tuple(
    (COCO_17.index(f"left_{joint}"), COCO_17.index(f"right_{joint}"))
    for joint in ("shoulder", "hip")
)


class ImageFrame(Protocol):
    """One picture of a video; ``loris_cli.video.frames.Frame`` is one."""

    @property
    def rgb(self) -> Array:
        """The picture, ``(height, width, 3)`` uint8."""


def overlay_poses(frames: Iterable[ImageFrame], poses: Poses) -> Iterator[Array]:
    """Pictures with the body drawn: left orange, right blue, faint where it is filled in.

    Args:
        frames: the pictures the poses were taken from, perhaps scaled.
        poses: frame by frame the same; pictures after the last pose are left out.

    Yields:
        ``(height, width, 3)`` uint8; the pictures given are not changed.
    """
    if not poses.keypoints.any():  # nobody was seen: there is no body to draw
        yield from (frame.rgb for frame, _ in zip(frames, poses.times_s, strict=False))
        return
    for frame, joints, filled in zip(frames, poses.keypoints, poses.interpolated, strict=False):
        height, width = frame.rgb.shape[:2]
        scaled = joints * (width / poses.size[0], height / poses.size[1], 1)
        drawn = draw_skeleton(
            frame.rgb, scaled, min_score=0.0 if filled else MIN_KEYPOINT_SCORE
        )
        yield _blend(frame.rgb, drawn) if filled else drawn


def draw_skeleton(
    rgb: Array, keypoints: Array, *, min_score: float = MIN_KEYPOINT_SCORE
) -> Array:
    """A picture with one body drawn on it.

    Args:
        rgb: ``(height, width, 3)`` uint8.
        keypoints: x px, y px, score, ``(17, 3)``.
        min_score: joints below it, and their bones, are left out.

    Returns:
        A new picture of the same shape.
    """
    import cv2

    drawn = np.ascontiguousarray(rgb).copy()
    thickness = max(1, round(max(rgb.shape[:2]) / 320))
    # Far outside the picture is as good as just outside, and OpenCV counts in 32 bits.
    points = keypoints[:, :2].clip(-10_000, 10_000).round().astype(int).tolist()
    for one, other in SKELETON_EDGES:
        if min(keypoints[one, 2], keypoints[other, 2]) >= min_score:
            colour = _edge_colour(COCO_17[one], COCO_17[other])
            cv2.line(drawn, points[one], points[other], colour, thickness, cv2.LINE_AA)
    for name, point, score in zip(COCO_17, points, keypoints[:, 2], strict=True):
        if score >= min_score:
            cv2.circle(drawn, point, thickness + 1, _edge_colour(name, name), -1, cv2.LINE_AA)
    return drawn


def write_mp4(path: Path, images: Iterable[Array], fps: float, size: tuple[int, int]) -> None:
    """Write pictures as an MP4 that plays in browsers: H.264, even sides, no sound.

    Args:
        path: file to write, whatever its suffix.
        images: ``(height, width, 3)`` uint8, of any size.
        fps: pictures a second.
        size: width and height of the video in px; an odd one is made even.

    Raises:
        OutputError: the file cannot be written.
    """
    import av

    rate = Fraction(fps).limit_denominator(1001)
    try:
        with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as out:
            stream = out.add_stream(
                "libx264", rate, options={"crf": "23", "preset": "veryfast"}
            )
            stream.width, stream.height = (max(2, side - side % 2) for side in size)
            stream.pix_fmt = "yuv420p"
            for rgb in images:
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
                frame = frame.reformat(width=stream.width, height=stream.height)
                out.mux(stream.encode(frame))
            out.mux(stream.encode(None))
    except OSError as error:  # PyAV's own errors of files are children of it too
        raise OutputError(
            f"{printable_path(path)} cannot be written: {error.strerror or error}",
            hint="see whether the folder is there and the disk has room",
        ) from error


def _edge_colour(joint_a: str, joint_b: str) -> Colour:
    sides = {name.partition("_")[0] for name in (joint_a, joint_b)}
    if sides <= {"left", "nose"} and "left" in sides:
        return LEFT_COLOUR
    return RIGHT_COLOUR if sides <= {"right", "nose"} and "right" in sides else CENTRE_COLOUR


def _blend(image: Array, overlaid: Array) -> Array:
    mixed: Array = (
        image * (1 - INTERPOLATED_OPACITY) + overlaid * INTERPOLATED_OPACITY
    ).astype(np.uint8)
    return mixed
