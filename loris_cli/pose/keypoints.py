"""Keypoints of one person over time, and the pose file format.

    Poses -> .npz -> Poses

Files are not trusted: the declared sizes are checked before any data is unpacked.
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
"""Joint names, in the order of all keypoint arrays."""
COCO_SKELETON = (
    (0, 1), (1, 3), (3, 5), (5, 7), (7, 9), (5, 11), (11, 13), (13, 15),
    (0, 2), (2, 4), (4, 6), (6, 8), (8, 10), (6, 12), (12, 14), (14, 16),
    (5, 6), (11, 12), (1, 2),
)  # fmt: skip
"""Edges of the COCO skeleton: left side, right side, then edges between the sides."""
SHOULDER_JOINTS, HIP_JOINTS = [5, 6], [11, 12]

SCHEMA = 2
MAX_FRAMES = 24 * 3600 * 16
MAX_SIDE_PX = 32_768
MAX_FPS = 240.0
# Joints may be estimated outside the frame, but never this far.
MAX_COORDINATE_PX = 1e6
# Maximum size of a .npy header; the headers in pose files have 128 bytes.
MAX_HEADER_BYTES = 1_024


@dataclass(frozen=True, kw_only=True, eq=False)
class Poses:
    """Poses of the main performer of a clip, at a constant frame rate.

    Attributes:
        keypoints: x px, y px and score 0..1 of the joints of ``COCO_17`` in the upright frame,
            ``(frames, 17, 3)`` float32; (0, 0) is the frame's top left corner.
        times_s: ``frame / fps``, ``(frames,)``.
        fps: frames per second.
        size: width and height of the video, in px.
        interpolated: ``(frames,)`` bool, true where no person was detected: the joints are
            interpolated and their scores are 0.
        cuts: frames that follow a cut or a change of the tracked person, ``(cuts,)``,
            increasing; the displacement into such a frame is not motion.
        frame_interval_s: time between frames of the original video, if known.
        source_times_s: presentation time of the video frame in which each pose was estimated,
            ``(frames,)``, non-decreasing, if known.
    """

    keypoints: Array
    times_s: Array
    fps: float
    size: tuple[int, int]
    interpolated: Array
    cuts: Array
    frame_interval_s: float | None = None
    source_times_s: Array | None = None

    @property
    def n_frames(self) -> int:
        """Number of pose frames."""
        return len(self.keypoints)

    @property
    def detected_fraction(self) -> float:
        """Fraction of frames in which the performer was detected, 0..1."""
        return 1.0 - float(np.mean(self.interpolated)) if self.n_frames else 0.0


def slice_poses(poses: Poses, start_frame: int, stop_frame: int) -> Poses:
    """Return the poses of a frame range, with times that start at 0."""
    inside = poses.cuts[(poses.cuts > start_frame) & (poses.cuts < stop_frame)]
    return replace(
        poses,
        keypoints=poses.keypoints[start_frame:stop_frame],
        times_s=np.arange(stop_frame - start_frame) / poses.fps,
        interpolated=poses.interpolated[start_frame:stop_frame],
        cuts=inside - start_frame,
        source_times_s=None
        if poses.source_times_s is None
        else poses.source_times_s[start_frame:stop_frame] - start_frame / poses.fps,
    )


def write_poses(path: Path, poses: Poses) -> None:
    """Write poses as a ``.npz`` file that is byte-identical on every machine.

    Args:
        path: file to write; an existing file is overwritten.
        poses: content of the file.
    """
    # Not np.savez_compressed: deflate output differs between zlib builds, and keypoints hardly
    # compress.
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, (dtype, _) in _ARRAY_SPECS.items():
            value = SCHEMA if name == "schema" else getattr(poses, name)
            if value is None:
                continue
            array = np.asarray(value, dtype, order="C")
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w") as member:
                np.lib.format.write_array(member, array, version=(1, 0), allow_pickle=False)


def read_poses(path: Path) -> Poses:
    """Read a pose file written by ``loris pose``, and validate all values.

    Args:
        path: a ``.npz`` file.

    Returns:
        The poses, with finite joints, scores in 0..1, and ``times_s`` equal to ``frame / fps``.

    Raises:
        InputError: the file cannot be read, or is not a valid pose file.
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
        problem, cause = " is not a pose file", error
    except RuntimeError as error:  # encrypted; NotImplementedError for unknown compression
        problem, cause = " is encrypted or uses an unsupported compression method", error
    raise InputError(f"{path}{problem}", hint=_REGENERATE_HINT) from cause


_REGENERATE_HINT = "regenerate it with `loris pose VIDEO`"

# name -> dtype in .npy notation, shape; None is the number of frames, -1 any number.
_ARRAY_SPECS: dict[str, tuple[str, tuple[int | None, ...]]] = {
    "schema": ("<i8", ()),
    "keypoints": ("<f4", (None, 17, 3)),
    "times_s": ("<f8", (None,)),
    "fps": ("<f8", ()),
    "size": ("<i8", (2,)),
    "interpolated": ("|b1", (None,)),
    "cuts": ("<i8", (-1,)),
    "frame_interval_s": ("<f8", ()),
    "source_times_s": ("<f8", (None,)),
}
_OPTIONAL_ARRAYS = {"cuts", "frame_interval_s", "source_times_s"}

