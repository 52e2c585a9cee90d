"""Runs on several videos: worker processes, failed inputs, report and exit code."""

import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from conftest import RunLoris

from loris_cli.errors import UsageError, WeightsError
from loris_cli.soundtrack import run_jobs
from loris_cli.soundtrack.inpainting import InpaintSettings
from loris_cli.soundtrack.job_report import (
    RecordingReporter,
    ReportRow,
    add_to_report,
    build_row,
    compute_exit_code,
)
from loris_cli.soundtrack.jobs import SoundtrackJob, SoundtrackSettings, plan_jobs
from loris_cli.system.atomic_files import atomic_write
from loris_cli.system.worker_pool import WorkerCrash, map_in_processes

# Functions of the workers, in a small module: workers import it, not this one.
WORKER_MODULE = """
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

def hold_file(path):
    path.touch()
    try:
        time.sleep(60)
    finally:
        path.unlink()
"""


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    (tmp_path / "batch_work.py").write_text(WORKER_MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("batch_work")
    del sys.modules["batch_work"]


def test_every_item_has_its_own_result(work: Any) -> None:
    assert sorted(map_in_processes(work.double, range(5), n_workers=2)) == [
        (k, 2 * k) for k in range(5)
    ]


def test_a_dead_worker_process_fails_only_its_item(work: Any) -> None:
    results = dict(map_in_processes(work.double, [1, 13, 2, 14, 3], n_workers=1))

    killed, exited = WorkerCrash(exit_code=-signal.SIGKILL), WorkerCrash(exit_code=3)
    assert results == {0: 2, 1: killed, 2: 4, 3: exited, 4: 6}


@pytest.mark.slow
def test_an_item_over_the_time_limit_fails_alone(work: Any) -> None:
    results = dict(map_in_processes(work.spin, [1, 13, 2], n_workers=1, timeout_s=2.0))

    late = WorkerCrash(exit_code=-signal.SIGKILL, timed_out=True)
    assert results == {0: 1, 1: late, 2: 2}


@pytest.mark.skipif(sys.platform != "linux", reason="the memory limit needs Linux")
def test_an_item_over_the_memory_limit_fails_alone(work: Any) -> None:
    sizes = [1 << 20, 1 << 30, 2 << 20]

    results = dict(
        map_in_processes(work.grow, sizes, n_workers=1, memory_limit_bytes=512 << 20)
    )

    assert results == {0: sizes[0], 1: WorkerCrash(exit_code=1), 2: sizes[2]}


def test_interrupted_workers_remove_their_files(work: Any, tmp_path: Path) -> None:
    folder = tmp_path / "held"
    folder.mkdir()
    paths = [folder / name for name in ("first", "second", "third")]
    # A background job of a shell ignores SIGINT.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    n_held = []

    def interrupt_after_two_files() -> None:
        deadline = time.monotonic() + 60
        while len(os.listdir(folder)) < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        n_held.append(len(os.listdir(folder)))
        os.kill(os.getpid(), signal.SIGINT)

    try:
        with closing(map_in_processes(work.hold_file, paths, n_workers=2)) as results:
            threading.Thread(target=interrupt_after_two_files).start()
            with pytest.raises(KeyboardInterrupt):
                next(results)
    finally:
        signal.signal(signal.SIGINT, handler)
    assert n_held == [2]
    assert os.listdir(folder) == []


@pytest.fixture
def videos(tmp_path: Path, moving_video: Path) -> list[Path]:
    paths = [tmp_path / "in" / name for name in ("a.mp4", "b.mp4")]
    paths[0].parent.mkdir()
    for path in paths:
        path.write_bytes(moving_video.read_bytes())
    return paths


@pytest.mark.slow
def test_outputs_do_not_depend_on_jobs_and_input_order(
    loris: RunLoris, loris_script: Path, videos: list[Path], small_model: Path, tmp_path: Path
) -> None:
    words = ["--model", str(small_model), "--steps", "2", "--rhythm", "flow", "--takes", "2"]
    one_job = loris("soundtrack", *videos, "-o", tmp_path / "one", *words)
    assert one_job.exit_code == 0, one_job.stderr
    report = tmp_path / "run.jsonl"
    inputs = [*reversed(videos), tmp_path / "none.mp4"]
    two_jobs = subprocess.run(
        [sys.executable, loris_script, "soundtrack", *inputs, "-o", tmp_path / "two", *words,
         "--jobs", "2", "--report", report],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert two_jobs.returncode == 1, two_jobs.stderr
    assert "none.mp4" in two_jobs.stderr
    for name in ("a-1", "a-2", "b-1", "b-2"):
        one, two = (tmp_path / folder / f"{name}.loris.mp4" for folder in ("one", "two"))
        assert one.read_bytes() == two.read_bytes()
    rows = [json.loads(line) for line in report.read_text().splitlines()]
    assert [Path(row["input"]).name for row in rows] == [
        "b.mp4", "b.mp4", "a.mp4", "a.mp4", "none.mp4"
    ]  # fmt: skip
    assert [row["status"] for row in rows] == ["done"] * 4 + ["failed"]
    assert sorted(two_jobs.stdout.splitlines()) == sorted(row["output"] for row in rows[:4])


@pytest.mark.slow
def test_a_bad_video_is_reported_and_the_others_are_processed(
    loris: RunLoris, videos: list[Path], small_model: Path
) -> None:
    videos[0].write_text("not a video")

    result = loris(
        "soundtrack", *videos, "--model", small_model, "--steps", 2, "--rhythm", "flow"
    )

    assert result.exit_code == 1
    assert result.stdout == f"{videos[1].with_name('b.loris.mp4')}\n"
    assert result.stderr.count("loris: error:") == 1
    assert f"loris: error: {videos[0]}" in result.stderr
    assert "b.mp4: music: " in result.stderr
    assert "1 of 2" in result.stderr


def test_missing_weights_end_the_run_before_the_first_video(
    loris: RunLoris, videos: list[Path], tmp_path: Path
) -> None:
    report = tmp_path / "run.jsonl"
    result = loris("soundtrack", *videos, "--model", "none.safetensors", "--report", report)
    assert result.exit_code == WeightsError.exit_code == 3
    assert result.stderr.count("loris: error:") == 1
    assert "none.safetensors" in result.stderr
    assert not report.exists()


@pytest.mark.parametrize("option", ["inpaint", "poses"])
def test_an_option_for_a_single_video_is_refused_with_two(
    option: str, videos: list[Path]
) -> None:
    values = {
        "inpaint": InpaintSettings(path=Path("x.wav"), start_s=0.0, end_s=1.0),
        "poses": Path("x.npz"),
    }
    settings = SoundtrackSettings(**{option: values[option]})  # type: ignore[arg-type]
    assert len(plan_jobs(videos[:1], None, settings=settings)) == 1
    with pytest.raises(UsageError, match=f"--{option}.* 2"):
        plan_jobs(videos, None, settings=settings)


def test_report_rows_are_appended_in_the_order_of_the_jobs(tmp_path: Path) -> None:
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


def test_reports_of_several_processes_lose_no_rows(tmp_path: Path) -> None:
    job = SoundtrackJob(video=Path("a"), takes=(), settings=SoundtrackSettings())
    report = tmp_path / "run.jsonl"

    def append(number: int) -> None:
        for k in range(8):
            add_to_report(report, [{"input": "a", "number": 8 * number + k}], [job])

    threads = [threading.Thread(target=append, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rows = [json.loads(line) for line in report.read_text().splitlines()]
    assert sorted(row["number"] for row in rows) == list(range(32))
    assert os.listdir(tmp_path) == ["run.jsonl"]


HOLDING_SCRIPT = """
import sys
from pathlib import Path
from loris_cli.system.file_locks import hold_lock
with hold_lock(Path(sys.argv[1]), timeout_s=0) as is_free:
    print(is_free, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def stub_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the model by a function that writes an empty file for each take."""

    def make_takes(job: SoundtrackJob, reporter: RecordingReporter) -> Iterator[ReportRow]:
        for _, path in job.takes:
            with atomic_write(path, overwrite=False):
                pass
            yield build_row(job, reporter, status="done", output=str(path))

    monkeypatch.setattr(run_jobs, "make_takes", make_takes)
    monkeypatch.setattr(run_jobs, "needs_model_first", lambda job: False)
    monkeypatch.setattr(run_jobs, "_check_model", lambda job: None)
    monkeypatch.setattr(run_jobs, "record_speed", lambda settings, row: None)


def list_statuses(
    videos: list[Path], output: Path, *, inputs: Sequence[str] = (), **options: Any
) -> list[str]:
    jobs = plan_jobs(videos, output, settings=SoundtrackSettings(), inputs=inputs, **options)
    return [row["status"] for row in run_jobs.run_jobs(jobs)]


@pytest.mark.usefixtures("stub_takes")
def test_a_video_that_another_process_makes_is_skipped(
    videos: list[Path], tmp_path: Path
) -> None:
    output = tmp_path / "out"
    output.mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", HOLDING_SCRIPT, output / "a.loris.mp4"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"True\n"
        assert list_statuses(videos, output, skip_existing=True) == ["skipped", "done"]
        other.kill()  # its claim ends with it
    assert list_statuses(videos, output, skip_existing=True) == ["skipped", "done"]
    assert sorted(os.listdir(output)) == ["a.loris.mp4", "b.loris.mp4"]


@pytest.mark.usefixtures("stub_takes")
def test_a_file_that_appears_after_the_plan_is_skipped(
    videos: list[Path], tmp_path: Path
) -> None:
    settings = SoundtrackSettings()
    jobs = plan_jobs(videos, tmp_path, settings=settings, n_takes=2, skip_existing=True)
    for name in ("a-1.loris.mp4", "b-2.loris.mp4"):
        (tmp_path / name).touch()
    rows = list(run_jobs.run_jobs(jobs))
    assert [row["status"] for row in rows] == ["skipped", "done", "skipped", "done"]
    assert {row.get("reason") for row in rows} == {None, "already exists"}


@pytest.mark.usefixtures("stub_takes")
def test_a_drive_without_locks_skips_files_of_a_faster_process(
    videos: list[Path], tmp_path: Path
) -> None:
    jobs = plan_jobs(
        videos, tmp_path, settings=SoundtrackSettings(), n_takes=3, skip_existing=True
    )
    statuses = []
    for row in run_jobs.run_jobs(jobs):
        statuses.append(row["status"])
        (tmp_path / "a-2.loris.mp4").touch()
    assert statuses == ["done", "skipped", "done", "done", "done", "done"]


@pytest.mark.usefixtures("stub_takes")
def test_only_videos_with_one_output_path_fail(videos: list[Path], tmp_path: Path) -> None:
    pair = [*videos, videos[0].with_suffix(".MOV")]
    output = tmp_path / "out"
    output.mkdir()
    assert list_statuses(pair, output) == ["failed", "failed", "done"]
    assert os.listdir(output) == ["b.loris.mp4"]


@pytest.mark.usefixtures("stub_takes")
def test_equal_names_in_sub_folders_are_written_to_sub_folders(tmp_path: Path) -> None:
    videos = [tmp_path / "tree" / name for name in ("x/1.mp4", "y/1.mp4")]
    for video in videos:
        video.parent.mkdir(parents=True)
        video.touch()
    output = tmp_path / "out"
    output.mkdir()
    inputs = [str(tmp_path / "tree")]
    assert list_statuses(videos, output, inputs=inputs) == ["done", "done"]
    with pytest.raises(UsageError):
        list_statuses(videos, output, inputs=inputs)
    assert list_statuses(videos, output, inputs=inputs, skip_existing=True) == ["skipped"] * 2
    assert sorted(path.name for path in output.rglob("*")) == ["1.loris.mp4"] * 2 + ["x", "y"]


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
def test_exit_code_of_one_bad_input_and_of_some_failed_inputs(
    codes: list[int | None], n_inputs: int, code: int
) -> None:
    rows = [
        {"status": "done"} if failed is None else {"status": "failed", "exit_code": failed}
        for failed in codes
    ]
    assert compute_exit_code(rows, n_inputs=n_inputs) == code
