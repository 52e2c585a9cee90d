"""Worker pool: crashes, exceptions and time limits; no process is left behind."""

import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import pytest

from loris_cli.system.worker_pool import WorkerCrash, map_in_processes

WORKER_MODULE = """
import os, pathlib, signal, time

if pathlib.Path("slow").exists():
    time.sleep(1.5)

class DiesWhenSent:
    def __reduce__(self):
        os.kill(os.getpid(), signal.SIGKILL)

def double(number):
    return DiesWhenSent() if number == 13 else 2 * number

def fail_on_odd(number):
    if number % 2:
        raise EOFError(number)
    return number

def wait(path):
    (path / str(os.getpid())).touch()
    while True:
        pass
"""
PARENT_SCRIPT = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs ignore SIGINT
from pathlib import Path
from loris_cli.system.worker_pool import map_in_processes
import pool_work
if __name__ == "__main__":
    list(map_in_processes(pool_work.wait, [Path("held"), Path("held")], n_workers=2))
"""


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    (tmp_path / "pool_work.py").write_text(WORKER_MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("pool_work")
    del sys.modules["pool_work"]


def test_no_items_give_no_results_and_start_no_process(
    work: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SpawnProcess, "start", lambda _: pytest.fail("a process was started"))
    assert list(map_in_processes(work.double, [], n_workers=0)) == []


def test_a_worker_killed_while_sending_fails_only_its_item(work: Any) -> None:
    results = dict(map_in_processes(work.double, [13, *range(8)], n_workers=2))
    assert results.pop(0) == WorkerCrash(exit_code=-signal.SIGKILL)
    assert results == {k + 1: 2 * k for k in range(8)}


def test_an_exception_fails_only_its_item(work: Any) -> None:
    results = dict(map_in_processes(work.fail_on_odd, range(4), n_workers=2))
    crash = WorkerCrash(exit_code=1)
    assert results == {0: 0, 1: crash, 2: 2, 3: crash}


@pytest.mark.slow
def test_imports_do_not_count_towards_the_time_limit(work: Any) -> None:
    Path("slow").touch()
    results = map_in_processes(work.double, [1, 2], n_workers=2, timeout_s=1.0)
    assert sorted(results) == [(0, 2), (1, 4)]


def test_an_item_that_cannot_be_pickled_is_an_error(work: Any) -> None:
    with closing(map_in_processes(work.double, [lambda: 1], n_workers=1)) as results:
        with pytest.raises((AttributeError, TypeError, ValueError), match="pickle"):
            next(results)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the processes in /proc")
@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT], ids=lambda sent: sent.name)
def test_workers_end_with_their_parent(work: Any, sent: signal.Signals) -> None:
    Path("held").mkdir()
    Path("run.py").write_text(PARENT_SCRIPT)
    with subprocess.Popen([sys.executable, "run.py"], stderr=subprocess.DEVNULL) as parent:
        deadline_s = time.monotonic() + 60
        while len(os.listdir("held")) < 2 and time.monotonic() < deadline_s:
            time.sleep(0.05)
        parent.send_signal(sent)
    workers = [Path("/proc") / name for name in os.listdir("held")]
    assert len(workers) == 2
    while any(worker.exists() for worker in workers) and time.monotonic() < deadline_s:
        time.sleep(0.05)
    assert not any(worker.exists() for worker in workers)
