"""Keypoints of one person over time, and their file.

    Poses -> .npz -> Poses

A file is not trusted, so its declared sizes are checked before a byte of it is unpacked.
"""

import math
import re
import zipfile
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from loris_cli.errors import InputError

Array = NDArray[Any]

COCO_17 = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear",
    "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist",
    "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle",
)  # fmt: skip
"""Names of the joints, in the order of every keypoints array."""
COCO_SKELETON = (
    (0, 1), (1, 3), (3, 5), (5, 7), (7, 9), (5, 11), (11, 13), (13, 15),
    (0, 2), (2, 4), (4, 6), (6, 8), (8, 10), (6, 12), (12, 14), (14, 16),
    (5, 6), (11, 12), (1, 2),
)  # fmt: skip
"""Edges of COCO's skeleton: on the left, on the right, between the sides."""
SHOULDER_JOINTS, HIP_JOINTS = [5, 6], [11, 12]

SCHEMA = 2
MAX_FRAMES = 24 * 3600 * 16
MAX_SIDE_PX = 32_768
MAX_FPS = 240.0
# Joints are estimated outside the frame too, but never this far.
MAX_COORDINATE_PX = 1e6
# Of a .npy header; those of poses files take 128 bytes.
MAX_HEADER_BYTES = 1_024


@dataclass(frozen=True, kw_only=True, eq=False)
class Poses:
    """The main performer of a clip, at a steady rate.

    Attributes:
        keypoints: x px, y px, score 0..1 of the joints of ``COCO_17`` in the upright frame,
            ``(frames, 17, 3)`` float32; (0, 0) is the frame's top left corner.
        times_s: ``frame / fps``, ``(frames,)``.
        fps: frames a second.
        size: width and height of the video, in px.
        interpolated: ``(frames,)`` bool, true where no person was detected: the joints are
            interpolated and their scores are 0.
        cuts: frames whose person is not that of the frame before (the shot changed, or another
            person is tracked), ``(cuts,)`` rising; the displacement into them is no motion.
        frame_interval_s: time between frames of the video itself, where known.
    """

    keypoints: Array
    times_s: Array
    fps: float
    size: tuple[int, int]
    interpolated: Array
    cuts: Array
    frame_interval_s: float | None = None

    @property
    def n_frames(self) -> int:
        """Number of pose frames."""
        return len(self.keypoints)

    @property
    def detected_fraction(self) -> float:
        """Fraction of frames in which the person was detected, 0..1."""
        return 1.0 - float(np.mean(self.interpolated)) if self.n_frames else 0.0


def slice_poses(poses: Poses, start_frame: int, stop_frame: int) -> Poses:
    """Return the poses of a range of frames, with times that start at 0."""
    inside = poses.cuts[(poses.cuts > start_frame) & (poses.cuts < stop_frame)]
    return replace(
        poses,
        keypoints=poses.keypoints[start_frame:stop_frame],
        times_s=np.arange(stop_frame - start_frame) / poses.fps,
        interpolated=poses.interpolated[start_frame:stop_frame],
        cuts=inside - start_frame,
    )


def write_poses(path: Path, poses: Poses) -> None:
    """Write poses as ``.npz``: equal poses give equal bytes on every machine.

    Args:
        path: file to write; an existing one is replaced.
        poses: its content.
    """
    # Not np.savez_compressed: deflate differs between builds of zlib, and joints hardly shrink.
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, (dtype, _) in _ARRAY_SPECS.items():
            value = SCHEMA if name == "schema" else getattr(poses, name)
            if value is None:
                continue
            array = np.asarray(value, dtype, order="C")
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w") as member:
                np.lib.format.write_array(member, array, version=(1, 0), allow_pickle=False)


def read_poses(path: Path) -> Poses:
    """Read poses that ``loris pose`` wrote, and check every value in the file.

    Args:
        path: a ``.npz`` file.

    Returns:
        The poses: finite joints, scores 0..1, ``times_s`` as in the contract.

    Raises:
        InputError: the file cannot be read, or is not such a file.
    """
    cause: Exception
    try:
        with zipfile.ZipFile(path) as archive:
            return _validate_poses(_read_arrays(archive))
    except InputError as error:
        problem, cause = f": {error}", error
    except OSError as error:
        problem, cause = f" cannot be read: {error.strerror or error}", error
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError) as error:
        problem, cause = " is not a poses file", error
    except RuntimeError as error:  # encrypted, or `NotImplementedError`: a rare compression
        problem, cause = " is packed in an unknown way", error
    raise InputError(f"{path}{problem}", hint=_REGENERATE_HINT) from cause


_REGENERATE_HINT = "make it again with `loris pose VIDEO`"

# name -> dtype as .npy spells it, shape; None is the number of frames, -1 any number.
_ARRAY_SPECS: dict[str, tuple[str, tuple[int | None, ...]]] = {
    "schema": ("<i8", ()),
    "keypoints": ("<f4", (None, 17, 3)),
    "times_s": ("<f8", (None,)),
    "fps": ("<f8", ()),
    "size": ("<i8", (2,)),
    "interpolated": ("|b1", (None,)),
    "cuts": ("<i8", (-1,)),
    "frame_interval_s": ("<f8", ()),
}
_OPTIONAL_ARRAYS = {"cuts", "frame_interval_s"}

