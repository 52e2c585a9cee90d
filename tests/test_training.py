"""The loop of training: it learns, stops when asked, goes on to the same bits."""

import json
import os
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
from training_line import TINY_SETTINGS, TRUE_SLOPE, LineStage, NoisyLineDataset

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
    found: torch.Tensor = stage.loss_module.state_dict()["slope"].clone()
    return found


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(row) for row in (folder / "metrics.jsonl").read_text().splitlines()]


def interrupt_at(stage: LineStage, number: int, at_step: int) -> LineStage:
    """The stage, interrupted by a signal while it prepares a step."""

    def signalled(example: int) -> bool:
        if example == at_step * TINY_SETTINGS.batch_size:
            os.kill(os.getpid(), number)
        return False

    stage.train_set = NoisyLineDataset(0, signalled)
    return stage


def test_it_learns_and_tells(tmp_path: Path) -> None:
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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_stopped_by_a_signal_it_ends_with_0_and_goes_on_to_the_same_bits(
    tmp_path: Path, number: int
) -> None:
    uninterrupted, _ = train_line(tmp_path / "whole")
    handlers = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGUSR1)]

    with pytest.raises(SystemExit) as stopped:
        train_line(tmp_path / "halves", stage=interrupt_at(LineStage(), number, 23))
    resumed, _ = train_line(tmp_path / "halves")

    assert stopped.value.code == 0
    assert resumed.n_initializations == 0
    assert torch.equal(read_slope(uninterrupted), read_slope(resumed))
    for name in ("best.safetensors", "last.safetensors"):
        one, other = (load_file(tmp_path / part / name) for part in ("whole", "halves"))
        assert torch.equal(one["slope"], other["slope"])
    steps = [(row["step"], row.get("val_loss")) for row in read_metrics(tmp_path / "halves")]
    assert steps[-1] == (60, read_metrics(tmp_path / "whole")[-1]["val_loss"])
    assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGUSR1)] == handlers


def test_a_run_that_is_done_is_not_done_again(tmp_path: Path) -> None:
    train_line(tmp_path)
    before = (tmp_path / "resume.pt").read_bytes()
    _, rows = train_line(tmp_path)

    assert rows == []
    assert (tmp_path / "resume.pt").read_bytes() == before


def test_a_longer_run_goes_on_from_a_shorter_one(tmp_path: Path) -> None:
    train_line(tmp_path, replace(TINY_SETTINGS, steps=20))
    _, rows = train_line(tmp_path, replace(TINY_SETTINGS, steps=40))
    assert [row["step"] for row in rows if "loss" in row] == [40]


def test_accumulated_parts_make_the_step_of_the_whole(tmp_path: Path) -> None:
    uninterrupted, _ = train_line(tmp_path / "one")
    accumulated, _ = train_line(tmp_path / "four", replace(TINY_SETTINGS, accumulation_steps=4))
    torch.testing.assert_close(
        read_slope(uninterrupted), read_slope(accumulated), atol=1e-5, rtol=0
    )


def test_workers_change_nothing(tmp_path: Path) -> None:
    single, _ = train_line(tmp_path / "none", replace(TINY_SETTINGS, steps=6))
    with_workers, _ = train_line(
        tmp_path / "two", replace(TINY_SETTINGS, steps=6, loader_workers=2)
    )
    assert torch.equal(read_slope(single), read_slope(with_workers))


