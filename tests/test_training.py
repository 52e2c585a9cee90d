"""Training loop: convergence, signals, bit-identical resume, and several processes."""

import json
import os
import pickle
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import distributed
from torch.distributed.fsdp import fully_shard
from training_line import (
    TINY_SETTINGS,
    TRUE_SLOPE,
    LineStage,
    NoisyLineDataset,
    run_stage,
)

from loris_cli.errors import InputError, MissingDependencyError, OutputError
from loris_cli.training import fsdp
from loris_cli.training.checkpoints import StageFolder
from loris_cli.training.distributed import DistributedContext
from loris_cli.training.loop import LogRecord, TrainingError, count_optimizer_steps, train
from loris_cli.training.settings import TrainingSettings

SINGLE_PROCESS = DistributedContext(rank=0, world_size=1, device=torch.device("cpu"))
SCRIPT = Path(__file__).with_name("training_line.py")


def train_line(
    folder: Path, settings: TrainingSettings = TINY_SETTINGS, stage: LineStage | None = None
) -> tuple[LineStage, list[LogRecord]]:
    folder.mkdir(exist_ok=True)
    stage, rows = stage or LineStage(), list[LogRecord]()
    train(stage, settings, StageFolder(folder), SINGLE_PROCESS, on_log=rows.append)
    return stage, rows


def read_slope(stage: LineStage) -> torch.Tensor:
    slope: torch.Tensor = stage.loss_module.state_dict()["slope"].clone()
    return slope


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(row) for row in (folder / "metrics.jsonl").read_text().splitlines()]


def interrupt_at(stage: LineStage, number: int, at_step: int) -> LineStage:
    """Make a stage send a signal to this process while it prepares a step."""

    def send_signal(index: int) -> bool:
        if index == at_step * TINY_SETTINGS.batch_size:
            os.kill(os.getpid(), number)
        return False

    stage.train_set = NoisyLineDataset(0, send_signal)
    return stage


def test_training_converges_and_logs_its_progress(tmp_path: Path) -> None:
    stage, rows = train_line(tmp_path)

    torch.testing.assert_close(read_slope(stage), TRUE_SLOPE, atol=0.1, rtol=0)
    losses = [row["loss"] for row in rows if "loss" in row]
    assert len(losses) == 3
    assert losses[-1] < 0.2 * losses[0]
    assert [row["step"] for row in rows if "val_loss" in row] == [20, 40, 60]
    assert [row["onset_recall"] for row in rows if "val_loss" in row] == [0.5] * 3
    assert stage.sampled_steps == [20, 40, 60]
    assert all(row["n_steps"] == 60 for row in rows)
    assert 0 <= rows[0]["data_wait_fraction"] < 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1], ids=["SIGTERM", "SIGUSR1"])
def test_run_resumed_after_a_signal_is_bit_identical(tmp_path: Path, number: int) -> None:
    uninterrupted, _ = train_line(tmp_path / "uninterrupted")
    handlers = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGUSR1)]

    with pytest.raises(SystemExit) as stopped:
        train_line(tmp_path / "resumed", stage=interrupt_at(LineStage(), number, 23))
    resumed, _ = train_line(tmp_path / "resumed")

    assert stopped.value.code == 0
    assert resumed.n_initializations == 0
    assert torch.equal(read_slope(uninterrupted), read_slope(resumed))
    for name in ("best.safetensors", "last.safetensors"):
        one, other = (load_file(tmp_path / run / name) for run in ("uninterrupted", "resumed"))
        assert torch.equal(one["slope"], other["slope"])
    steps = [(row["step"], row.get("val_loss")) for row in read_metrics(tmp_path / "resumed")]
    assert steps[-1] == (60, read_metrics(tmp_path / "uninterrupted")[-1]["val_loss"])
    assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGUSR1)] == handlers


def test_complete_run_is_not_repeated(tmp_path: Path) -> None:
    train_line(tmp_path)
    before = (tmp_path / "resume.pt").read_bytes()
    _, rows = train_line(tmp_path)

    assert rows == []
    assert (tmp_path / "resume.pt").read_bytes() == before


def test_longer_run_continues_a_shorter_run(tmp_path: Path) -> None:
    train_line(tmp_path, replace(TINY_SETTINGS, steps=20))
    _, rows = train_line(tmp_path, replace(TINY_SETTINGS, steps=40))
    assert [row["step"] for row in rows if "loss" in row] == [40]


def test_accumulated_gradients_equal_the_whole_batch(tmp_path: Path) -> None:
    whole, _ = train_line(tmp_path / "one")
    accumulated, _ = train_line(tmp_path / "four", replace(TINY_SETTINGS, accumulation_steps=4))
    torch.testing.assert_close(read_slope(whole), read_slope(accumulated), atol=1e-5, rtol=0)


