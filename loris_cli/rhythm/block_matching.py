"""Block matching: coarse displacements between images that are too far apart for optical flow.

two grey images -> best match of each block -> displacements of the cells
"""

import numpy as np
from numpy.typing import NDArray

from loris_cli.array_types import Float32Array

MAX_DISPLACEMENT_PX = 24
DISTANCE_PENALTY = 0.5
"""Penalty per pixel of displacement, in squared grey levels: of similar blocks, the nearest is
the most likely."""
MIN_CHANGE = 25.0
"""Mean squared difference between two images, in squared grey levels, below which a block is at
rest; this skips the search."""
MAX_ERROR_RATIO = 0.5
"""Maximum error of a match, relative to the error without displacement."""


def match_blocks(
    previous: NDArray[np.uint8], image: NDArray[np.uint8], *, cell_px: int
) -> Float32Array:
    """Return the displacement of each cell by exhaustive search, as initial optical flow.

    Args:
        previous: ``(height, width)``.
        image: next image, same shape.
        cell_px: side of a cell; a block is twice as large, around its center.

    Returns:
        Displacements in px, ``(height, width, 2)``; zero where the images agree without one.
    """
    import cv2

    reach = MAX_DISPLACEMENT_PX
    rows, columns = (side // cell_px for side in image.shape)
    blocks = cv2.copyMakeBorder(previous, *(cell_px,) * 4, cv2.BORDER_REPLICATE)
    searched = cv2.copyMakeBorder(image, *(cell_px + reach,) * 4, cv2.BORDER_REPLICATE)
    offsets = np.arange(-reach, reach + 1)
    penalty = DISTANCE_PENALTY * np.hypot(offsets[:, None], offsets)
    flow = np.zeros((rows, columns, 2), dtype=np.float32)
    changes = np.square(np.subtract(image, previous, dtype=np.float32))
    changes = cv2.boxFilter(changes, -1, (2 * cell_px, 2 * cell_px))
    for row, column in np.ndindex(rows, columns):
        top, left = cell_px * row + cell_px // 2, cell_px * column + cell_px // 2
        if changes[top, left] < MIN_CHANGE:
            continue
        block = blocks[top : top + 2 * cell_px, left : left + 2 * cell_px]
        side = 2 * (cell_px + reach)
        area = searched[top : top + side, left : left + side]
        errors = cv2.matchTemplate(area, block, cv2.TM_SQDIFF) / block.size + penalty
        best = np.unravel_index(errors.argmin(), errors.shape)
        if errors[best] < MAX_ERROR_RATIO * errors[reach, reach]:
            flow[row, column] = offsets[best[1]], offsets[best[0]]
    flow = np.dstack([cv2.medianBlur(np.ascontiguousarray(flow[..., k]), 3) for k in (0, 1)])
    height, width = image.shape
    return np.asarray(cv2.resize(flow, (width, height), interpolation=cv2.INTER_NEAREST))
