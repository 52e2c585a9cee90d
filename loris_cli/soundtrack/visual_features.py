"""Visual features of a video, two rows per second: sources and files.

    NAME=FILE -> encoder and weights;  .npy -> (rows, width) -> one row per half second

The released data has features of an I3D trained on Kinetics and Charades, of width 1024. A
feature file does not name its encoder, so only its width can be checked.
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
"""Rows per second: one row per 8 frames at 16 fps (docs/formats.md)."""
MAX_MISSING_ROWS = 2
"""Rows that may be missing at the end, because the input of a network spans many frames."""
MAX_BYTES = 2 << 30

VisualNetwork = Literal["i3d", "i3d-r50"]
VISUAL_WIDTHS: dict[VisualNetwork, int] = {"i3d": 1024, "i3d-r50": 2048}
"""Feature widths of Inception I3D and of pytorchvideo's I3D-R50."""


@dataclass(frozen=True, kw_only=True)
class VisualSource:
    """Source of visual features: an encoder, or a feature file."""

    network: VisualNetwork | None
    """Name of the encoder; None for a feature file."""
    path: Path | None = None
    """Feature file, or weights of the encoder; None is the default path of the weights."""

    def __str__(self) -> str:
        """Return the text that `parse_visual_source` accepts."""
        if self.network is None or self.path is None:
            return str(self.path or self.network)
        return f"{self.network}={self.path}"


def parse_visual_source(text: str) -> VisualSource:
    """Parse ``FEATURES.npy``, ``i3d=FILE``, ``i3d-r50`` or ``i3d-r50=FILE``.

    A path without a name is a feature file if it ends in ``.npy``, I3D-R50 weights if it ends
    in ``.pyth`` (the suffix of pytorchvideo), and otherwise Inception I3D weights.

    Raises:
        UsageError: an encoder is given without its weights.
    """
    name, separator, file = text.partition("=")
    path = Path(file) if file else None
    if name == "i3d-r50" and (path is not None or not separator):
        return VisualSource(network="i3d-r50", path=path)
    if name == "i3d" and path is not None:
        return VisualSource(network="i3d", path=path)
    if name in VISUAL_WIDTHS or not text:
        raise UsageError(
            f"no weights in {text!r}",
            hint="pass i3d=FILE, i3d-r50=FILE or i3d-r50 (downloaded)",
        )
    path = Path(text)
    networks: dict[str, VisualNetwork | None] = {".npy": None, ".pyth": "i3d-r50"}
    return VisualSource(network=networks.get(path.suffix.lower(), "i3d"), path=path)


def slice_rows(rows: Array, start: int, n_rows: int) -> Array:
    """Return ``n_rows`` rows from ``start`` on; the last row is repeated beyond the end.

    Args:
        rows: ``(rows, ...)``, not empty.
        start: index of the first row, at least 0.
        n_rows: number of rows to return.

    Returns:
        ``(n_rows, ...)``.
    """
    return rows[np.minimum(np.arange(start, start + n_rows), len(rows) - 1)]


def read_visual_features(path: Path, *, width: int, duration_s: float) -> Array:
    """Read the visual features of a video from a file.

    Args:
        path: ``.npy`` file; rows on the first axis, further axes are flattened.
        width: expected width of a row.
        duration_s: duration of the video.

    Returns:
        ``(rows, width)`` for the whole video; missing rows at the end repeat the last row.

    Raises:
        InputError: the file has another format, width or length.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path} is too large", hint="pass the features of one video")
        stored = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path} is not a .npy array", hint="save with numpy.save") from error
    if not isinstance(stored, np.ndarray) or stored.ndim < 2 or not stored.size:
        raise InputError(f"{path} has no feature rows", hint="save an array (rows, width)")
    if stored.dtype.kind not in "fiu":
        raise InputError(f"{path} has dtype {stored.dtype}, not numbers", hint="save floats")
    rows = stored.reshape(len(stored), -1).astype(np.float64)
    if rows.shape[1] != width:
        raise InputError(
            f"{path} has features of width {rows.shape[1]}, the model expects {width}",
            hint="Inception I3D has width 1024, I3D-R50 2048",
        )
    return _check_and_pad_rows(rows, path, duration_s)


def read_visual_npz(path: Path, *, duration_s: float) -> Array:
    """Read the visual features of a data set clip.

    Args:
        path: npz file with ``features``, ``(rows, width)``.
        duration_s: duration of the clip.

    Returns:
        ``(rows, width)`` for the whole clip, as from `read_visual_features`.

    Raises:
        InputError: the file has another format or length.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            rows = np.asarray(arrays["features"])
    except (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error) as error:
        raise InputError(
            f"{path} has no visual features", hint="prepare the clip again"
        ) from error
    if rows.ndim != 2 or not rows.size or rows.dtype.kind != "f":
        raise InputError(f"{path} has no feature rows", hint="prepare the clip again")
    return _check_and_pad_rows(rows.astype(np.float64), path, duration_s)


def _check_and_pad_rows(rows: Array, path: Path, duration_s: float) -> Array:
    """Check that all values are finite; pad or cut the rows to the duration of the video."""
    if not np.isfinite(rows).all():
        raise InputError(
            f"{path} has NaN or infinite values", hint="extract the features again"
        )
    need = int(np.ceil(duration_s * VISUAL_FPS - 1e-6))
    if len(rows) < need - MAX_MISSING_ROWS:
        raise InputError(
            f"{path} is too short: got {len(rows)} rows ({len(rows) / VISUAL_FPS:g} s at"
            f" {VISUAL_FPS:g} rows/s), the video lasts {duration_s:.1f} s",
            hint="pass features of the whole video, one row per 8 frames at 16 fps",
        )
    return np.pad(rows[:need], ((0, max(need - len(rows), 0)), (0, 0)), mode="edge")