# Exactly what numpy writes: its own reader parses the header as a Python literal.
_NPY_HEADER = re.compile(
    rb"\{'descr': '([<>=|]\w+)', 'fortran_order': False, 'shape': \(([0-9, ]{0,80})\), \}\s*"
)


def _read_arrays(archive: zipfile.ZipFile) -> dict[str, Array]:
    names = [info.filename.removesuffix(".npy") for info in archive.infolist()]
    if len(set(names)) != len(names):
        raise InputError("an array is there twice")
    if unknown := sorted(set(names) - set(_ARRAY_SPECS)):
        raise InputError(f"unknown array {unknown[0]!r}")
    if missing := sorted(set(_ARRAY_SPECS) - _OPTIONAL_ARRAYS - set(names)):
        raise InputError(f"no array {missing[0]!r}")
    arrays: dict[str, Array] = {}
    n_frames: int | None = None
    for name, info in zip(names, archive.infolist(), strict=True):
        with archive.open(info) as member:
            shape = _read_npy_header(member, name)
            _check_shape(name, shape, n_frames)
            spec_dtype, spec_shape = _ARRAY_SPECS[name]
            n_frames = shape[0] if None in spec_shape else n_frames
            dtype = np.dtype(spec_dtype)
            if info.file_size - member.tell() != math.prod(shape) * dtype.itemsize:
                raise InputError(f"{name!r} is not as long as its header says")
            arrays[name] = np.frombuffer(member.read(), dtype).reshape(shape)
    return arrays


def _read_npy_header(member: IO[bytes], name: str) -> tuple[int, ...]:
    """Return the shape, not yet checked, of an array of the right dtype."""
    if member.read(8) != b"\x93NUMPY\x01\x00":
        raise InputError(f"{name!r} is in an unknown version of .npy")
    n_bytes = int.from_bytes(member.read(2), "little")
    header = _NPY_HEADER.fullmatch(member.read(min(n_bytes, MAX_HEADER_BYTES)))
    if header is None:
        raise InputError(f"{name!r} has a strange header")
    dtype, shape = (group.decode("ascii", "replace") for group in header.groups())
    if dtype != _ARRAY_SPECS[name][0]:
        raise InputError(f"{name!r} holds {dtype}, not {_ARRAY_SPECS[name][0]}")
    return tuple(int(length) for length in shape.split(",") if length.strip())


def _check_shape(name: str, shape: tuple[int, ...], n_frames: int | None) -> None:
    expected = _ARRAY_SPECS[name][1]
    frames = range(1, MAX_FRAMES + 1) if n_frames is None else (n_frames,)
    allowed = {None: frames, -1: range(MAX_FRAMES + 1)}
    if len(shape) != len(expected) or not all(
        length in allowed.get(want, (want,))
        for length, want in zip(shape, expected, strict=True)
    ):
        raise InputError(f"{name!r} has shape {shape}")


def _validate_poses(arrays: dict[str, Array]) -> Poses:
    """Build poses of arrays of the right shapes, if their values are valid."""
    if arrays["schema"] != SCHEMA:
        raise InputError(f"schema {arrays['schema']}, this version reads {SCHEMA}")
    keypoints, times_s, fps = arrays["keypoints"], arrays["times_s"], float(arrays["fps"])
    n_frames, size = len(keypoints), arrays["size"]
    cuts = arrays.get("cuts", np.zeros(0, np.int64))
    interval_s = float(arrays["frame_interval_s"]) if "frame_interval_s" in arrays else None
    problems = {
        "a joint is not a number": not np.isfinite(keypoints).all(),
        "a joint is absurdly far away": (np.abs(keypoints) > MAX_COORDINATE_PX).any(),
        "a score is not within 0..1": ((keypoints[..., 2] < 0) | (keypoints[..., 2] > 1)).any(),
        f"fps {fps}": not 0 < fps <= MAX_FPS,
        f"size {size.tolist()}": ((size < 1) | (size > MAX_SIDE_PX)).any(),
        "cuts that do not rise within the clip": (np.diff(cuts, prepend=0) <= 0).any()
        or (cuts >= n_frames).any(),
        f"frame_interval_s {interval_s}": interval_s is not None and not 0 < interval_s <= 3600,
    }  # fmt: skip
    for problem, has_problem in problems.items():
        if has_problem:
            raise InputError(problem)
    if not np.allclose(times_s, np.arange(n_frames) / fps, rtol=0, atol=1e-3):
        raise InputError("times that are not frame / fps")
    width, height = size.tolist()
    return Poses(
        keypoints=keypoints,
        times_s=times_s,
        fps=fps,
        size=(width, height),
        interpolated=arrays["interpolated"],
        cuts=cuts,
        frame_interval_s=interval_s,
    )