def test_loader_workers_do_not_change_the_result(tmp_path: Path) -> None:
    single, _ = train_line(tmp_path / "none", replace(TINY_SETTINGS, steps=6))
    with_workers, _ = train_line(
        tmp_path / "two", replace(TINY_SETTINGS, steps=6, loader_workers=2)
    )
    assert torch.equal(read_slope(single), read_slope(with_workers))


def test_steps_with_a_nan_loss_are_skipped_and_logged(tmp_path: Path) -> None:
    stage_with_nans = LineStage(lambda number: number // TINY_SETTINGS.batch_size in (7, 30))
    stage, rows = train_line(tmp_path, stage=stage_with_nans)

    logged = [row for row in rows if "nonfinite_examples" in row]
    assert [(row["step"], row["n_nonfinite_steps"]) for row in logged] == [(8, 1), (31, 2)]
    assert logged[0]["nonfinite_examples"] == "examples 56 to 63"
    torch.testing.assert_close(read_slope(stage), TRUE_SLOPE, atol=0.1, rtol=0)


def test_too_many_nan_steps_stop_training(tmp_path: Path) -> None:
    stage_with_nans = LineStage(lambda number: number >= 20 * TINY_SETTINGS.batch_size)
    with pytest.raises(TrainingError, match=r"\b6\b.*\b26\b.*\b200 to 207\b") as caught:
        train_line(tmp_path, replace(TINY_SETTINGS, max_nonfinite_steps=5), stage_with_nans)
    assert caught.value.hint


def test_best_weights_have_the_lowest_validation_loss(tmp_path: Path) -> None:
    class FlippedDataset(NoisyLineDataset):
        """Points of the line, with the wrong sign from step 40 on."""

        def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
            point = super().__getitem__(index)
            sign = 1 if index < 40 * TINY_SETTINGS.batch_size else -1
            return {**point, "y": sign * point["y"]}

    stage = LineStage()
    stage.train_set = FlippedDataset(0)
    train_line(tmp_path, replace(TINY_SETTINGS, steps=80), stage)

    best, last = (load_file(tmp_path / f"{name}.safetensors") for name in ("best", "last"))
    assert (best["slope"] - TRUE_SLOPE).norm() < 0.2 < (last["slope"] - TRUE_SLOPE).norm()


def test_failed_save_keeps_the_previous_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit):
        train_line(tmp_path, stage=interrupt_at(LineStage(), signal.SIGTERM, 20))
    before = (tmp_path / "resume.pt").read_bytes()

    def write_partial_file(state: object, path: Path) -> None:
        path.write_bytes(b"partial")
        raise RuntimeError("PytorchStreamWriter failed writing file data.pkl")

    with monkeypatch.context() as context:
        context.setattr(torch, "save", write_partial_file)
        with pytest.raises(OutputError, match=r"resume\.pt") as caught:
            train_line(tmp_path)

    assert caught.value.hint
    assert (tmp_path / "resume.pt").read_bytes() == before
    assert not list(tmp_path.glob(".*part*"))
    uninterrupted, _ = train_line(tmp_path / "uninterrupted")
    resumed, _ = train_line(tmp_path)
    assert torch.equal(read_slope(uninterrupted), read_slope(resumed))


def test_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    train_line(tmp_path, replace(TINY_SETTINGS, steps=4))
    (tmp_path / "resume.pt").write_bytes(b"no state")
    with pytest.raises(InputError, match=r"resume\.pt"):
        train_line(tmp_path)


def test_checkpoint_that_would_run_code_is_rejected(tmp_path: Path) -> None:
    class WriteFolder:
        def __reduce__(self) -> tuple[Any, ...]:
            return (os.mkdir, (str(tmp_path / "created"),))

    (tmp_path / "resume.pt").write_bytes(
        pickle.dumps({"step": 1, "other": WriteFolder()}, protocol=2)
    )
    with pytest.raises(InputError, match=r"resume\.pt"):
        train_line(tmp_path)
    assert not (tmp_path / "created").exists()


@pytest.mark.filterwarnings("ignore")  # TensorBoard and TensorFlow emit some
def test_tensorboard_receives_the_metrics(tmp_path: Path) -> None:
    events = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator",
        reason="`make legacy` installs it",
    )
    train_line(tmp_path, replace(TINY_SETTINGS, steps=40, tensorboard=True))

    logged = events.EventAccumulator(str(tmp_path / "tensorboard"))
    logged.Reload()
    assert [event.step for event in logged.Scalars("loss")] == [20, 40]
    assert [event.step for event in logged.Scalars("val_loss")] == [20, 40]
    assert logged.Scalars("learning_rate/new")[0].value == pytest.approx(0.1)


def test_missing_tensorboard_names_the_extra_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(MissingDependencyError, match="tensorboard") as caught:
        train_line(tmp_path, replace(TINY_SETTINGS, tensorboard=True))
    assert "loris[tensorboard]" in caught.value.hint


def test_epochs_determine_the_number_of_steps() -> None:
    settings = replace(TINY_SETTINGS, steps=0, epochs=3.0, batch_size=8)
    assert count_optimizer_steps(settings, 100) == 38  # 300 examples in batches of 8
    assert count_optimizer_steps(TINY_SETTINGS, 100) == 60


