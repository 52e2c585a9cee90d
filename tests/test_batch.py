"""Many videos: one process or several, and the same bytes; no failure stops the rest."""

import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from conftest import RunLoris

from loris_cli.errors import UsageError, WeightsError
from loris_cli.soundtrack.inpainting import InpaintSettings
from loris_cli.soundtrack.job_report import add_to_report, compute_exit_code
from loris_cli.soundtrack.jobs import SoundtrackJob, SoundtrackSettings, plan_jobs
from loris_cli.system.worker_pool import WorkerCrash, map_in_processes

# What workers do here; a module of its own, so that they start fast.
WORK = """
import os, signal, time

def double(number):
    if number == 13:
        os.kill(os.getpid(), signal.SIGKILL)
    if number == 14:
        os._exit(3)
    return 2 * number

def spin(number):
    while number == 13:
        pass
    return number

def grow(n_bytes):
    return len(bytearray(n_bytes))

def wait_and_clean(path):
    path.touch()
    try:
        time.sleep(60)
    finally:
        path.unlink()
"""


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    (tmp_path / "some_work.py").write_text(WORK)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("some_work")
    del sys.modules["some_work"]


def test_every_item_has_its_result(work: Any) -> None:
    assert sorted(map_in_processes(work.double, range(5), n_workers=2)) == [
        (k, 2 * k) for k in range(5)
    ]


def test_a_process_that_dies_fails_its_item_alone(work: Any) -> None:
    results = dict(map_in_processes(work.double, [1, 13, 2, 14, 3], n_workers=1))

    killed, left = WorkerCrash(exit_code=-signal.SIGKILL), WorkerCrash(exit_code=3)
    assert results == {0: 2, 1: killed, 2: 4, 3: left, 4: 6}


def test_an_endless_item_is_ended_and_the_rest_go_on(work: Any) -> None:
    results = dict(map_in_processes(work.spin, [1, 13, 2], n_workers=1, timeout_s=5.0))

    assert results[1] == WorkerCrash(exit_code=-signal.SIGKILL, timed_out=True)
    assert (results[0], results[2]) == (1, 2)


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_an_item_that_grows_too_large_dies_alone(work: Any) -> None:
    sizes = [1 << 20, 1 << 30, 2 << 20]

    results = dict(
        map_in_processes(work.grow, sizes, n_workers=1, memory_limit_bytes=512 << 20)
    )

    assert (results[0], results[2]) == (sizes[0], sizes[2])
    assert results[1] == WorkerCrash(exit_code=1)


def test_workers_clean_up_when_the_reader_stops(work: Any, tmp_path: Path) -> None:
    folder = tmp_path / "held"
    folder.mkdir()
    held = [folder / "a", folder / "b", folder / "never"]
    # A background job of a shell ignores the signal.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def interrupt_when_both_are_at_work() -> None:
        deadline = time.monotonic() + 60
        while len(os.listdir(folder)) < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    try:
        with closing(map_in_processes(work.wait_and_clean, held, n_workers=2)) as results:
            threading.Thread(target=interrupt_when_both_are_at_work).start()
            with pytest.raises(KeyboardInterrupt):
                next(results)
    finally:
        signal.signal(signal.SIGINT, before)
    assert os.listdir(folder) == []


@pytest.fixture
def videos(tmp_path: Path, moving_video: Path) -> list[Path]:
    paths = [tmp_path / "in" / name for name in ("a.mp4", "b.mp4")]
    paths[0].parent.mkdir()
    for path in paths:
        path.write_bytes(moving_video.read_bytes())
    return paths


