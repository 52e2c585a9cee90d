"""Calls in another Python process: arguments, results and failures."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from loris_cli.errors import LorisError
from loris_cli.system.python_subprocess import call_module

DOUBLING_MODULE = """
import os
from loris_cli.system.python_subprocess import serve_call
serve_call(lambda arrays: {"twice": 2 * arrays["x"], "pid": [os.getpid()]})
"""
FAILING_MODULE = """
from loris_cli.system.python_subprocess import serve_call
def fail(arrays): raise ValueError("invalid rate 123")
serve_call(fail)
"""
WAITING_MODULE = """
import time, os, pathlib
from loris_cli.system.python_subprocess import serve_call
def wait(arrays):
    pathlib.Path("pid").write_text(str(os.getpid()))
    time.sleep(600)
serve_call(wait)
"""
CALLING_SCRIPT = """
import numpy as np
from loris_cli.system.python_subprocess import call_module
call_module("waits", {"x": np.zeros(1)}, task="test")
"""


@pytest.fixture(autouse=True)
def module_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, source in (
        ("doubles", DOUBLING_MODULE),
        ("prints", DOUBLING_MODULE.replace("lambda arrays:", "lambda arrays: print('!') or")),
        ("fails", FAILING_MODULE),
        ("waits", WAITING_MODULE),
        ("exits", "import os; os._exit(7)"),
    ):
        (tmp_path / f"{name}.py").write_text(source)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("module", ["doubles", "prints"])
def test_arrays_are_sent_to_another_process_and_back(module: str) -> None:
    samples = np.random.default_rng(0).normal(size=(2, 100_000)).astype(np.float32)
    result = call_module(module, {"x": samples}, task="test")
    np.testing.assert_array_equal(result["twice"], 2 * samples)
    assert result["pid"] != os.getpid()


def test_an_error_has_the_task_and_the_last_line_of_the_process() -> None:
    with pytest.raises(LorisError, match=r"resampling.*ValueError: invalid rate 123"):
        call_module("fails", {"x": np.zeros(1)}, task="resampling")


def test_a_process_that_exits_early_is_an_error() -> None:
    with pytest.raises(LorisError, match="resampling"):
        call_module("exits", {"x": np.zeros(1_000_000)}, task="resampling")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the process in /proc")
def test_the_process_ends_with_its_caller(module_folder: Path) -> None:
    caller = subprocess.Popen([sys.executable, "-c", CALLING_SCRIPT], cwd=module_folder)
    pid_path = module_folder / "pid"
    deadline_s = time.monotonic() + 60
    while not (pid_path.is_file() and pid_path.read_text()) and time.monotonic() < deadline_s:
        time.sleep(0.05)
    caller.kill()
    caller.wait()
    worker = Path("/proc") / pid_path.read_text()
    while worker.exists() and time.monotonic() < deadline_s:
        time.sleep(0.05)
    assert not worker.exists()


@pytest.fixture
def planted_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Current folder with modules that end the process which imports them."""
    folder = tmp_path / "planted"
    folder.mkdir()
    for name in ("soxr", "pickle", "numpy", "multiprocessing", "runpy"):
        (folder / f"{name}.py").write_text("import os; os._exit(9)")
    monkeypatch.chdir(folder)
    return folder


def test_modules_in_the_current_folder_are_not_imported(planted_folder: Path) -> None:
    result = call_module("doubles", {"x": np.ones(1)}, task="test")
    assert result["twice"] == [2]


WORKER_SCRIPT = """
from loris_cli.commands import app as program
from loris_cli.system.worker_pool import map_in_processes

def work():
    print(list(map_in_processes(abs, [-1, -2], n_workers=1)))

program.app.command("work")(work)
if __name__ == "__main__":
    program.main()
"""


@pytest.mark.usefixtures("planted_folder")
def test_workers_import_no_modules_of_the_current_folder(tmp_path: Path) -> None:
    (tmp_path / "work.py").write_text(WORKER_SCRIPT)
    output = subprocess.check_output([sys.executable, tmp_path / "work.py", "work"], text=True)
    assert output == "[(0, 1), (1, 2)]\n"
