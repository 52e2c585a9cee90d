"""librosa's kernels are compiled by one process at a time, and work afterwards."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from loris_cli.system import librosa_import
from loris_cli.system.librosa_import import interprocess_lock

HOLD = """
import sys, time
from loris_cli.system.librosa_import import interprocess_lock
with interprocess_lock("x"):
    print("mine", flush=True)
    sys.stdin.read()
"""
TRACK = """
import numpy as np
from loris_cli.audio.beat_tracking import track_beats
clicks = np.zeros(22050 * 8, dtype=np.float32)
clicks[::11025] = 1
print(len(track_beats(clicks)))
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LORIS_CACHE", str(tmp_path / "cache"))


def test_who_comes_second_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(librosa_import, "LOCK_TIMEOUT_S", 0.2)
    with subprocess.Popen(
        [sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "mine\n"
        began = time.monotonic()
        with interprocess_lock("x"):  # for as long as it has patience
            waited_s = time.monotonic() - began
        holder.communicate("")
    assert waited_s >= 0.2
    monkeypatch.setattr(librosa_import, "LOCK_TIMEOUT_S", 60.0)
    with interprocess_lock("x"):
        pass


def test_a_cache_that_is_no_folder_keeps_nobody_from_working(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LORIS_CACHE", str(tmp_path / "file"))
    with interprocess_lock("x"):
        done = True
    assert done


@pytest.mark.slow
def test_processes_that_are_the_first_all_at_once_track_beats_and_so_do_later_ones(
    tmp_path: Path,
) -> None:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "numba")}

    def start() -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-c", TRACK], env=environment, stdout=subprocess.PIPE, text=True
        )

    processes = [start() for _ in range(3)]
    outputs = [process.communicate()[0] for process in processes]
    outputs.append(start().communicate()[0])
    assert len(set(outputs)) == 1
    assert int(outputs[0]) > 10
