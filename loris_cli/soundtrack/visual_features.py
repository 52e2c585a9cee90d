"""Visual features of a video, two rows a second: their source, and their files.

    NAME=FILE -> encoder and weights;  .npy -> (rows, width) -> as many rows as the video has

The released data has features of an I3D trained on Kinetics and on Charades, 1024 wide. A file
does not name its encoder, so its width is all that can be checked.
"""

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from zipfile import BadZipFile

import numpy as np

from loris_cli.array_types import Array
from loris_cli.errors import InputError, UsageError

VISUAL_FPS = 2.0
"""Rows a second: of frames at 16 a second one row for every 8 (specification, 2)."""
MAX_MISSING_ROWS = 2
"""A network whose input spans many frames gives so many rows fewer at the end."""
MAX_BYTES = 2 << 30

VisualNetwork = Literal["i3d", "i3d-r50"]
VISUAL_WIDTHS: dict[VisualNetwork, int] = {"i3d": 1024, "i3d-r50": 2048}
"""Row widths of the Inception I3D and of pytorchvideo's I3D-R50."""


@dataclass(frozen=True, kw_only=True)
class VisualSource:
    """Encoder of visual features, or the file that has them."""

    network: VisualNetwork | None
    """None for a file of features."""
    path: Path | None = None
    """The features, or a network's weights; None is the default path of the weights."""

    def __str__(self) -> str:
        """Return the text that `parse_visual_source` reads."""
        if self.network is None or self.path is None:
            return str(self.path or self.network)
        return f"{self.network}={self.path}"


def parse_visual_source(text: str) -> VisualSource:
    """Parse ``FEATURES.npy``, ``i3d=FILE``, ``i3d-r50`` or ``i3d-r50=FILE``.

    A file alone is features if it ends in ``.npy``, weights of I3D-R50 if it ends in ``.pyth``,
    the suffix of pytorchvideo, and else weights of an Inception I3D.

    Raises:
        UsageError: a network without weights.
    """
    name, separator, file = text.partition("=")
    path = Path(file) if file else None
    if name == "i3d-r50" and (path is not None or not separator):
        return VisualSource(network="i3d-r50", path=path)
    if name == "i3d" and path is not None:
        return VisualSource(network="i3d", path=path)
    if name in VISUAL_WIDTHS or not text:
        raise UsageError(
            f"{text!r} names no weights", hint="i3d=FILE, i3d-r50=FILE or i3d-r50 (downloaded)"
        )
    path = Path(text)
    networks: dict[str, VisualNetwork | None] = {".npy": None, ".pyth": "i3d-r50"}
    return VisualSource(network=networks.get(path.suffix.lower(), "i3d"), path=path)


def slice_rows(rows: Array, start: int, n_rows: int) -> Array:
    """Return ``n_rows`` rows from ``start`` on; after the end the last is repeated."""
    return rows[np.minimum(np.arange(start, start + n_rows), len(rows) - 1)]


def read_visual_features(path: Path, *, width: int, duration_s: float) -> Array:
    """Read a file of visual features of a video.

    Args:
        path: a ``.npy`` file, rows first; further axes are the values of a row.
        width: of a row.
        duration_s: of the video.

    Returns:
        ``(rows, width)`` for the whole video; rows that are missing at the end repeat the
        last.

    Raises:
        InputError: the file is not of this form, width or length.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path} is too large", hint="give one video's features")
        stored = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path} is not a .npy array", hint="save with numpy.save") from error
    if not isinstance(stored, np.ndarray) or stored.ndim < 2 or not stored.size:
        raise InputError(f"{path} holds no rows of features", hint="give (rows, width)")
    if stored.dtype.kind not in "fiu":
        raise InputError(f"{path} holds {stored.dtype}, no numbers", hint="give floats")
    rows = stored.reshape(len(stored), -1).astype(np.float64)
    if rows.shape[1] != width:
        raise InputError(
            f"{path} has rows of {rows.shape[1]} values; this model was trained on {width}",
            hint="1024 are those of the Inception I3D, 2048 those of I3D-R50",
        )
    return _check_and_pad_rows(rows, path, duration_s)


def read_visual_npz(path: Path, *, duration_s: float) -> Array:
    """Read the visual features of a clip of a data set.

    Args:
        path: npz with ``features``, ``(rows, width)``.
        duration_s: of the clip.

    Returns:
        ``(rows, width)`` for the whole clip, as `read_visual_features`.

    Raises:
        InputError: the file is not of this form or length.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            rows = np.asarray(arrays["features"])
    except (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error) as error:
        raise InputError(f"{path} holds no visual features", hint="prepare it again") from error
    if rows.ndim != 2 or not rows.size or rows.dtype.kind != "f":
        raise InputError(f"{path} holds no rows of features", hint="prepare it again")
    return _check_and_pad_rows(rows.astype(np.float64), path, duration_s)


def _check_and_pad_rows(rows: Array, path: Path, duration_s: float) -> Array:
    """Rows for the entire video, the last repeated; all must be finite."""
    if not np.isfinite(rows).all():
        raise InputError(f"{path} holds values that are not finite", hint="make it again")
    need = int(np.ceil(duration_s * VISUAL_FPS - 1e-6))
    if len(rows) < need - MAX_MISSING_ROWS:
        raise InputError(
            f"{path} has {len(rows)} rows, {len(rows) / VISUAL_FPS:g} s at"
            f" {VISUAL_FPS:g} a second, and the video lasts {duration_s:.1f} s",
            hint="give features of the whole video, one row for every 8 frames at 16 a second",
        )
    return np.pad(rows[:need], ((0, max(need - len(rows), 0)), (0, 0)), mode="edge")
