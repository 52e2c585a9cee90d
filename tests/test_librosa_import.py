"""Kernels of librosa are compiled by one process at a time."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock, Timeout

from loris_cli.system import librosa_import
from loris_cli.system.librosa_import import interprocess_lock

LOCKING_SCRIPT = """
import sys, time
from loris_cli.system.librosa_import import interprocess_lock
with interprocess_lock("x"):
    print("locked", flush=True)
    sys.stdin.read()
"""
TRACKING_SCRIPT = """
import numpy as np
from loris_cli.audio.beat_tracking import track_beats
clicks = np.zeros(22050 * 8, dtype=np.float32)
clicks[::11025] = 1
print(len(track_beats(clicks)))
"""


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LORIS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.slow
def test_the_lock_waits_for_another_process_until_the_timeout(
    cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(librosa_import, "LOCK_TIMEOUT_S", 0.2)
    timed_out = []

    class RecordingLock(FileLock):
        def acquire(self, *args: Any, **options: Any) -> Any:
            try:
                return super().acquire(*args, **options)
            except Timeout as error:
                timed_out.append(Path(error.lock_file))
                raise

    monkeypatch.setattr(librosa_import, "FileLock", RecordingLock)
    with subprocess.Popen(
        [sys.executable, "-c", LOCKING_SCRIPT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        with interprocess_lock("y"):
            assert timed_out == []
        with interprocess_lock("x"):  # ignores the lock after the timeout
            assert timed_out == [cache_folder / "x.lock"]
        holder.communicate("")
    with interprocess_lock("x"):
        assert timed_out == [cache_folder / "x.lock"]


def test_the_lock_is_disabled_without_any_writable_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LORIS_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "file"))
    n_runs = 0
    with interprocess_lock("x"), interprocess_lock("x"):  # neither waits for the other
        n_runs += 1
    assert n_runs == 1
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.nightly
def test_beat_tracking_survives_concurrent_compilation_of_kernels(
    tmp_path: Path,
) -> None:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "numba")}

    def start() -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-c", TRACKING_SCRIPT],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )

    processes = [start() for _ in range(3)]
    outputs = [process.communicate()[0] for process in processes]
    outputs.append(start().communicate()[0])
    assert len(set(outputs)) == 1
    assert int(outputs[0]) > 10


@pytest.mark.slow
def test_the_modules_of_soundtrack_import_no_compiled_kernels() -> None:
    code = "import sys, loris_cli.soundtrack.run_jobs; print({'numba'} & {*sys.modules})"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "set()\n"
