"""Skeleton overlay video, to check which person was tracked."""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np

from loris_cli.pose.keypoints import COCO_17, COCO_SKELETON, Array, Poses
from loris_cli.system.atomic_files import output_errors
from loris_cli.video.frames import Frame

CENTRE_COLOUR = (240, 240, 240)
SIDE_COLOURS = {"left": (255, 140, 0), "right": (0, 160, 255)}
INTERPOLATED_OPACITY = 0.3
MIN_SCORE = 0.3
DRAWN_EDGES = COCO_SKELETON[:-1]  # without the edge between the eyes


def overlay_poses(frames: Iterable[Frame], poses: Poses) -> Iterator[Array]:
    """Draw poses on frames: left side orange, right side blue, faint where interpolated.

    Args:
        frames: frames of the poses, possibly scaled.
        poses: poses of the same frames; frames after the last pose are omitted.

    Yields:
        New images, ``(height, width, 3)`` uint8; the input is not modified.
    """
    if not poses.keypoints.any():  # no person was detected
        yield from (frame.rgb for frame, _ in zip(frames, poses.times_s, strict=False))
        return
    pose_frames = zip(frames, poses.keypoints, poses.interpolated, strict=False)
    for frame, keypoints, is_interpolated in pose_frames:
        height, width = frame.rgb.shape[:2]
        scaled = keypoints * (width / poses.size[0], height / poses.size[1], 1)
        min_score = 0.0 if is_interpolated else MIN_SCORE
        image = draw_skeleton(frame.rgb, scaled, min_score=min_score)
        if is_interpolated:
            blended = frame.rgb * (1 - INTERPOLATED_OPACITY) + image * INTERPOLATED_OPACITY
            image = blended.astype(np.uint8)
        yield image


def draw_skeleton(rgb: Array, keypoints: Array, *, min_score: float = MIN_SCORE) -> Array:
    """Draw one skeleton on a copy of an image.

    Args:
        rgb: ``(height, width, 3)`` uint8.
        keypoints: x px, y px, score, ``(17, 3)``.
        min_score: joints with a lower score, and their edges, are omitted.

    Returns:
        New image of the same shape.
    """
    import cv2

    image = np.ascontiguousarray(rgb).copy()
    thickness = max(1, round(max(rgb.shape[:2]) / 320))
    # Clip joints far outside the image: OpenCV's coordinates are limited to 32 bits.
    points = keypoints[:, :2].clip(-10_000, 10_000).round().astype(int).tolist()
    is_visible = (keypoints[:, 2] >= min_score).tolist()
    for a, b in DRAWN_EDGES:
        if is_visible[a] and is_visible[b]:
            colour = _side_colour(COCO_17[a], COCO_17[b])
            cv2.line(image, points[a], points[b], colour, thickness, cv2.LINE_AA)
    for name, point, visible in zip(COCO_17, points, is_visible, strict=True):
        if visible:
            cv2.circle(image, point, thickness + 1, _side_colour(name), -1, cv2.LINE_AA)
    return image


def write_mp4(path: Path, images: Iterable[Array], fps: float, size: tuple[int, int]) -> None:
    """Write images as an MP4 file that plays in browsers (H.264, no audio).

    Args:
        path: file to write; the suffix is ignored.
        images: ``(height, width, 3)`` uint8, of any size.
        fps: frames per second.
        size: width and height of the video in px; rounded down to even numbers.

    Raises:
        OutputError: the file cannot be written.
    """
    import av

    rate = Fraction(fps).limit_denominator(1001)
    options = {"movflags": "+faststart"}
    # PyAV's file errors are subclasses of OSError.
    with output_errors(path), av.open(str(path), "w", format="mp4", options=options) as out:
        stream = out.add_stream("libx264", rate, options={"crf": "23", "preset": "veryfast"})
        stream.width, stream.height = (max(2, side - side % 2) for side in size)
        stream.pix_fmt = "yuv420p"
        for rgb in images:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
            frame = frame.reformat(width=stream.width, height=stream.height)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def _side_colour(*joints: str) -> tuple[int, int, int]:
    """Return the colour of a joint or an edge: its side's, or the centre colour."""
    sides = {name.partition("_")[0] for name in joints} - {"nose"}
    return SIDE_COLOURS[sides.pop()] if len(sides) == 1 else CENTRE_COLOUR