def test_a_loss_that_is_no_number_is_left_out_told_and_counted(tmp_path: Path) -> None:
    stage_with_nans = LineStage(lambda number: number // TINY_SETTINGS.batch_size in (7, 30))
    stage, rows = train_line(tmp_path, stage=stage_with_nans)

    logged = [row for row in rows if "nonfinite_examples" in row]
    assert [(row["step"], row["n_nonfinite_steps"]) for row in logged] == [(8, 1), (31, 2)]
    assert logged[0]["nonfinite_examples"] == "examples 56 to 63"
    torch.testing.assert_close(read_slope(stage), TRUE_SLOPE, atol=0.1, rtol=0)


def test_too_many_of_them_are_the_end_and_say_where(tmp_path: Path) -> None:
    stage_with_nans = LineStage(lambda number: number >= 20 * TINY_SETTINGS.batch_size)
    with pytest.raises(TrainingError, match="6 steps in a row, the last at step 26") as caught:
        train_line(tmp_path, replace(TINY_SETTINGS, max_nonfinite_steps=5), stage_with_nans)
    assert caught.value.hint


def test_the_best_on_val_loss_clips_is_kept(tmp_path: Path) -> None:
    # Good lessons, then wrong ones: the best is from before.
    class FlippedDataset(NoisyLineDataset):
        def __getitem__(self, number: int) -> dict[str, torch.Tensor]:
            point = super().__getitem__(number)
            return (
                point if number < 40 * TINY_SETTINGS.batch_size else {**point, "y": -point["y"]}
            )

    stage = LineStage()
    stage.train_set = FlippedDataset(0)
    train_line(tmp_path, replace(TINY_SETTINGS, steps=80), stage)

    best, last = (load_file(tmp_path / f"{name}.safetensors") for name in ("best", "last"))
    assert (best["slope"] - TRUE_SLOPE).norm() < 0.2 < (last["slope"] - TRUE_SLOPE).norm()


def test_a_save_that_fails_half_way_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit):
        train_line(tmp_path, stage=interrupt_at(LineStage(), signal.SIGTERM, 20))
    before = (tmp_path / "resume.pt").read_bytes()

    def fail_half_way(state: object, path: Path) -> None:
        path.write_bytes(b"half of it")
        raise RuntimeError("PytorchStreamWriter failed writing file data.pkl")

    with monkeypatch.context() as context:
        context.setattr(torch, "save", fail_half_way)
        with pytest.raises(OutputError, match="cannot be written") as caught:
            train_line(tmp_path)

    assert caught.value.hint
    assert (tmp_path / "resume.pt").read_bytes() == before
    assert not list(tmp_path.glob(".*part*"))
    uninterrupted, _ = train_line(tmp_path / "whole")
    resumed, _ = train_line(tmp_path)
    assert torch.equal(read_slope(uninterrupted), read_slope(resumed))


def test_a_damaged_state_is_refused_with_its_name(tmp_path: Path) -> None:
    train_line(tmp_path, replace(TINY_SETTINGS, steps=4))
    (tmp_path / "resume.pt").write_bytes(b"no state")
    with pytest.raises(InputError, match=r"resume\.pt is damaged"):
        train_line(tmp_path)


def test_a_state_that_would_run_code_is_not_read(tmp_path: Path) -> None:
    import pickle

    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (os.mkdir, (str(tmp_path / "sprung"),))

    (tmp_path / "resume.pt").write_bytes(pickle.dumps({"step": 1, "trap": Trap()}, protocol=2))
    with pytest.raises(InputError, match="damaged"):
        train_line(tmp_path)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.filterwarnings("ignore")  # TensorBoard's own, and TensorFlow's beside it
def test_tensorboard_hears_the_log(tmp_path: Path) -> None:
    events = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator",
        reason="it comes with `make legacy`",
    )
    train_line(tmp_path, replace(TINY_SETTINGS, steps=40, tensorboard=True))

    logged = events.EventAccumulator(str(tmp_path / "tensorboard"))
    logged.Reload()
    assert [event.step for event in logged.Scalars("loss")] == [20, 40]
    assert [event.step for event in logged.Scalars("val_loss")] == [20, 40]
    assert logged.Scalars("learning_rate/new")[0].value == pytest.approx(0.1)


def test_without_tensorboard_it_is_said_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(MissingDependencyError, match="tensorboard is needed") as caught:
        train_line(tmp_path, replace(TINY_SETTINGS, tensorboard=True))
    assert "pip install 'loris[tensorboard]'" in caught.value.hint


def test_steps_are_those_of_the_epochs() -> None:
    settings = replace(TINY_SETTINGS, steps=0, epochs=3.0, batch_size=8)
    assert count_optimizer_steps(settings, 100) == 38  # 300 examples by eights
    assert count_optimizer_steps(TINY_SETTINGS, 100) == 60


def torchrun(
    folder: Path, world: int, batch: int, *options: str, n_steps: int = 12
) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "OMP_NUM_THREADS": "1",
        "PYTHONFAULTHANDLER": "1",  # a process that crashes says where
    }
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc-per-node={world}", str(SCRIPT), str(folder)]
    command += [str(n_steps), str(batch), *options]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=240, check=False
    )


