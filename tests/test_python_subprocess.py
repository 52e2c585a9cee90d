"""A call in another Python process: its arguments, its results, its failures."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from loris_cli.errors import LorisError
from loris_cli.system.python_subprocess import call_module

DOUBLES = """
import os
from loris_cli.system.python_subprocess import serve_call
serve_call(lambda arrays: {"twice": 2 * arrays["x"], "pid": [os.getpid()]})
"""
FAILS = """
from loris_cli.system.python_subprocess import serve_call
def fail(arrays): raise ValueError("no such sound")
serve_call(fail)
"""
TRIES_IN_VAIN = """
import time, os, pathlib
from loris_cli.system.python_subprocess import serve_call
def wait(arrays):
    pathlib.Path("pid").write_text(str(os.getpid()))
    time.sleep(600)
serve_call(wait)
"""
ASKS = """
import numpy as np
from loris_cli.system.python_subprocess import call_module
call_module("waits", {"x": np.zeros(1)}, task="it")
"""


@pytest.fixture(autouse=True)
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, source in (
        ("doubles", DOUBLES),
        ("chatters", DOUBLES.replace("lambda arrays:", "lambda arrays: print('!') or")),
        ("fails", FAILS),
        ("waits", TRIES_IN_VAIN),
        ("dies", "import os; os._exit(7)"),
    ):
        (tmp_path / f"{name}.py").write_text(source)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("module", ["doubles", "chatters"])
def test_arrays_go_to_another_process_and_back(module: str) -> None:
    samples = np.random.default_rng(0).normal(size=(2, 100_000)).astype(np.float32)
    result = call_module(module, {"x": samples}, task="it")
    np.testing.assert_array_equal(result["twice"], 2 * samples)
    assert result["pid"] != os.getpid()


def test_what_went_wrong_is_told_in_its_last_words() -> None:
    with pytest.raises(LorisError, match="hearing failed: ValueError: no such sound"):
        call_module("fails", {"x": np.zeros(1)}, task="hearing")


def test_a_sudden_end_is_no_serve_call() -> None:
    with pytest.raises(LorisError, match="hearing failed"):
        call_module("dies", {"x": np.zeros(1_000_000)}, task="hearing")


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for the process in /proc")
def test_it_ends_with_the_one_who_asked(modules: Path) -> None:
    caller = subprocess.Popen([sys.executable, "-c", ASKS], cwd=modules)
    pid_path = modules / "pid"
    deadline_s = time.monotonic() + 60
    while not (pid_path.is_file() and pid_path.read_text()) and time.monotonic() < deadline_s:
        time.sleep(0.05)
    caller.kill()
    caller.wait()
    worker = Path("/proc") / pid_path.read_text()
    while worker.exists() and time.monotonic() < deadline_s:
        time.sleep(0.05)
    assert not worker.exists()
