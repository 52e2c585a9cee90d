"""The Ray pool gives the results of the process pool; a crash costs one item."""

import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loris_cli.system.ray_pool import map_on_ray
from loris_cli.system.worker_pool import WorkerCrash, map_in_processes

WORK = """
import os, time

def double(number):
    if number == 14:
        os._exit(3)
    if number == 15:
        raise ValueError("an error of ours")
    if number == 16:
        time.sleep(600)
    return 2 * number
"""


pytestmark = [
    pytest.mark.legacy,
    pytest.mark.filterwarnings("ignore"),  # Ray's own
]


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A module that Ray's workers find as well."""
    pytest.importorskip("ray")
    (tmp_path / "ray_work.py").write_text(WORK)
    monkeypatch.syspath_prepend(tmp_path)
    before = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{before}")
    yield importlib.import_module("ray_work")
    del sys.modules["ray_work"]


def test_two_ray_workers_give_what_one_process_gives(work: Any) -> None:
    items = [1, 14, 2, 15, 3, 4]
    with_ray = dict(map_on_ray(work.double, items, n_workers=2, timeout_s=240.0))
    local = dict(map_in_processes(work.double, items, n_workers=1))

    died = {index for index, result in local.items() if isinstance(result, WorkerCrash)}
    assert died == {1, 3}
    assert {k for k, result in with_ray.items() if isinstance(result, WorkerCrash)} == died
    alive = {k: result for k, result in local.items() if k not in died}
    assert {k: result for k, result in with_ray.items() if k not in died} == alive


def test_a_late_item_is_ended_on_ray(work: Any) -> None:
    results = dict(map_on_ray(work.double, [16], n_workers=1, timeout_s=20.0))

    assert results == {0: WorkerCrash(exit_code=None, timed_out=True)}