def losses(folder: Path) -> dict[int, float]:
    return {row["step"]: row["loss"] for row in read_metrics(folder) if "loss" in row}


def test_two_processes_are_one_with_the_doubled_batch_and_a_dead_one_is_made_up_for(
    tmp_path: Path,
) -> None:
    one = torchrun(tmp_path / "one", 1, 8)
    two = torchrun(tmp_path / "two", 2, 8)
    assert one.returncode == two.returncode == 0, one.stderr + two.stderr
    single, shared = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert sorted(single) == list(range(1, 13))
    np.testing.assert_allclose(
        [shared[k] for k in sorted(single)], [single[k] for k in sorted(single)], rtol=1e-4
    )

    killed = torchrun(tmp_path / "killed", 2, 8, "--kill-at", "7")
    assert killed.returncode != 0
    assert not (tmp_path / "killed" / "slope.json").exists()
    resumed = torchrun(tmp_path / "killed", 2, 8)
    assert resumed.returncode == 0, resumed.stderr
    assert losses(tmp_path / "killed") == shared
    ends = [(tmp_path / name / "slope.json").read_text() for name in ("two", "killed")]
    assert ends[0] == ends[1]


@pytest.mark.slow
def test_parted_processes_are_as_one_and_a_dead_one_is_made_up_for(tmp_path: Path) -> None:
    """FSDP2: three parameters with two processes, so one has two of them and one has one."""
    two = torchrun(tmp_path / "two", 2, 8)
    sharded = torchrun(tmp_path / "parted", 2, 8, "--shard", "--accumulate", "2")
    assert two.returncode == sharded.returncode == 0, two.stderr + sharded.stderr
    curve = losses(tmp_path / "parted")
    np.testing.assert_allclose(
        list(curve.values()), list(losses(tmp_path / "two").values()), rtol=1e-4
    )

    killed = torchrun(tmp_path / "killed", 2, 8, "--shard", "--kill-at", "7")
    assert killed.returncode != 0
    resumed = torchrun(tmp_path / "killed", 2, 8, "--shard")
    assert resumed.returncode == 0, resumed.stderr
    np.testing.assert_allclose(
        list(losses(tmp_path / "killed").values()), list(curve.values()), rtol=1e-4
    )


@pytest.mark.parametrize("max_elements", [1, 10, 1000])
def test_parted_tensors_are_whole_however_many_travel_at_a_time(
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


def test_a_parted_network_learns_and_is_kept_as_a_whole_one(tmp_path: Path) -> None:
    """The paper's network, small; what is kept goes on in one process, and the other way."""
    single = torchrun(tmp_path / "alone", 1, 4, "--unet", n_steps=6)
    sharded = torchrun(tmp_path / "parted", 2, 4, "--unet", "--shard", n_steps=3)
    assert single.returncode == sharded.returncode == 0, single.stderr + sharded.stderr
    states = [
        torch.load(tmp_path / name / "resume.pt", weights_only=True)
        for name in ("alone", "parted")
    ]
    for part in ("model", "ema"):
        one, other = (state[part] for state in states)
        assert {k: v.shape for k, v in one.items()} == {k: v.shape for k, v in other.items()}
        assert {type(value) for value in other.values()} == {torch.Tensor}

    resumed = torchrun(tmp_path / "parted", 1, 4, "--unet", n_steps=5)
    resharded = torchrun(tmp_path / "parted", 2, 4, "--unet", "--shard", n_steps=6)
    assert resumed.returncode == resharded.returncode == 0, resumed.stderr + resharded.stderr
    expected, found = losses(tmp_path / "alone"), losses(tmp_path / "parted")
    assert sorted(found) == list(range(1, 7))
    np.testing.assert_allclose(list(found.values()), list(expected.values()), rtol=1e-3)
    weights = [load_file(tmp_path / n / "last.safetensors") for n in ("alone", "parted")]
    assert weights[0].keys() == weights[1].keys()
    # Adam steps by the sign of a gradient that is nearly nothing, so a few weights differ more.
    one, other = (torch.cat([w[key].flatten() for key in sorted(w)]) for w in weights)
    assert (one - other).norm() < 1e-3 * one.norm()