# Accepts only the exact header that numpy writes; numpy's reader evaluates any Python literal.
_NPY_HEADER = re.compile(
    rb"\{'descr': '([<>=|]\w+)', 'fortran_order': False, 'shape': \(([0-9, ]{0,80})\), \}\s*"
)


def _read_arrays(archive: zipfile.ZipFile) -> dict[str, Array]:
    names = [info.filename.removesuffix(".npy") for info in archive.infolist()]
    if len(set(names)) != len(names):
        raise InputError("duplicate array in the file")
    if unknown := sorted(set(names) - set(_ARRAY_SPECS)):
        raise InputError(f"unknown array {unknown[0]!r}")
    if missing := sorted(set(_ARRAY_SPECS) - _OPTIONAL_ARRAYS - set(names)):
        raise InputError(f"missing array {missing[0]!r}")
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
                raise InputError(f"length of {name!r} does not match its header")
            arrays[name] = np.frombuffer(member.read(), dtype).reshape(shape)
    return arrays


def _read_npy_header(member: IO[bytes], name: str) -> tuple[int, ...]:
    """Read a header, check the dtype and return the shape, which is not yet validated."""
    if member.read(8) != b"\x93NUMPY\x01\x00":
        raise InputError(f"{name!r} has an unsupported .npy version")
    n_bytes = int.from_bytes(member.read(2), "little")
    header = _NPY_HEADER.fullmatch(member.read(min(n_bytes, MAX_HEADER_BYTES)))
    if header is None:
        raise InputError(f"{name!r} has an invalid .npy header")
    dtype, shape = (group.decode("ascii", "replace") for group in header.groups())
    if dtype != _ARRAY_SPECS[name][0]:
        raise InputError(f"{name!r} has dtype {dtype}, expected {_ARRAY_SPECS[name][0]}")
    return tuple(int(length) for length in shape.split(",") if length.strip())


def _check_shape(name: str, shape: tuple[int, ...], n_frames: int | None) -> None:
    expected = _ARRAY_SPECS[name][1]
    frames = range(1, MAX_FRAMES + 1) if n_frames is None else (n_frames,)
    allowed = {None: frames, -1: range(MAX_FRAMES + 1)}
    if len(shape) != len(expected) or not all(
        length in allowed.get(want, (want,))
        for length, want in zip(shape, expected, strict=True)
    ):
        raise InputError(f"{name!r} has invalid shape {shape}")


def _validate_poses(arrays: dict[str, Array]) -> Poses:
    """Build poses from arrays of validated shapes, after checking their values."""
    if arrays["schema"] != SCHEMA:
        raise InputError(f"unsupported schema {arrays['schema']}, expected {SCHEMA}")
    keypoints, times_s, fps = arrays["keypoints"], arrays["times_s"], float(arrays["fps"])
    n_frames, size = len(keypoints), arrays["size"]
    cuts = arrays.get("cuts", np.zeros(0, np.int64))
    interval_s = float(arrays["frame_interval_s"]) if "frame_interval_s" in arrays else None
    source_times_s = arrays.get("source_times_s")
    problems = {
        "keypoints contain NaN or infinity": not np.isfinite(keypoints).all(),
        "a keypoint coordinate exceeds 1e6 px": (np.abs(keypoints) > MAX_COORDINATE_PX).any(),
        "a score is not in 0..1": ((keypoints[..., 2] < 0) | (keypoints[..., 2] > 1)).any(),
        f"invalid fps {fps}": not 0 < fps <= MAX_FPS,
        f"invalid size {size.tolist()}": ((size < 1) | (size > MAX_SIDE_PX)).any(),
        "cuts do not increase within the clip": (np.diff(cuts, prepend=0) <= 0).any()
        or (cuts >= n_frames).any(),
        f"invalid frame_interval_s {interval_s}": interval_s is not None
        and not 0 < interval_s <= 3600,
        "source_times_s decrease or are far from times_s": source_times_s is not None
        and not _are_source_times(source_times_s, times_s),
    }  # fmt: skip
    for problem, has_problem in problems.items():
        if has_problem:
            raise InputError(problem)
    if not np.allclose(times_s, np.arange(n_frames) / fps, rtol=0, atol=1e-3):
        raise InputError("times_s is not equal to frame / fps")
    width, height = size.tolist()
    return Poses(
        keypoints=keypoints,
        times_s=times_s,
        fps=fps,
        size=(width, height),
        interpolated=arrays["interpolated"],
        cuts=cuts,
        frame_interval_s=interval_s,
        source_times_s=source_times_s,
    )


def _are_source_times(source_times_s: Array, times_s: Array) -> bool:
    """Return whether source times do not decrease and stay within an hour of the poses."""
    ages_s = times_s - source_times_s
    return bool((np.diff(source_times_s) >= 0).all() and (np.abs(ages_s) <= 3600).all())
