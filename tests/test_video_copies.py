"""Copies of a video: they count as one source, and other videos do not."""

import base64
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import RunLoris
from media import AUDIO_HZ

from loris_cli.dataset.manifest import read_manifest
from loris_cli.dataset.video_copies import compute_signature, group_copies
from loris_cli.pose.overlay import write_mp4
from loris_cli.video.ffmpeg_program import find_ffmpeg
from loris_cli.video.probe import probe_video

FPS, SIZE_PX = 8, (160, 120)


def write_dance(path: Path, seed: int, duration_s: float = 6.0) -> Path:
    """Write a video of a bright square that moves at random before one background."""
    rng = np.random.default_rng(seed)
    background = np.random.default_rng(99).integers(60, 120, (120, 160, 3)).astype(np.uint8)
    n_frames = round(duration_s * FPS)
    places = np.cumsum(rng.normal(0, 9, (n_frames, 2)), axis=0) + rng.uniform(20, 80, 2)
    frames = []
    for x, y in places.clip(0, (120, 80)).astype(int):
        frame = background.copy()
        frame[y : y + 40, x : x + 30] = 240
        frames.append(frame)
    write_mp4(path, frames, FPS, SIZE_PX)
    return path


def run_ffmpeg(source: Path, out: Path, *options: str) -> Path:
    command = [find_ffmpeg(), "-v", "error", "-i", str(source), *options, str(out)]
    subprocess.run(command, check=True)
    return out


def make_record(path: Path, sha256: str) -> dict[str, Any]:
    signature = compute_signature(probe_video(path))
    return {"source": {"sha256": sha256}, "motion_signature": signature}


def test_copies_are_one_group_and_other_dances_are_not(tmp_path: Path) -> None:
    original = write_dance(tmp_path / "a.mp4", seed=1)
    fade = ("-vf", "fade=in:d=2", "-q:v", "5")
    small = ("-vf", "scale=80:60", "-c:v", "libx264", "-crf", "40")
    videos = [
        original,
        run_ffmpeg(original, tmp_path / "small.mp4", *small),
        run_ffmpeg(original, tmp_path / "remuxed.mkv", "-c", "copy"),
        run_ffmpeg(original, tmp_path / "double.mp4", "-r", "16", "-q:v", "20"),
        run_ffmpeg(original, tmp_path / "dark.mp4", "-vf", "eq=brightness=-0.1", "-q:v", "9"),
        write_dance(tmp_path / "b.mp4", seed=2),
        run_ffmpeg(write_dance(tmp_path / "c.mp4", seed=3), tmp_path / "faded-c.mp4", *fade),
        run_ffmpeg(write_dance(tmp_path / "d.mp4", seed=4), tmp_path / "faded-d.mp4", *fade),
    ]
    records = [make_record(path, str(k) * 64) for k, path in enumerate(videos)]

    groups = group_copies(records)

    assert groups == {str(k) * 64: f"copy:{'0' * 16}" for k in range(5)}
    assert group_copies(records[::-1]) == groups


def test_videos_without_motion_are_no_copies_of_each_other(tmp_path: Path) -> None:
    frame = np.full((120, 160, 3), 90, np.uint8)
    write_mp4(tmp_path / "still.mp4", [frame] * 32, FPS, SIZE_PX)
    record = make_record(tmp_path / "still.mp4", "1" * 64)
    assert record["motion_signature"] == ""
    assert group_copies([record, record | {"source": {"sha256": "2" * 64}}]) == {}


@pytest.mark.parametrize("signature", [None, 7, "", "not base64", "AAAA"])
def test_missing_and_damaged_signatures_are_ignored(signature: object) -> None:
    motion = base64.b64encode(np.arange(64, dtype=np.int8).tobytes()).decode()
    records = [
        {"source": {"sha256": name * 64}, "motion_signature": value}
        for name, value in (("1", motion), ("2", signature), ("3", motion))
    ]
    assert group_copies(records) == {name * 64: f"copy:{'1' * 16}" for name in "13"}
    assert group_copies(records[1:2]) == {}


@pytest.mark.slow
def test_a_copy_of_a_training_video_is_not_held_out(loris: RunLoris, tmp_path: Path) -> None:
    raw, data = tmp_path / "raw", tmp_path / "data"
    raw.mkdir()
    sound = ("-f", "lavfi", "-i", "sine=440:duration=26", "-shortest", "-ar", str(AUDIO_HZ))
    for seed in range(3):
        silent = write_dance(tmp_path / f"{seed}.mp4", seed=seed, duration_s=26.0)
        run_ffmpeg(silent, raw / f"{seed}.mp4", *sound, "-c:v", "copy")
    copy = ("-vf", "scale=120:90", "-c:v", "mpeg4", "-q:v", "12")
    run_ffmpeg(raw / "1.mp4", raw / "copy.mkv", *copy)

    result = loris("prep", raw, "--activity", "dance", "--data", data, "--separator", "none",
                   "--pose-estimator", "none", "--jobs", "1")  # fmt: skip

    assert result.exit_code == 0, result.stderr
    assert "1.mp4, copy.mkv" in result.stderr
    partitions = {clip.source: clip.partition for clip in read_manifest(data)}
    assert partitions["1.mp4"] == partitions["copy.mkv"]
