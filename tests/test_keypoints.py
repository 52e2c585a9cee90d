"""The poses file: a round trip, and files that are refused."""

import io
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loris_cli.errors import InputError
from loris_cli.pose.keypoints import MAX_FRAMES, Poses, read_poses, write_poses

FRAMES = 12
Arrays = dict[str, Any]


def some_poses() -> Poses:
    rng = np.random.default_rng(0)
    keypoints = rng.uniform(0, 1, (FRAMES, 17, 3)).astype(np.float32)
    keypoints[..., :2] *= 300
    return Poses(
        keypoints=keypoints,
        times_s=np.arange(FRAMES) / 16.0,
        fps=16.0,
        size=(320, 240),
        interpolated=np.arange(FRAMES) % 5 == 0,
        cuts=np.array([4, 9]),
        frame_interval_s=1 / 30,
    )


def arrays_of(poses: Poses) -> Arrays:
    arrays = {field.name: getattr(poses, field.name) for field in fields(poses)}
    return {
        **arrays,
        "schema": np.int64(2),
        "size": np.array(poses.size, np.int64),
        "fps": np.float64(poses.fps),
        "frame_interval_s": np.float64(poses.frame_interval_s or 1),
    }


def save(path: Path, **changes: Any) -> Path:
    """A poses file with arrays changed; None leaves one out."""
    arrays = {**arrays_of(some_poses()), **changes}
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


def changed(name: str, index: Any, value: float) -> Arrays:
    array = np.array(arrays_of(some_poses())[name])
    array[index] = value
    return {name: array}


def test_poses_come_back_as_they_were_written(tmp_path: Path) -> None:
    poses = some_poses()
    write_poses(tmp_path / "a.npz", poses)

    again = read_poses(tmp_path / "a.npz")

    for field in fields(Poses):
        np.testing.assert_array_equal(getattr(again, field.name), getattr(poses, field.name))
    assert again.keypoints.dtype == np.float32
    assert again.interpolated.dtype == bool
    assert again.size == (320, 240)


def test_poses_without_what_is_optional_come_back(tmp_path: Path) -> None:
    again = read_poses(save(tmp_path / "a.npz", cuts=None, frame_interval_s=None))

    assert again.frame_interval_s is None
    assert len(again.cuts) == 0


