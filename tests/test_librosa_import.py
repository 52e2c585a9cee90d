"""Kernels of librosa are compiled by one process at a time."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock, Timeout

from loris_cli.system import librosa_import
from loris_cli.system.librosa_import import lock_kernel_cache

LOCKING_SCRIPT = """
import sys, time
from loris_cli.system.librosa_import import lock_kernel_cache
with lock_kernel_cache():
    print("locked", flush=True)
    sys.stdin.read()
"""
OTHER_FUNCTION = """
from numba import njit
njit(lambda x: x + 1)(1)
"""
TRACKING_SCRIPT = """
import numpy as np
from loris_cli.audio.beat_tracking import track_beats
clicks = np.zeros(22050 * 8, dtype=np.float32)
clicks[::11025] = 1
print(len(track_beats(clicks)))
"""


@pytest.mark.slow
def test_the_lock_waits_for_another_process_until_the_timeout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Processes that share numba's cache exclude each other, whatever their own cache is."""
    numba_cache = tmp_path / "numba"
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(numba_cache))
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
        env={**os.environ, "LORIS_CACHE": str(tmp_path / "other")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        with lock_kernel_cache():  # ignores the lock after the timeout
            assert timed_out == [numba_cache / "kernels.lock"]
        holder.communicate("")
    with lock_kernel_cache():
        assert len(timed_out) == 1


@pytest.mark.parametrize("folder", ["file", None])
def test_the_lock_is_disabled_without_any_writable_folder(
    folder: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    if folder:
        monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / folder))
    n_runs = 0
    with lock_kernel_cache(), lock_kernel_cache():  # neither waits for the other
        n_runs += 1
    assert n_runs == 1
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.nightly
def test_beat_tracking_survives_concurrent_compilation_of_kernels(
    tmp_path: Path,
) -> None:
    """Symbols of kernels are numbered by the functions that the process compiled before."""
    numba_cache = str(tmp_path / "numba")

    def start(name: str, earlier: str = "") -> "subprocess.Popen[str]":
        caches = {"NUMBA_CACHE_DIR": numba_cache, "LORIS_CACHE": str(tmp_path / name)}
        return subprocess.Popen(
            [sys.executable, "-c", earlier + TRACKING_SCRIPT],
            env={**os.environ, **caches},
            stdout=subprocess.PIPE,
            text=True,
        )

    processes = [start("a"), start("b", OTHER_FUNCTION)]
    outputs = [process.communicate()[0] for process in processes]
    outputs.append(start("c").communicate()[0])
    assert len(set(outputs)) == 1
    assert int(outputs[0]) > 10


@pytest.mark.slow
def test_the_modules_of_soundtrack_import_no_compiled_kernels() -> None:
    code = "import sys, loris_cli.soundtrack.run_jobs; print({'numba'} & {*sys.modules})"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "set()\n"


@pytest.mark.slow
def test_no_kernel_is_compiled_after_the_import() -> None:
    """Every module of librosa that compiles kernels is imported while the lock is held."""
    code = (
        "import sys; from loris_cli.system.librosa_import import librosa; librosa.onset;"
        " print(*sys.modules)"
    )
    output = subprocess.check_output([sys.executable, "-c", code], text=True)
    folder = Path(librosa_import.librosa.__file__).parent
    names = {
        ".".join(("librosa", *path.relative_to(folder).with_suffix("").parts))
        for path in folder.rglob("*.py")
        if re.search(
            r"^@numba\.(gu)?vectorize|^@(gu)?vectorize", path.read_text(), re.MULTILINE
        )
    }
    assert len(names) > 3
    assert names <= set(output.split())
