"""The published data set with all its flaws, made up small."""

import struct
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import RunLoris

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
from loris_cli.dataset.records import Record
from loris_cli.errors import InputError
from loris_cli.soundtrack.visual_features import read_visual_npz

RATE_HZ = 22_050
EVENT = "-_Ab_efgh_k_000100_000190"


def write_tone(path: Path, duration_s: float = 1.0, *, rate_hz: int = RATE_HZ) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    times_s = np.arange(round(duration_s * rate_hz)) / rate_hz
    tones = 0.3 * np.sin(2 * np.pi * 220 * times_s) * (1 + (times_s % 0.5 < 0.1))
    soundfile.write(path, tones, rate_hz)
    return path


def write_walk(path: Path, n_frames: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    raw = np.full((n_frames, 17, 3), 0.9, np.float32)
    raw[..., 0] = np.arange(n_frames)[:, None]  # the performer moves a pixel a frame
    raw[..., 1] = np.arange(17) * 10
    np.save(path, raw)
    return path


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """Two cameras of a dance (with one sound), a floor exercise, a skater, authors' lists."""
    root = tmp_path / "LORIS"
    for camera in ("c01", "c02"):
        name = f"gBR_sFM_{camera}_d04_mBR0_ch01"
        write_tone(root / f"dance/audio_s25/{name}.wav")
        write_walk(root / f"dance/pose2d_s25/{name}.npy", 30)  # 30 a second, on a clip of 1 s
    write_tone(root / f"fe/audio_s50/{EVENT}_seg0.wav", rate_hz=16_000)
    write_walk(root / f"fe/pose2d_s50/{EVENT}.npy", 16)  # the suffix is missing, D9
    np.save(write_walk(root / f"fe/i3d_s50/{EVENT}_seg0.npy", 2), np.ones((2, 1, 1024)))
    write_tone(root / "fs/audio_s25/417_seg2.wav")
    lists = root / "data/dance"
    lists.mkdir(parents=True)
    for side, camera in (("train", "c01"), ("test", "c02")):
        entry = f"yourpath/dataset/LORIS/dance/audio_s25/gBR_sFM_{camera}_d04_mBR0_ch01.wav\n"
        (lists / f"dance_audio_s25_{side}_segment.txt").write_text(entry)
    return root


def import_release(release: Path, data: Path) -> list[Record]:
    """Import a release whose clips last a second."""
    for task in list_released_clips(release, data):
        prepare_source(replace(task, segment=replace(task.segment, duration_s=1.0)))
    return build_manifest(data)


def test_a_release_becomes_a_data_set(release: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    rows = {row["id"]: row for row in import_release(release, data)}

    first, second = (rows[f"gBR_sFM_c0{k}_d04_mBR0_ch01-da25"] for k in (1, 2))
    assert (first["official_partition"], second["official_partition"]) == ("train", "test")
    assert first["partition"] == second["partition"]  # one performance: the official lists leak
    assert first["genre"] == "break"
    floor = rows[f"{EVENT}_seg0-fe50"]
    assert floor["poses"]
    assert floor["groups"] == ["video:-_Ab_efgh_k"]
    with np.load(data / floor["visual"]["i3d"]) as arrays:
        assert arrays["features"].shape == (2, 1024)
    assert not rows["417_seg2-fs25"]["poses"]
    assert [row.subset for row in compute_subset_stats(data)] == ["da25", "fe50", "fs25"]
    assert list(find_problems(data)) == []
    pose_features = read_pose_features(
        data, next(c for c in read_manifest(data) if c.subset == "fe50")
    )
    assert pose_features is not None
    assert pose_features.keypoints is not None
    assert pose_features.keypoints.shape == (16, 17, 3)


@pytest.mark.parametrize(
    ("folders", "encoders"),
    [
        (["i3d_s50"], {"i3d"}),
        (["i3d_kinetics_s50", "i3d_charades_s50"], {"i3d-kinetics", "i3d-charades"}),
        (["i3d_s50/rgb_imagenet", "i3d_s50/rgb_charades"], {"i3d-kinetics", "i3d-charades"}),
        (["i3d_s50", "charades/i3d_s50"], {"i3d", "i3d-charades"}),
    ],
)
def test_features_are_kept_apart_by_what_their_network_was_trained_on(
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
def test_poses_of_any_rate_keep_their_time(n_frames: int, tmp_path: Path) -> None:
    found = read_release_poses(write_walk(tmp_path / "a.npy", n_frames), 1.0)
    expected = np.minimum(np.arange(16) / 16 * n_frames, n_frames - 1)
    np.testing.assert_allclose(found.keypoints[:, 0, 0], expected, rtol=1e-5)


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
)
def test_what_is_no_pose_is_refused(array: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(InputError, match=r"a\.npy"):
        read_release_poses(tmp_path / "a.npy", 1.0)


def test_sound_is_cut_and_filled_to_its_clip(tmp_path: Path) -> None:
    short, length_s = read_release_audio(
        write_tone(tmp_path / "a.wav", 0.5, rate_hz=44_100), 1.0
    )
    assert short.shape == (RATE_HZ,)
    assert length_s == 0.5
    assert not short[RATE_HZ * 3 // 4 :].any()
    assert read_release_audio(write_tone(tmp_path / "b.wav", 1.4), 1.0)[0].shape == (RATE_HZ,)


def test_a_bad_clip_fails_alone_and_is_told(tmp_path: Path) -> None:
    path = tmp_path / "dance/audio_s25/holiday.wav"
    write_tone(path)
    (task,) = list_released_clips(tmp_path, tmp_path / "data")
    record = prepare_source(task)
    assert record["status"] == "failed"
    assert "not a name of the published data set" in record["error"]


def test_a_tree_without_clips_is_refused(tmp_path: Path, loris: RunLoris) -> None:
    (tmp_path / "empty").mkdir()
    result = loris("dataset", "import", tmp_path / "empty", "--data", tmp_path / "data")
    assert result.exit_code == 4
    assert "no clips of the published data set" in result.stderr


def test_a_link_out_of_the_tree_is_refused(release: Path, tmp_path: Path) -> None:
    (release / "fs/audio_s25/418_seg0.wav").symlink_to(write_tone(tmp_path / "away.wav"))
    with pytest.raises(InputError, match="link out of"):
        list_released_clips(release, tmp_path / "data")


def test_an_archive_is_unpacked_and_found(release: Path, tmp_path: Path) -> None:
    packed = tmp_path / "packed"
    (packed / "dance").mkdir(parents=True)
    with zipfile.ZipFile(packed / "dance/audio_s25.zip", "w") as archive:
        for path in (release / "dance/audio_s25").iterdir():
            archive.write(path, path.name)
    data = tmp_path / "data"

    assert {task.segment.subset for task in list_released_clips(packed, data)} == {"da25"}


def split_archive(archive_path: Path, folder: Path, *, n_volumes: int) -> Path:
    """The archive in volumes, as `zip -s` leaves it: places count from each volume's start."""
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
    path = tmp_path / "whole.zip"
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for k in range(6):
            archive.writestr(f"fs/{k}.bin", rng.bytes(2000 + k))
    return path


@pytest.mark.parametrize("n_volumes", [2, 3, 12])
def test_volumes_are_joined(n_volumes: int, archive_path: Path, tmp_path: Path) -> None:
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


def test_a_missing_volume_is_named(archive_path: Path, tmp_path: Path) -> None:
    last = split_archive(archive_path, tmp_path, n_volumes=4)
    (tmp_path / "split.z02").unlink()
    with pytest.raises(InputError, match=r"lacks its volume \.z02"):
        unpack_archive(last, tmp_path / "out")
    (tmp_path / "split.z01").unlink()
    (tmp_path / "split.z03").unlink()
    with pytest.raises(InputError, match=r"damaged|4 volumes"):
        unpack_archive(last, tmp_path / "out")


@pytest.mark.parametrize("name", ["../out.wav", "/etc/out.wav", "a/../../out.wav", "C:/x"])
def test_no_name_in_an_archive_leads_out(name: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(name, "x")
    with pytest.raises(InputError, match="leaves the folder"):
        unpack_archive(tmp_path / "a.zip", tmp_path / "deep/out")
    assert not list(tmp_path.rglob("out.wav"))


def test_a_link_in_an_archive_is_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("link.wav")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(InputError, match="leaves the folder"):
        unpack_archive(tmp_path / "a.zip", tmp_path / "out")


def test_a_bomb_is_refused_before_it_goes_off(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.wav", bytes(10_000_000))
    with pytest.raises(InputError, match="times its size"):
        unpack_archive(tmp_path / "a.zip", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_damaged_archive_is_refused(archive_path: Path, tmp_path: Path) -> None:
    content = bytearray(archive_path.read_bytes())
    content[500] ^= 0xFF
    archive_path.write_bytes(content)
    with pytest.raises(InputError, match="damaged"):
        unpack_archive(archive_path, tmp_path / "out")
    (tmp_path / "none.zip").write_bytes(struct.pack("<4s", b"PK\x05\x06"))
    with pytest.raises(InputError, match="damaged"):
        unpack_archive(tmp_path / "none.zip", tmp_path / "out")
