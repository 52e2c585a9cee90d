"""Runs of `loris prep` as processes: killed in the middle, shared, and over bad videos."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import Loris
from media import AUDIO_HZ, film

OPTIONS = ("--kind", "skate", "--separator", "none", "--poses", "none", "--trim", "0")


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three films of 26 s, a frame a second, each with its own beat; and one that is none."""
    folder = tmp_path_factory.mktemp("raw")
    times_s = np.arange(26 * AUDIO_HZ) / AUDIO_HZ
    for k in range(3):
        beat = np.exp(-10 * (times_s % (0.5 + 0.1 * k))) * np.sin(2 * np.pi * 330 * times_s)
        sound = (0.4 * beat + 0.05 * np.sin(700 * times_s))[None].astype(np.float32)
        film(folder / f"{k}.mp4", n_frames=26, fps=1, size=(64, 48), sound=sound)
    (folder / "3.mp4").write_text("no video")
    return folder


def tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def command(program: Path, *words: object) -> list[str]:
    return [sys.executable, str(program), "prep", *map(str, words)]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_killed_run_goes_on_to_the_same_bytes(
    videos: Path, program: Path, tmp_path: Path
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    subprocess.run(command(program, videos, "--data", whole, *OPTIONS), check=False)

    run = subprocess.Popen(command(program, videos, "--data", broken, *OPTIONS))
    deadline = time.monotonic() + 240
    while not list(broken.glob("records/[!.]*.json")) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    n_done = len(list(broken.glob("records/[!.]*.json")))
    assert 1 <= n_done < 4
    assert not (broken / "manifest.jsonl").exists()
    time.sleep(2)  # its worker ends with it
    subprocess.run(command(program, videos, "--data", broken, *OPTIONS), check=False)

    finished = {k: v for k, v in tree(broken).items() if not Path(k).name.startswith(".")}
    assert finished == tree(whole)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_runs_on_one_folder_make_what_one_makes(
    videos: Path, program: Path, tmp_path: Path
) -> None:
    alone, together = tmp_path / "alone", tmp_path / "together"
    together.mkdir()
    subprocess.run(command(program, videos, "--data", alone, *OPTIONS), check=False)
    runs = [
        subprocess.Popen(
            command(program, videos, "--data", together, *OPTIONS, "--shard", f"{k}/2")
        )
        for k in range(2)
    ]
    assert sorted(run.wait() for run in runs) == [0, 1]  # one of them had the bad one

    assert tree(together) == tree(alone)


def test_a_run_tells_of_each_video_and_goes_on_after_a_bad_one(
    videos: Path, tmp_path: Path, loris: Loris
) -> None:
    data = tmp_path / "data"
    two = [videos / "0.mp4", videos / "3.mp4"]

    told = loris("prep", *two, "--data", data, *OPTIONS)
    assert told.code == 1
    assert "0.mp4: 1 clips" in told.out
    assert "3.mp4 is not a video" in told.err
    assert "1 of 2 videos failed" in told.err

    assert loris("prep", "--check", data).out == "1 clips, all whole\n"
    row = json.loads(loris("prep", "--stats", data, "--json").out)
    assert (row["subset"], row["clips"], row["paper"]) == ("fs25", 1, 8585)
    assert loris("prep", "--review", data).out == ""
    (sound,) = (data / "audio").iterdir()
    sound.write_bytes(b"")
    told = loris("prep", "--check", data)
    assert told.code == 1
    assert "is damaged or was changed" in told.out
