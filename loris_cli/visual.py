"""Features of a video's picture, two rows a second, from a file.

    .npy -> (rows, width) -> as many rows as the video has

The released data has them of an I3D trained on Kinetics and on Charades, 1024 wide. Where a
file comes from is not in it, so its width is all that can be checked.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from loris_cli.errors import InputError
from loris_cli.files import printable

Array = NDArray[np.float64]

VISUAL_FPS = 2.0
"""Rows a second: of frames at 16 a second one row for every 8 (specification, 2)."""
SHORT_ROWS = 2
"""A network that looks at many frames at once gives so many rows fewer at the end."""
MAX_BYTES = 2 << 30


def read_visual(path: Path, *, width: int, duration_s: float) -> Array:
    """Read features that somebody made of a video.

    Args:
        path: a ``.npy`` file, rows first; what follows is one row's values.
        width: of a row.
        duration_s: of the video.

    Returns:
        ``(rows, width)`` for the whole video; rows that are missing at the end repeat the
        last.

    Raises:
        InputError: it is no such file, or of another width or length.
    """
    name = printable(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{name} is too large", hint="give one video's features")
        stored = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(
            f"{name} is not a .npy array", hint="save features with numpy.save"
        ) from error
    if not isinstance(stored, np.ndarray) or stored.ndim < 2 or not stored.size:
        raise InputError(f"{name} holds no rows of features", hint="give (rows, width)")
    if stored.dtype.kind not in "fiu":
        raise InputError(f"{name} holds {stored.dtype}, no numbers", hint="give floats")
    rows = stored.reshape(len(stored), -1).astype(np.float64)
    if rows.shape[1] != width:
        raise InputError(
            f"{name} has rows of {rows.shape[1]} values; this model was trained on {width}",
            hint="1024 are those of the Inception I3D, 2048 those of I3D-R50",
        )
    if not np.isfinite(rows).all():
        raise InputError(f"{name} holds values that are not finite", hint="make it again")
    need = int(np.ceil(duration_s * VISUAL_FPS - 1e-6))
    if len(rows) < need - SHORT_ROWS:
        raise InputError(
            f"{name} has {len(rows)} rows, {len(rows) / VISUAL_FPS:g} s at"
            f" {VISUAL_FPS:g} a second, and the video lasts {duration_s:.1f} s",
            hint="give features of the whole video, one row for every 8 frames at 16 a second",
        )
    return np.pad(rows[:need], ((0, max(need - len(rows), 0)), (0, 0)), mode="edge")