def launch_processes(
    folder: Path, *options: str, n_steps: int = 12, batch_size: int = 8
) -> subprocess.CompletedProcess[str]:
    """Train a stage with two processes of torchrun."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "PYTHONFAULTHANDLER": "1",  # a crashed process prints its stack
    }
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node=2", str(SCRIPT), str(folder)]
    command += [str(n_steps), str(batch_size), *options]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=240, check=False
    )


def run_two_processes(folder: Path, *options: str, **sizes: int) -> None:
    completed = launch_processes(folder, *options, **sizes)
    assert completed.returncode == 0, completed.stderr


def read_losses(folder: Path) -> dict[int, float]:
    return {row["step"]: row["loss"] for row in read_metrics(folder) if "loss" in row}


def assert_losses_close(folder: Path, expected_folder: Path, *, rtol: float = 1e-4) -> None:
    losses, expected = read_losses(folder), read_losses(expected_folder)
    assert sorted(losses) == sorted(expected)
    np.testing.assert_allclose(
        [losses[step] for step in expected], list(expected.values()), rtol=rtol
    )


@pytest.mark.slow
def test_two_processes_equal_one_process_and_resume_exactly(tmp_path: Path) -> None:
    one, two, killed = (tmp_path / name for name in ("one", "two", "killed"))
    run_stage(one, 12, 8)
    run_two_processes(two)
    assert sorted(read_losses(one)) == list(range(1, 13))
    assert_losses_close(two, one)

    assert launch_processes(killed, "--kill-at", "7").returncode != 0
    assert not (killed / "slope.json").exists()
    run_two_processes(killed)
    assert read_losses(killed) == read_losses(two)
    assert (killed / "slope.json").read_text() == (two / "slope.json").read_text()


@pytest.mark.slow
def test_sharded_processes_equal_one_process_and_resume(tmp_path: Path) -> None:
    """The three parameters are sharded unevenly: two in one process, one in the other."""
    one, sharded, killed = (tmp_path / name for name in ("one", "sharded", "killed"))
    run_stage(one, 12, 8)
    run_two_processes(sharded, "--shard", "--accumulate", "2")
    assert_losses_close(sharded, one)

    assert launch_processes(killed, "--shard", "--kill-at", "7").returncode != 0
    run_two_processes(killed, "--shard")
    assert_losses_close(killed, sharded)


@pytest.mark.parametrize("max_elements", [1, 10, 1000])
def test_gathered_tensors_do_not_depend_on_the_block_size(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, max_elements: int
) -> None:
    monkeypatch.setattr(fsdp, "MAX_GATHER_ELEMENTS", max_elements)
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 5)).double()
    expected = {key: value.clone() for key, value in module.state_dict().items()}
    store_url = (tmp_path / "processes").as_uri()
    distributed.init_process_group("gloo", init_method=store_url, rank=0, world_size=1)
    try:
        fully_shard(module)
        state = {"weights": module.state_dict(), "groups": [{"step": 3}], "best": None}
        full, dropped = fsdp.gather_state(state), fsdp.gather_state(state, keep_result=False)
    finally:
        distributed.destroy_process_group()
    assert full["groups"] == dropped["groups"] == [{"step": 3}]
    assert set(dropped["weights"].values()) == {None}
    for key, value in expected.items():
        torch.testing.assert_close(full["weights"][key], value, rtol=0, atol=0)


@pytest.mark.slow
def test_sharded_checkpoint_resumes_in_one_process_and_back(tmp_path: Path) -> None:
    """The paper's network: 3 sharded steps, 2 in one process, and 1 sharded step."""
    single, sharded = tmp_path / "single", tmp_path / "sharded"
    run_stage(single, 6, 4, unet=True)
    run_two_processes(sharded, "--unet", "--shard", n_steps=3, batch_size=4)
    states = [torch.load(path / "resume.pt", weights_only=True) for path in (single, sharded)]
    for name in ("model", "ema"):
        expected, state = (s[name] for s in states)
        shapes = {key: value.shape for key, value in expected.items()}
        assert {key: value.shape for key, value in state.items()} == shapes
        assert {type(value) for value in state.values()} == {torch.Tensor}

    run_stage(sharded, 5, 4, unet=True)
    run_two_processes(sharded, "--unet", "--shard", n_steps=6, batch_size=4)
    assert sorted(read_losses(sharded)) == list(range(1, 7))
    assert_losses_close(sharded, single, rtol=1e-3)
    weights = [load_file(path / "last.safetensors") for path in (single, sharded)]
    assert weights[0].keys() == weights[1].keys()
    # Adam steps by the sign of gradients close to 0, so a few weights differ more.
    one, other = (torch.cat([w[key].flatten() for key in sorted(w)]) for w in weights)
    assert (one - other).norm() < 1e-3 * one.norm()
