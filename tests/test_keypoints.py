"""Pose files: round trips, and invalid files that are refused."""

import io
import subprocess
import sys
import tracemalloc
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import make_poses

from loris_cli.errors import InputError
from loris_cli.pose import keypoints
from loris_cli.pose.keypoints import Poses, read_poses, write_poses

pytestmark = pytest.mark.numpy1

N_FRAMES = 12
Arrays = dict[str, Any]


def make_random_poses() -> Poses:
    points = np.random.default_rng(0).uniform(0, 1, (N_FRAMES, 17, 3))
    return make_poses(
        points * [300, 300, 1],
        size=(320, 240),
        interpolated=np.arange(N_FRAMES) % 5 == 0,
        cuts=[4, 9],
        frame_interval_s=1 / 30,
        source_times_s=np.floor(np.arange(N_FRAMES) / 16 * 30) / 30,
    )


def make_file_arrays() -> Arrays:
    """Arrays of a valid pose file."""
    poses = make_random_poses()
    arrays = {field.name: getattr(poses, field.name) for field in fields(poses)}
    return {
        **arrays,
        "schema": np.int64(2),
        "size": np.array(poses.size, np.int64),
        "fps": np.float64(poses.fps),
        "frame_interval_s": np.float64(1 / 30),
    }


def write_pose_file(path: Path, **changes: Any) -> Path:
    """Write a valid pose file with changed arrays; None omits an array."""
    arrays = {**make_file_arrays(), **changes}
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


def change_element(name: str, index: Any, value: float) -> Arrays:
    """Return one array of a valid file with a changed element."""
    array = np.array(make_file_arrays()[name])
    array[index] = value
    return {name: array}


ALL_FIELDS = tuple(field.name for field in fields(Poses))
REQUIRED_FIELDS = ("keypoints", "times_s", "fps", "size", "interpolated")


def check_equal_poses(poses: Poses, expected: Poses, names: Sequence[str] = ALL_FIELDS) -> None:
    for name in names:
        np.testing.assert_array_equal(getattr(poses, name), getattr(expected, name))


def test_written_poses_are_read_unchanged(tmp_path: Path) -> None:
    write_poses(tmp_path / "a.npz", make_random_poses())

    poses = read_poses(tmp_path / "a.npz")

    check_equal_poses(poses, make_random_poses())
    assert poses.keypoints.dtype == np.float32
    assert poses.interpolated.dtype == bool
    assert poses.size == (320, 240)


def test_optional_arrays_can_be_absent(tmp_path: Path) -> None:
    absent = {"cuts": None, "frame_interval_s": None, "source_times_s": None}
    poses = read_poses(write_pose_file(tmp_path / "a.npz", **absent))

    expected = replace(
        make_random_poses(), cuts=np.zeros(0), frame_interval_s=None, source_times_s=None
    )
    check_equal_poses(poses, expected)


