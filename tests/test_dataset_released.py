"""Import of the published data set, from a small copy with its irregularities, and archives."""

import re
import struct
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import RunLoris

from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.dataset import archives
from loris_cli.dataset.archives import unpack_archive
from loris_cli.dataset.build_manifest import build_manifest
from loris_cli.dataset.import_release import (
    list_released_clips,
    read_release_audio,
    read_release_poses,
)
from loris_cli.dataset.inspection import compute_subset_stats, find_problems
from loris_cli.dataset.manifest import read_manifest
from loris_cli.dataset.prepare_video import prepare_source
from loris_cli.dataset.read_clips import read_pose_features
from loris_cli.dataset.records import Record, read_records
from loris_cli.errors import InputError
from loris_cli.soundtrack.visual_features import read_visual_npz

EVENT = "-_Ab_efgh_k_000100_000190"
"""Name of a floor exercise in FineGym."""


def write_tone(path: Path, duration_s: float = 1.0, *, rate_hz: int = SAMPLE_RATE_HZ) -> Path:
    """Write a sine that is louder in the first 0.1 s of each half second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    times_s = np.arange(round(duration_s * rate_hz)) / rate_hz
    samples = 0.3 * np.sin(2 * np.pi * 220 * times_s) * (1 + (times_s % 0.5 < 0.1))
    soundfile.write(path, samples, rate_hz)
    return path


def write_moving_poses(path: Path, n_frames: int) -> Path:
    """Write released keypoints, ``(frames, 17, 3)``, that move right by 1 px per frame."""
    path.parent.mkdir(parents=True, exist_ok=True)
    raw = np.full((n_frames, 17, 3), 0.9, np.float32)
    raw[..., 0] = np.arange(n_frames)[:, None]
    raw[..., 1] = np.arange(17) * 10
    np.save(path, raw)
    return path


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """Two camera views of a dance, a floor exercise, a skating clip, and partition lists."""
    root = tmp_path / "LORIS"
    for camera in ("c01", "c02"):
        name = f"gBR_sFM_{camera}_d04_mBR0_ch01"
        write_tone(root / f"dance/audio_s25/{name}.wav")
        write_moving_poses(root / f"dance/pose2d_s25/{name}.npy", 30)
    write_tone(root / f"fe/audio_s50/{EVENT}_seg0.wav", rate_hz=16_000)
    write_moving_poses(root / f"fe/pose2d_s50/{EVENT}.npy", 16)  # without the suffix, D9
    features = root / f"fe/i3d_s50/{EVENT}_seg0.npy"
    features.parent.mkdir(parents=True)
    np.save(features, np.ones((2, 1, 1024)))
    write_tone(root / "fs/audio_s25/417_seg2.wav")
    lists = root / "data/dance"
    lists.mkdir(parents=True)
    for partition, camera in (("train", "c01"), ("test", "c02")):
        entry = f"yourpath/dataset/LORIS/dance/audio_s25/gBR_sFM_{camera}_d04_mBR0_ch01.wav\n"
        (lists / f"dance_audio_s25_{partition}_segment.txt").write_text(entry)
    return root


def import_release(release: Path, data: Path) -> list[Record]:
    """Import a release with clips of 1 s."""
    for task in list_released_clips(release, data):
        prepare_source(replace(task, segment=replace(task.segment, duration_s=1.0)))
    return build_manifest(data)


def test_a_release_is_imported_as_a_data_set(release: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    rows = {row["id"]: row for row in import_release(release, data)}

    first, second = (rows[f"gBR_sFM_c0{k}_d04_mBR0_ch01-da25"] for k in (1, 2))
    assert (first["official_partition"], second["official_partition"]) == ("train", "test")
    # Both views show one performance; the official lists separate them.
    assert first["partition"] == second["partition"]
    assert first["genre"] == "break"
    floor = rows[f"{EVENT}_seg0-fe50"]
    assert floor["poses"]
    assert floor["groups"] == ["video:-_Ab_efgh_k"]
    with np.load(data / floor["visual"]["i3d"]) as arrays:
        assert arrays["features"].shape == (2, 1024)
    assert not rows["417_seg2-fs25"]["poses"]
    assert [row.subset for row in compute_subset_stats(data)] == ["da25", "fe50", "fs25"]
    assert list(find_problems(data)) == []
    (clip,) = (clip for clip in read_manifest(data) if clip.subset == "fe50")
    poses = read_pose_features(data, clip)
    assert poses is not None
    assert poses.keypoints is not None
    np.testing.assert_array_equal(poses.keypoints[:, 0, 0], np.arange(16))


@pytest.mark.parametrize(
    ("folders", "encoders"),
    [
        (["i3d_s50"], {"i3d"}),
        (["i3d_kinetics_s50", "i3d_charades_s50"], {"i3d-kinetics", "i3d-charades"}),
        (["i3d_s50/rgb_imagenet", "i3d_s50/rgb_charades"], {"i3d-kinetics", "i3d-charades"}),
        (["i3d_s50", "charades/i3d_s50"], {"i3d", "i3d-charades"}),
    ],
)
def test_visual_features_are_named_after_the_training_set_of_i3d(
    folders: list[str], encoders: set[str], release: Path, tmp_path: Path
) -> None:
    (release / f"fe/i3d_s50/{EVENT}_seg0.npy").unlink()
    for number, folder in enumerate(folders):
        path = release / "fe" / folder / f"{EVENT}_seg0.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, np.full((2, 1024), number, np.float32))
    data = tmp_path / "data"
    import_release(release, data)

    (clip,) = (clip for clip in read_manifest(data) if clip.subset == "fe50")

    assert set(clip.visual) == encoders
    values = {
        read_visual_npz(data / path, duration_s=1.0)[0, 0] for path in clip.visual.values()
    }
    assert values == set(range(len(folders)))
    assert list(find_problems(data)) == []


@pytest.mark.parametrize("n_frames", [16, 15, 24, 30, 60])
def test_poses_of_any_rate_are_resampled_to_16_fps(n_frames: int, tmp_path: Path) -> None:
    poses = read_release_poses(write_moving_poses(tmp_path / "a.npy", n_frames), 1.0)
    expected = np.minimum(np.arange(16) / 16 * n_frames, n_frames - 1)
    np.testing.assert_allclose(poses.keypoints[:, 0, 0], expected, rtol=1e-5)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((20, 18, 3)),
        np.zeros((1, 17, 3)),
        np.full((20, 17, 3), np.nan),
        np.full((20, 17, 3), 1e9),
        np.array([{"a": 1}]),
        np.array(["text"]),
    ],
    ids=["18 joints", "one frame", "nan", "far away", "objects", "text"],
)
def test_invalid_pose_arrays_are_rejected(array: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(InputError, match=r"a\.npy"):
        read_release_poses(tmp_path / "a.npy", 1.0)


def test_short_audio_is_padded_to_the_clip_length(tmp_path: Path) -> None:
    path = write_tone(tmp_path / "a.wav", 0.5, rate_hz=44_100)
    samples, original_s = read_release_audio(path, 1.0)
    assert samples.shape == (SAMPLE_RATE_HZ,)
    assert original_s == 0.5
    assert samples[: SAMPLE_RATE_HZ // 2].std() > 0.1
    assert not samples[SAMPLE_RATE_HZ * 3 // 4 :].any()


def test_long_audio_is_trimmed_to_the_clip_length(tmp_path: Path) -> None:
    path = write_tone(tmp_path / "a.wav", 1.4)
    samples, original_s = read_release_audio(path, 1.0)
    assert original_s == pytest.approx(1.4)
    expected, _ = soundfile.read(path, SAMPLE_RATE_HZ, dtype="float32")
    np.testing.assert_array_equal(samples, expected)


def test_a_clip_with_an_unknown_name_fails_alone(release: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_tone(release / "dance/audio_s25/holiday.wav")

    ids = {row["id"] for row in import_release(release, data)}

    assert ids == {
        "gBR_sFM_c01_d04_mBR0_ch01-da25",
        "gBR_sFM_c02_d04_mBR0_ch01-da25",
        f"{EVENT}_seg0-fe50",
        "417_seg2-fs25",
    }
    (record,) = (record for record in read_records(data) if record["status"] == "failed")
    assert "holiday.wav" in record["error"]


def test_a_folder_without_clips_is_rejected(tmp_path: Path, loris: RunLoris) -> None:
    release, data = tmp_path / "empty", tmp_path / "data"
    release.mkdir()
    result = loris("dataset", "import", release, "--data", data)
    assert result.exit_code == 4
    assert str(release) in result.stderr
    assert not data.exists()


def test_a_link_to_a_file_outside_the_release_is_rejected(
    release: Path, tmp_path: Path
) -> None:
    (release / "fs/audio_s25/418_seg0.wav").symlink_to(write_tone(tmp_path / "outside.wav"))
    with pytest.raises(InputError, match=r"418_seg0\.wav"):
        list_released_clips(release, tmp_path / "data")


def test_clips_of_a_release_are_listed_from_its_archives(release: Path, tmp_path: Path) -> None:
    packed = tmp_path / "packed"
    (packed / "dance").mkdir(parents=True)
    originals = sorted((release / "dance/audio_s25").iterdir())
    with zipfile.ZipFile(packed / "dance/audio_s25.zip", "w") as archive:
        for path in originals:
            archive.write(path, path.name)

    tasks = list_released_clips(packed, tmp_path / "data")

    assert [task.segment.subset for task in tasks] == ["da25", "da25"]
    assert [(task.source_path.name, task.source_path.read_bytes()) for task in tasks] == [
        (path.name, path.read_bytes()) for path in originals
    ]


def split_archive(archive_path: Path, folder: Path, *, n_volumes: int) -> Path:
    """Split an archive as `zip -s` does: offsets are relative to the start of each volume."""
    content = bytearray(archive_path.read_bytes())
    end_at = content.rfind(b"PK\x05\x06")
    end = list(archives.END_RECORD.unpack_from(content, end_at))
    size = len(content) // n_volumes + 1
    position = end[6]
    for _ in range(end[4]):
        entry = list(archives.DIRECTORY_ENTRY.unpack_from(content, position))
        entry[13], entry[16] = divmod(entry[16], size)
        archives.DIRECTORY_ENTRY.pack_into(content, position, *entry)
        position += archives.DIRECTORY_ENTRY.size + entry[10] + entry[11] + entry[12]
    end[1] = n_volumes - 1
    end[2], end[6] = divmod(end[6], size)
    archives.END_RECORD.pack_into(content, end_at, *end)
    for k in range(n_volumes):
        suffix = ".zip" if k == n_volumes - 1 else f".z{k + 1:02d}"
        (folder / f"split{suffix}").write_bytes(content[k * size : (k + 1) * size])
    return folder / "split.zip"


@pytest.fixture
def archive_path(tmp_path: Path) -> Path:
    """Archive of six files with random bytes."""
    path = tmp_path / "whole.zip"
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for k in range(6):
            archive.writestr(f"fs/{k}.bin", rng.bytes(2000 + k))
    return path


@pytest.mark.parametrize("n_volumes", [2, 3, 12])
def test_a_split_archive_is_unpacked_like_the_whole_archive(
    n_volumes: int, archive_path: Path, tmp_path: Path
) -> None:
    volumes = tmp_path / "volumes"
    volumes.mkdir()
    last = split_archive(archive_path, volumes, n_volumes=n_volumes)

    assert unpack_archive(last, tmp_path / "out") == 6
    unpack_archive(archive_path, tmp_path / "expected")
    for k in range(6):
        name = f"fs/{k}.bin"
        expected = (tmp_path / "expected" / name).read_bytes()
        assert (tmp_path / "out" / name).read_bytes() == expected
    assert not list(volumes.glob(".loris-*"))


@pytest.mark.parametrize(
    ("missing", "value"),
    [
        ([2], r"\.z02"),
        ([3], r"split\.zip.*\b4\b.*\b3\b"),  # expected and found volumes
        ([1, 2, 3], r"split\.zip"),
    ],
    ids=["middle", "last but one", "all but the last"],
)
def test_an_archive_with_a_missing_volume_is_rejected(
    missing: list[int], value: str, archive_path: Path, tmp_path: Path
) -> None:
    last = split_archive(archive_path, tmp_path, n_volumes=4)
    for number in missing:
        (tmp_path / f"split.z{number:02d}").unlink()
    with pytest.raises(InputError, match=value):
        unpack_archive(last, tmp_path / "out")
    assert not list((tmp_path / "out").rglob("*.bin"))


@pytest.mark.parametrize("name", ["../out.wav", "/etc/out.wav", "a/../../out.wav", "C:/x"])
def test_members_outside_the_target_folder_are_rejected(name: str, tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, "x")
    with pytest.raises(InputError, match=re.escape(name)):
        unpack_archive(path, tmp_path / "deep/out")
    assert list(tmp_path.rglob("*")) == [path]


def test_a_link_in_an_archive_is_rejected(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("link.wav")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(InputError, match=r"link\.wav"):
        unpack_archive(tmp_path / "a.zip", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_zip_bomb_is_rejected_before_it_is_unpacked(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.wav", bytes(1_000_000))
    with pytest.raises(InputError, match=r"a\.wav"):
        unpack_archive(tmp_path / "a.zip", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_damaged_archive_is_rejected(archive_path: Path, tmp_path: Path) -> None:
    content = bytearray(archive_path.read_bytes())
    content[500] ^= 0xFF
    archive_path.write_bytes(content)
    with pytest.raises(InputError, match=r"whole\.zip.*damaged"):
        unpack_archive(archive_path, tmp_path / "out")
    assert not list((tmp_path / "out").rglob("*.bin"))
    (tmp_path / "empty.zip").write_bytes(struct.pack("<4s", b"PK\x05\x06"))
    with pytest.raises(InputError, match=r"empty\.zip.*damaged"):
        unpack_archive(tmp_path / "empty.zip", tmp_path / "out")