def test_a_compressed_file_is_read_too(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", **arrays_of(some_poses()))

    assert read_poses(tmp_path / "a.npz").n_frames == FRAMES


def test_equal_poses_give_equal_bytes(tmp_path: Path) -> None:
    write_poses(tmp_path / "a.npz", some_poses())
    write_poses(tmp_path / "b.npz", some_poses())

    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_the_order_of_an_array_in_memory_is_nobodys_business(tmp_path: Path) -> None:
    poses = some_poses()
    write_poses(tmp_path / "a.npz", poses)
    write_poses(
        tmp_path / "b.npz", replace(poses, keypoints=np.asfortranarray(poses.keypoints))
    )

    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_seen_share_counts_frames_that_are_not_filled_in() -> None:
    assert some_poses().detected_fraction == 9 / 12
    assert replace(some_poses(), interpolated=np.ones(FRAMES, bool)).detected_fraction == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"keypoints": None}, "no array 'keypoints'"),
        ({"schema": None}, "no array 'schema'"),
        ({"schema": np.int64(1)}, "schema 1"),
        ({"more": np.zeros(3)}, "unknown array 'more'"),
        ({"keypoints": np.zeros((FRAMES, 18, 3), np.float32)}, "shape"),
        ({"keypoints": np.zeros((FRAMES, 17), np.float32)}, "shape"),
        ({"keypoints": np.zeros((FRAMES - 1, 17, 3), np.float32)}, "shape"),
        ({"keypoints": np.zeros((FRAMES, 17, 3))}, "holds <f8"),
        ({"keypoints": np.zeros((FRAMES, 17, 3), complex)}, "holds <c16"),
        ({"interpolated": np.zeros(FRAMES, np.int8)}, "holds .i1"),
        (changed("keypoints", (3, 2, 0), np.nan), "not a number"),
        (changed("keypoints", (3, 2, 1), np.inf), "not a number"),
        (changed("keypoints", (3, 2, 0), 1e9), "far away"),
        (changed("keypoints", (3, 2, 2), 1.5), "score"),
        (changed("times_s", 5, 0.0), "times"),
        (changed("times_s", 5, np.nan), "times"),
        (changed("times_s", slice(None), 9.0), "times"),
        ({"fps": np.float64(0)}, "fps"),
        ({"fps": np.float64("nan")}, "fps"),
        ({"size": np.array([0, 240])}, "size"),
        ({"size": np.array([320, 10**9])}, "size"),
        ({"cuts": np.array([4, 4])}, "cuts"),
        ({"cuts": np.array([FRAMES])}, "cuts"),
        ({"frame_interval_s": np.float64("inf")}, "frame_interval_s"),
    ],
)
def test_wrong_arrays_are_refused_with_a_hint(
    tmp_path: Path, changes: Arrays, message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read_poses(save(tmp_path / "a.npz", **changes))

    assert "loris pose" in caught.value.hint


def test_no_frames_are_no_poses(tmp_path: Path) -> None:
    empty = {
        name: array[:0]
        for name, array in arrays_of(some_poses()).items()
        if name in ("keypoints", "times_s", "interpolated", "cuts")
    }

    with pytest.raises(InputError, match="shape"):
        read_poses(save(tmp_path / "a.npz", **empty))


class UnsafePickle:
    """Unpickling it would leave a mark."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return (exec, ("import sys; sys.sprung = True",))


def test_a_pickle_is_refused_and_never_run(tmp_path: Path) -> None:
    trap = np.array([UnsafePickle()] * FRAMES, dtype=object)

    with pytest.raises(InputError):
        read_poses(save(tmp_path / "a.npz", times_s=trap))

    assert not hasattr(sys, "sprung")


def header(shape: str, descr: str = "'<f4'") -> str:
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}"


def npy(text: str) -> bytes:
    line = text.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(line).to_bytes(2, "little") + line


@pytest.mark.parametrize(
    "member",
    [
        npy(header(f"({10**15}, 17, 3)")),
        npy(header("(-1, 17, 3)")),
        npy(header("(12, 17, 3)")),
        npy(header("()")),
        npy("{'descr': '<f4', 'fortran_order': False, }"),
        npy("(" * 50),
        npy("-" * 900),
        npy(header("(1 2, 17, 3)")),
        npy(header("(12, 17, 3)", "[('x', '<f4')]")),
        b"\x93NUMPY\x09\x00",
        b"\x93NUM",
        b"",
    ],
)
def test_headers_that_lie_are_refused(tmp_path: Path, member: bytes) -> None:
    path = save(tmp_path / "a.npz", keypoints=None)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("keypoints.npy", member)

    with pytest.raises(InputError):
        read_poses(path)


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npz", keypoints=None)
    with (
        zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive,
        archive.open("keypoints.npy", "w", force_zip64=True) as member,
    ):
        member.write(npy(header(f"({MAX_FRAMES + 1}, 17, 3)")))
        for _ in range(270):
            member.write(bytes(2**20))

    assert path.stat().st_size < 2**20
    with pytest.raises(InputError, match="shape"):
        read_poses(path)


def test_an_array_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npz")
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr("fps.npy", b"")

    with pytest.raises(InputError, match="twice"):
        read_poses(path)


@pytest.mark.parametrize("cut", [0, 1, 100, 1000, -1, -30])
def test_a_file_cut_short_is_refused(tmp_path: Path, cut: int) -> None:
    path = save(tmp_path / "a.npz")
    path.write_bytes(path.read_bytes()[:cut])

    with pytest.raises(InputError):
        read_poses(path)


def test_any_damaged_byte_is_refused_or_harmless(tmp_path: Path) -> None:
    write_poses(tmp_path / "a.npz", some_poses())
    good = (tmp_path / "a.npz").read_bytes()
    rng = np.random.default_rng(1)
    for position in rng.integers(0, len(good), 300).tolist():
        damaged = bytearray(good)
        damaged[position] ^= int(rng.integers(1, 256))
        (tmp_path / "b.npz").write_bytes(damaged)
        try:
            poses = read_poses(tmp_path / "b.npz")
        except InputError:
            continue
        np.testing.assert_array_equal(poses.keypoints, some_poses().keypoints)


def test_a_bare_npy_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(3))
    (tmp_path / "a.npz").write_bytes(buffer.getvalue())

    with pytest.raises(InputError, match="not a poses file"):
        read_poses(tmp_path / "a.npz")
    with pytest.raises(InputError, match="cannot be read"):
        read_poses(tmp_path / "b.npz")


def test_reading_poses_needs_numpy_only() -> None:
    code = (
        "import sys; import loris_cli.pose.keypoints;"
        "print({'cv2', 'ai_edge_litert', 'torch', 'av'} & set(sys.modules))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )

    assert out.stdout.strip() == "set()"
