"""Ray worker pool: the results of the local pool; a crash fails only its item."""

import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loris_cli.system.ray_pool import map_on_ray
from loris_cli.system.worker_pool import WorkerCrash, map_in_processes

WORKER_MODULE = """
import os, time

def double(number):
    if number == 14:
        os._exit(3)
    if number == 15:
        raise ValueError(number)
    if number == 16:
        time.sleep(600)
    return 2 * number
"""


pytestmark = [
    pytest.mark.legacy,
    pytest.mark.filterwarnings("ignore"),  # warnings of Ray
]


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Return a module that the workers of Ray can import too."""
    pytest.importorskip("ray")
    (tmp_path / "ray_work.py").write_text(WORKER_MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    search_path = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{search_path}")
    yield importlib.import_module("ray_work")
    del sys.modules["ray_work"]


def test_two_ray_workers_give_the_results_of_one_local_worker(work: Any) -> None:
    items = [1, 14, 2, 15, 3, 4]
    with_ray = dict(map_on_ray(work.double, items, n_workers=2, timeout_s=240.0))
    local = dict(map_in_processes(work.double, items, n_workers=1))

    def replace_crashes(results: dict[int, Any]) -> dict[int, Any]:
        return {
            k: "crash" if isinstance(result, WorkerCrash) else result
            for k, result in results.items()
        }

    expected = {0: 2, 1: "crash", 2: 4, 3: "crash", 4: 6, 5: 8}
    assert replace_crashes(local) == expected
    assert replace_crashes(with_ray) == expected


def test_an_item_over_the_time_limit_is_ended_on_ray(work: Any) -> None:
    results = dict(map_on_ray(work.double, [16], n_workers=1, timeout_s=20.0))

    assert results == {0: WorkerCrash(exit_code=None, timed_out=True)}
