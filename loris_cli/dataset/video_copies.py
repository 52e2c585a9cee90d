"""Find copies of a video in a data set: re-encoded, remuxed, scaled, or with other audio.

video -> small frames at 2 fps, minus their mean -> signature -> correlation -> group

Copies have different files, but show the same motion at the same time. The mean over time is
subtracted, so that different dancers before one background are not similar. Copies that were
trimmed, cropped or mirrored are not found.
"""

import base64
import binascii
from collections.abc import Sequence
from itertools import islice

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from loris_cli.array_types import Float32Array
from loris_cli.dataset.records import Record
from loris_cli.video.frames import read_frames_at_fps
from loris_cli.video.probe import VideoInfo

SIGNATURE_FPS = 2
MAX_FRAMES = 64
GRID = 8
"""Rows and columns of brightness cells of a frame."""
MAX_SIDE_PX = 64
MIN_MOTION = 0.5
"""Root mean square of the change of brightness, 0..255, below which there is only noise."""
MIN_FRAMES = 8
"""Shorter videos may be similar by chance."""
MIN_CORRELATION = 0.8
"""Copies of four dance videos at a quarter of the size and at 25 fps reach 0.92 to 0.98, other
videos at most 0.28."""
BLOCK_ROWS = 512


def compute_signature(info: VideoInfo) -> str:
    """Return the change of brightness over the first 32 s of a video.

    Returns:
        ``(frames, 8, 8)`` differences from the mean over time as signed bytes, in base64; empty
        for a video shorter than 4 s or without motion.
    """
    frames = read_frames_at_fps(info, SIGNATURE_FPS, max_side_px=MAX_SIDE_PX)
    cells = np.array([_average_cells(frame.rgb) for frame in islice(frames, MAX_FRAMES)])
    changes = cells - cells.mean(axis=0)
    if len(cells) < MIN_FRAMES or np.sqrt(np.square(changes).mean()) < MIN_MOTION:
        return ""
    return base64.b64encode(changes.round().clip(-127, 127).astype(np.int8).tobytes()).decode()


def _average_cells(image: np.ndarray) -> Float32Array:
    """Return the mean brightness of the cells of an image, ``(8, 8)``."""
    rows = np.array_split(image.mean(axis=2, dtype=np.float32), GRID)
    cells = [[cell.mean() for cell in np.array_split(row, GRID, axis=1)] for row in rows]
    return np.array(cells, dtype=np.float32)


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
    rows, columns = [], []
    for first in range(0, len(hashes), BLOCK_ROWS):
        correlations = vectors[first : first + BLOCK_ROWS] @ vectors.T
        block_rows, block_columns = np.nonzero(correlations >= MIN_CORRELATION)
        rows.append(block_rows + first)
        columns.append(block_columns)
    edges = np.concatenate(rows), np.concatenate(columns)
    graph = coo_array((np.ones(len(edges[0])), edges), shape=(len(hashes),) * 2)
    labels = connected_components(graph, directed=False)[1]
    _, first_members, counts = np.unique(labels, return_index=True, return_counts=True)
    return {
        name: f"copy:{hashes[first_members[label]][:16]}"
        for name, label in zip(hashes, labels, strict=True)
        if counts[label] > 1
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