def test_jobs_and_order_change_no_byte(
    loris: RunLoris, loris_script: Path, videos: list[Path], small_model: Path, tmp_path: Path
) -> None:
    same = ["--model", str(small_model), "--steps", "2", "--rhythm", "flow", "--takes", "2"]
    one = loris("soundtrack", *videos, "-o", tmp_path / "one", *same)
    assert one.exit_code == 0, one.stderr
    report = tmp_path / "run.jsonl"
    both = [*reversed(videos), tmp_path / "none.mp4"]
    two = subprocess.run(
        [sys.executable, loris_script, "soundtrack", *both, "-o", tmp_path / "two", *same,
         "--jobs", "2", "--report", report],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert two.returncode == 1, two.stderr
    assert "none.mp4 does not exist" in two.stderr
    for name in ("a-1", "a-2", "b-1", "b-2"):
        first, second = (tmp_path / k / f"{name}.loris.mp4" for k in ("one", "two"))
        assert first.read_bytes() == second.read_bytes()
    rows = [json.loads(line) for line in report.read_text().splitlines()]
    assert [Path(row["input"]).name for row in rows] == [
        "b.mp4", "b.mp4", "a.mp4", "a.mp4", "none.mp4"
    ]  # fmt: skip
    assert [row["status"] for row in rows] == ["done"] * 4 + ["failed"]
    assert sorted(two.stdout.splitlines()) == sorted(row["output"] for row in rows[:4])


def test_a_bad_video_is_told_of_and_the_rest_go_on(
    loris: RunLoris, videos: list[Path], small_model: Path
) -> None:
    videos[0].write_text("this is no film")

    result = loris(
        "soundtrack", *videos, "--model", small_model, "--steps", 2, "--rhythm", "flow"
    )

    assert result.exit_code == 1
    assert result.stdout == f"{videos[1].with_name('b.loris.mp4')}\n"
    assert result.stderr.count("loris: error:") == 1
    assert "a.mp4 is not a readable video" in result.stderr
    assert "b.mp4: music: done" in result.stderr
    assert "1 of 2 inputs failed" in result.stderr


def test_missing_weights_end_the_run_before_any_video(
    loris: RunLoris, videos: list[Path], tmp_path: Path
) -> None:
    report = tmp_path / "run.jsonl"
    result = loris("soundtrack", *videos, "--model", "none.safetensors", "--report", report)
    assert result.exit_code == WeightsError.exit_code == 3
    assert result.stderr.count("loris: error:") == 1
    assert not report.exists()


@pytest.mark.parametrize("option", ["plot", "inpaint", "poses"])
def test_what_goes_with_one_video_is_refused_with_two(option: str, videos: list[Path]) -> None:
    values = {
        "plot": Path("x.png"),
        "inpaint": InpaintSettings(path=Path("x.wav"), start_s=0.0, end_s=1.0),
        "poses": Path("x.npz"),
    }
    settings = SoundtrackSettings(**{option: values[option]})  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=f"--{option} goes with one input, not 2"):
        plan_jobs(videos, None, settings=settings)


def test_a_report_is_in_the_order_of_the_jobs_and_after_what_was_there(tmp_path: Path) -> None:
    report = tmp_path / "run.jsonl"
    report.write_text('{"input": "old"}')
    jobs = [
        SoundtrackJob(video=Path(name), takes=(), settings=SoundtrackSettings())
        for name in "abc"
    ]

    add_to_report(report, [{"input": name} for name in "cab"], jobs)

    assert [json.loads(line)["input"] for line in report.read_text().splitlines()] == [
        "old", "a", "b", "c"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("codes", "n_inputs", "code"),
    [
        ([], 1, 0),
        ([None], 1, 0),
        ([4], 1, 4),
        ([None, 1], 1, 1),
        ([4, None], 2, 1),
        ([4, 4], 2, 1),
    ],
)
def test_the_exit_code_tells_one_bad_input_from_some(
    codes: list[int | None], n_inputs: int, code: int
) -> None:
    rows = [
        {"status": "done"} if one is None else {"status": "failed", "exit_code": one}
        for one in codes
    ]
    assert compute_exit_code(rows, n_inputs=n_inputs) == code