def test_compressed_file_is_read(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", **make_file_arrays())

    check_equal_poses(read_poses(tmp_path / "a.npz"), make_random_poses())


def test_equal_poses_are_written_as_equal_bytes(tmp_path: Path) -> None:
    write_poses(tmp_path / "a.npz", make_random_poses())
    write_poses(tmp_path / "b.npz", make_random_poses())

    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_memory_order_of_keypoints_does_not_change_the_file(tmp_path: Path) -> None:
    poses = make_random_poses()
    write_poses(tmp_path / "a.npz", poses)
    write_poses(
        tmp_path / "b.npz", replace(poses, keypoints=np.asfortranarray(poses.keypoints))
    )

    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_detected_fraction_excludes_interpolated_frames() -> None:
    poses = make_random_poses()

    assert poses.detected_fraction == 9 / 12
    assert replace(poses, interpolated=np.ones(N_FRAMES, bool)).detected_fraction == 0


EMPTY_ARRAYS: Arrays = {
    "keypoints": np.zeros((0, 17, 3), np.float32),
    "times_s": np.zeros(0),
    "interpolated": np.zeros(0, bool),
    "cuts": np.zeros(0, np.int64),
}


@pytest.mark.parametrize(
    ("changes", "value"),
    [
        pytest.param({"keypoints": None}, "'keypoints'", id="no keypoints"),
        pytest.param({"schema": None}, "'schema'", id="no schema"),
        pytest.param({"schema": np.int64(1)}, r"schema\D*1\b", id="other schema"),
        pytest.param({"more": np.zeros(3)}, "'more'", id="unknown array"),
        pytest.param(
            {"keypoints": np.zeros((N_FRAMES, 18, 3), np.float32)},
            r"\(12, 18, 3\)",
            id="18 joints",
        ),
        pytest.param(
            {"keypoints": np.zeros((N_FRAMES, 17), np.float32)},
            r"\(12, 17\)",
            id="no coordinates",
        ),
        pytest.param(
            {"keypoints": np.zeros((N_FRAMES - 1, 17, 3), np.float32)},
            r"'times_s'.*\(12,\)",
            id="fewer keypoints than times",
        ),
        pytest.param(EMPTY_ARRAYS, r"\(0, 17, 3\)", id="no frames"),
        pytest.param({"keypoints": np.zeros((N_FRAMES, 17, 3))}, "<f8", id="float64"),
        pytest.param({"keypoints": np.zeros((N_FRAMES, 17, 3), complex)}, "<c16", id="complex"),
        pytest.param({"interpolated": np.zeros(N_FRAMES, np.int8)}, r"\|i1", id="int8"),
        pytest.param(change_element("keypoints", (3, 2, 0), np.nan), "NaN", id="x NaN"),
        pytest.param(
            change_element("keypoints", (3, 2, 1), np.inf), "infinit", id="y infinite"
        ),
        pytest.param(change_element("keypoints", (3, 2, 0), 1e9), "1e6", id="x too large"),
        pytest.param(change_element("keypoints", (3, 2, 2), 1.5), "score", id="score above 1"),
        pytest.param(change_element("times_s", 5, 0.0), "times_s", id="repeated time"),
        pytest.param(change_element("times_s", 5, np.nan), "times_s", id="time NaN"),
        pytest.param(change_element("times_s", slice(None), 9.0), "times_s", id="equal times"),
        pytest.param({"fps": np.float64(0)}, r"fps 0\.0", id="fps 0"),
        pytest.param({"fps": np.float64("nan")}, "fps nan", id="fps NaN"),
        pytest.param({"size": np.array([0, 240])}, r"\[0, 240\]", id="width 0"),
        pytest.param({"size": np.array([320, 10**9])}, "1000000000", id="height too large"),
        pytest.param({"cuts": np.array([4, 4])}, "cuts", id="repeated cut"),
        pytest.param({"cuts": np.array([N_FRAMES])}, "cuts", id="cut after the end"),
        pytest.param(
            {"frame_interval_s": np.float64("inf")}, "frame_interval_s", id="interval infinite"
        ),
        pytest.param(change_element("source_times_s", 5, 0.0), "source", id="source falls"),
        pytest.param(change_element("source_times_s", 0, np.nan), "source", id="source NaN"),
    ],
)
def test_invalid_arrays_are_refused(tmp_path: Path, changes: Arrays, value: str) -> None:
    with pytest.raises(InputError, match=value) as raised:
        read_poses(write_pose_file(tmp_path / "a.npz", **changes))

    assert "`loris pose VIDEO`" in raised.value.hint


class UnsafePickle:
    """Object whose unpickling leaves an attribute in ``sys``."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return (exec, ("import sys; sys.was_unpickled = True",))


def test_pickled_array_is_refused_without_unpickling(tmp_path: Path) -> None:
    unsafe = np.array([UnsafePickle()] * N_FRAMES, dtype=object)

    with pytest.raises(InputError, match="'times_s'"):
        read_poses(write_pose_file(tmp_path / "a.npz", times_s=unsafe))

    assert not hasattr(sys, "was_unpickled")


def make_header(shape: str, descr: str = "'<f4'") -> str:
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}"


def make_npy(header: str) -> bytes:
    """Return the start of a .npy file, without data."""
    line = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(line).to_bytes(2, "little") + line


def write_with_keypoints_member(path: Path, member: bytes) -> Path:
    """Write a valid pose file whose file of keypoints has the given content."""
    write_pose_file(path, keypoints=None)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("keypoints.npy", member)
    return path


def test_header_without_padding_is_accepted(tmp_path: Path) -> None:
    points = make_random_poses().keypoints
    member = make_npy(make_header("(12, 17, 3)")) + points.tobytes()

    poses = read_poses(write_with_keypoints_member(tmp_path / "a.npz", member))

    np.testing.assert_array_equal(poses.keypoints, points)


INVALID_MEMBERS = {
    "huge shape": make_npy(make_header(f"({10**15}, 17, 3)")),
    "negative shape": make_npy(make_header("(-1, 17, 3)")),
    "no data": make_npy(make_header("(12, 17, 3)")),
    "scalar": make_npy(make_header("()")),
    "no shape": make_npy("{'descr': '<f4', 'fortran_order': False, }"),
    "open brackets": make_npy("(" * 50),
    "minus signs": make_npy("-" * 900),
    "record dtype": make_npy(make_header("(12, 17, 3)", "[('x', '<f4')]")),
    "npy version 9": b"\x93NUMPY\x09\x00",
    "truncated signature": b"\x93NUM",
    "empty": b"",
}


@pytest.mark.parametrize("member", INVALID_MEMBERS.values(), ids=INVALID_MEMBERS.keys())
def test_invalid_npy_headers_are_refused(tmp_path: Path, member: bytes) -> None:
    with pytest.raises(InputError, match="'keypoints'"):
        read_poses(write_with_keypoints_member(tmp_path / "a.npz", member))


def test_shape_without_comma_is_refused(tmp_path: Path) -> None:
    member = make_npy(make_header("(1 2, 17, 3)"))

    with pytest.raises(InputError, match=r"a\.npz") as raised:
        read_poses(write_with_keypoints_member(tmp_path / "a.npz", member))
    assert isinstance(raised.value.__cause__, ValueError)


def test_too_many_frames_are_refused_before_decompression(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keypoints, "MAX_FRAMES", 19_999)
    path = write_pose_file(tmp_path / "a.npz", keypoints=None)
    data = bytes(20_000 * 17 * 3 * 4)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("keypoints.npy", make_npy(make_header("(20000, 17, 3)")) + data)

    tracemalloc.start()
    with pytest.raises(InputError, match=r"\(20000, 17, 3\)"):
        read_poses(path)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak_bytes < len(data) / 4


def test_duplicate_array_is_refused(tmp_path: Path) -> None:
    path = write_pose_file(tmp_path / "a.npz")
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr("fps.npy", b"")

    with pytest.raises(InputError, match="duplicate"):
        read_poses(path)


@pytest.mark.parametrize("n_bytes", [0, 1, 100, 1000, -1, -30])
def test_truncated_file_is_refused(tmp_path: Path, n_bytes: int) -> None:
    path = write_pose_file(tmp_path / "a.npz")
    path.write_bytes(path.read_bytes()[:n_bytes])

    with pytest.raises(InputError, match=r"a\.npz"):
        read_poses(path)


def test_damaged_byte_is_detected_or_has_no_effect(tmp_path: Path) -> None:
    path, poses = tmp_path / "a.npz", make_random_poses()
    write_poses(path, poses)
    valid = path.read_bytes()
    rng = np.random.default_rng(1)
    n_detected = 0
    for position in rng.integers(0, len(valid), 300).tolist():
        damaged = bytearray(valid)
        damaged[position] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged)
        try:
            # A damaged directory of the archive can hide its last, optional arrays.
            check_equal_poses(read_poses(path), poses, REQUIRED_FIELDS)
        except InputError:
            n_detected += 1

    assert n_detected > 200


def test_single_npy_file_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(3))
    (tmp_path / "a.npz").write_bytes(buffer.getvalue())

    with pytest.raises(InputError, match=r"a\.npz") as raised:
        read_poses(tmp_path / "a.npz")
    assert isinstance(raised.value.__cause__, zipfile.BadZipFile)


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"missing\.npz") as raised:
        read_poses(tmp_path / "missing.npz")
    assert isinstance(raised.value.__cause__, FileNotFoundError)


def test_import_of_keypoints_loads_numpy_only() -> None:
    code = (
        "import sys; import loris_cli.pose.keypoints;"
        "print({'cv2', 'ai_edge_litert', 'torch', 'av'} & set(sys.modules))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )

    assert out.stdout.strip() == "set()"
