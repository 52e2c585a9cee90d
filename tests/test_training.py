"""The training loop: learns, stops when asked, goes on to the same weights."""

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from loris_cli.dataset.manifest import Clip, read_manifest, write_manifest
from loris_cli.errors import InputError
from loris_cli.training.loop import LoopConfig, learning_rate, train

CONFIG = LoopConfig(steps=60, learning_rate=0.1, warmup_steps=5, weight_decay=0.0)


class Line(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.zeros(3))


def loss_of(model: Line, step: int) -> torch.Tensor:
    x = torch.from_numpy(np.random.default_rng(step).normal(size=(8, 3)).astype(np.float32))
    return (
        ((x * model.slope).sum(1) - (x * torch.tensor([1.0, -2.0, 0.5])).sum(1)).square().mean()
    )


def run(folder: Path, *, stop_at: int | None = None, config: LoopConfig = CONFIG) -> Line:
    model = Line()

    def loss_at(step: int) -> torch.Tensor:
        if step == stop_at:
            os.kill(os.getpid(), signal.SIGTERM)
        return loss_of(model, step)

    train(
        model,
        loss_at,
        config=config,
        state_path=folder / "state.pt",
        log_path=folder / "log.jsonl",
    )
    return model


def test_it_learns(tmp_path: Path) -> None:
    model = run(tmp_path)

    torch.testing.assert_close(
        model.slope.detach(), torch.tensor([1.0, -2.0, 0.5]), atol=0.15, rtol=0
    )
    rows = [json.loads(row) for row in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [20, 40, 60]
    assert rows[-1]["loss"] < 0.1 * rows[0]["loss"]


def test_stopped_by_sigterm_it_exits_with_0_and_resumes_to_the_same_bits(
    tmp_path: Path,
) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "halves").mkdir()
    whole = run(tmp_path / "whole")

    with pytest.raises(SystemExit) as stopped:
        run(tmp_path / "halves", stop_at=23)
    resumed = run(tmp_path / "halves")

    assert stopped.value.code == 0
    assert torch.equal(whole.slope, resumed.slope)
    one, other = (
        torch.load(tmp_path / name / "state.pt", weights_only=True)
        for name in ("whole", "halves")
    )
    assert torch.equal(one["average"]["slope"], other["average"]["slope"])


def test_a_gradient_that_is_not_finite_is_told_with_its_step(tmp_path: Path) -> None:
    model = Line()

    with pytest.raises(FloatingPointError, match="step 0"):
        train(
            model,
            lambda step: model.slope.sum() * float("nan"),
            config=CONFIG,
            state_path=tmp_path / "state.pt",
            log_path=tmp_path / "log.jsonl",
        )


def test_the_rate_rises_and_falls_to_nothing() -> None:
    rates = [learning_rate(step, CONFIG) for step in range(61)]

    assert rates[0] == pytest.approx(0.02)
    assert max(rates) == max(rates[3:7])
    assert rates[60] == pytest.approx(0, abs=1e-9)


CLIP = Clip(
    id="a",
    subset="synthetic",
    split="train",
    duration_s=24.0,
    genre="skate",
    source="synthesised",
    audio="audio/a.flac",
    rhythm="rhythm/a.npz",
)


def test_a_manifest_comes_back_as_it_went(tmp_path: Path) -> None:
    write_manifest(tmp_path, [CLIP])

    assert read_manifest(tmp_path) == [CLIP]


@pytest.mark.parametrize(
    "row",
    [
        "not json",
        "[]",
        '{"schema": 2}',
        '{"schema": 1, "id": "a"}',
        json.dumps({**CLIP.__dict__, "duration_s": "long"}),
        json.dumps({**CLIP.__dict__, "audio": "../../secret.flac"}),
        json.dumps({**CLIP.__dict__, "rhythm": "/etc/passwd"}),
    ],
)
def test_a_row_that_is_no_clip_is_refused_with_its_line(tmp_path: Path, row: str) -> None:
    (tmp_path / "manifest.jsonl").write_text(json.dumps(CLIP.__dict__) + "\n" + row + "\n")

    with pytest.raises(InputError, match=r"manifest\.jsonl:2"):
        read_manifest(tmp_path)


def test_a_folder_without_a_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no readable"):
        read_manifest(tmp_path)
