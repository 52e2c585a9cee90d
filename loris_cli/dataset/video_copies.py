"""Find copies of a video in a data set: re-encoded, remuxed, scaled, or with other audio.

video -> small frames at 2 fps, minus their mean -> signature -> correlation -> group

Copies have different files, but show the same motion at the same time. The mean over time is
subtracted, so that different dancers before one background are not similar. Copies that were
trimmed, cropped or mirrored are not found.
"""

import base64
import binascii
from collections import Counter
from collections.abc import Sequence
from itertools import islice

import cv2
import numpy as np

from loris_cli.array_types import Float32Array
from loris_cli.dataset.partitions import label_clusters
from loris_cli.dataset.records import Record
from loris_cli.video.frame_conversion import RgbImage
from loris_cli.video.frames import read_frames_at_fps
from loris_cli.video.probe import VideoInfo

SIGNATURE_FPS = 2
MAX_FRAMES = 64
GRID = 8
"""Rows and columns of brightness cells of a frame."""
MAX_SIDE_PX = 64
MAX_CHANGE = 16.0
"""Largest change of brightness of a cell, 0..255; larger ones are clipped."""
MIN_MOTION = 0.5
"""Root mean square of the change of brightness, 0..255, below which there is only noise."""
MIN_FRAMES = 8
"""Shorter videos may be similar by chance."""
MIN_CORRELATION = 0.8
"""Copies of three dance videos at a quarter of the size and at 25 fps reach 0.92 to 0.98, other
videos at most 0.31."""
BLOCK_ROWS = 512


def compute_signature(info: VideoInfo) -> str:
    """Return the change of brightness over the first 32 s of a video.

    Returns:
        ``(frames, 8, 8)`` differences from the mean over time as signed bytes, in base64; empty
        for a video shorter than 4 s or without motion.
    """
    frames = read_frames_at_fps(info, SIGNATURE_FPS, max_side_px=MAX_SIDE_PX)
    cells = np.array([_average_cells(frame.rgb) for frame in islice(frames, MAX_FRAMES)])
    if len(cells) < MIN_FRAMES:
        return ""
    # Fades change the mean of a frame; a title card or cut must not outweigh the motion.
    cells -= cells.mean(axis=(1, 2), keepdims=True)
    changes = (cells - cells.mean(axis=0)).clip(-MAX_CHANGE, MAX_CHANGE)
    if np.sqrt(np.square(changes).mean()) < MIN_MOTION:
        return ""
    return base64.b64encode(changes.round().astype(np.int8).tobytes()).decode()


def _average_cells(image: RgbImage) -> Float32Array:
    """Return the mean brightness of the cells of an image, ``(8, 8)``."""
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return np.asarray(cv2.resize(gray, (GRID, GRID), interpolation=cv2.INTER_AREA), np.float32)


def group_copies(records: Sequence[Record]) -> dict[str, str]:
    """Return the group of each source that has copies, by SHA-256 of the source.

    Args:
        records: preparation records; those without a signature have no copies.
    """
    signatures = {
        record["source"]["sha256"]: vector
        for record in records
        if (vector := _decode_signature(record.get("motion_signature"))) is not None
    }
    if not signatures:
        return {}
    hashes = sorted(signatures)
    vectors = np.stack([signatures[name] for name in hashes])
    groups: list[list[str]] = []
    for first in range(0, len(hashes), BLOCK_ROWS):
        are_similar = vectors[first : first + BLOCK_ROWS] @ vectors.T >= MIN_CORRELATION
        groups += [[hashes[k] for k in np.flatnonzero(row)] for row in are_similar]
    labels = label_clusters(groups)
    n_members = Counter(labels)
    return {
        name: f"copy:{label[:16]}"
        for name, label in zip(hashes, labels, strict=True)
        if n_members[label] > 1
    }


def _decode_signature(text: object) -> Float32Array | None:
    """Return a signature as a unit vector; None if it is missing, empty or damaged."""
    try:
        data = base64.b64decode(text, validate=True) if isinstance(text, str) else b""
    except binascii.Error:
        return None
    values = np.frombuffer(data[: MAX_FRAMES * GRID**2], np.int8).astype(np.float32)
    padded = np.zeros(MAX_FRAMES * GRID**2, np.float32)
    padded[: len(values)] = values
    norm = np.linalg.norm(padded)
    return padded / norm if norm > 0 else None
