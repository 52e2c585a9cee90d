"""A stage small enough to run many times: a line through noise. A program too, for torchrun.

python training_line.py FOLDER STEPS BATCH [--kill-at STEP]
"""

import argparse
import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from loris_cli.training.loop import Row, train
from loris_cli.training.processes import joined
from loris_cli.training.run_folder import StageFolder
from loris_cli.training.settings import Settings

TRUTH = torch.tensor([1.0, -2.0, 0.5])
SETTINGS = Settings(
    steps=60,
    batch=8,
    learning_rate=0.1,
    warmup_steps=5,
    weight_decay=0.0,
    ema=0.9,
    validate_every=20,
    validate_clips=16,
    sounds=1,
    save_every_s=1e9,
)


class Points(Dataset[dict[str, Tensor]]):
    """Noisy points of the line; each a function of its number."""

    def __init__(self, seed: int, bad: Callable[[int], bool] = lambda number: False) -> None:
        self.seed, self.bad = seed, bad

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        x = np.random.default_rng([self.seed, number]).normal(size=4).astype(np.float32)
        y = float(x[:3] @ TRUTH.numpy() + 0.1 * x[3])
        return {
            "x": torch.from_numpy(x[:3]),
            "y": torch.tensor(np.nan if self.bad(number) else y),
        }


class Line(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.zeros(3))

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        return ((batch["x"] * self.slope).sum(1) - batch["y"]).square().mean()


class LineStage:
    backbone: frozenset[str] = frozenset()

    def __init__(self, bad: Callable[[int], bool] = lambda number: False) -> None:
        self.learner: nn.Module = Line()
        self.examples: Dataset[dict[str, Tensor]] = Points(0, bad)
        self.held_out: Dataset[dict[str, Tensor]] = Points(1)
        self.n_clips = 100
        self.begun = 0
        self.heard: list[int] = []

    def begin(self) -> None:
        self.begun += 1

    def weights(self, learner: nn.Module) -> tuple[dict[str, Tensor], dict[str, str]]:
        return learner.state_dict(), {}

    def listen(self, learner: nn.Module, folder: Path, step: int) -> dict[str, float]:
        self.heard.append(step)
        return {"hit": 0.5}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("steps", type=int)
    parser.add_argument("batch", type=int)
    parser.add_argument("--accumulate", type=int, default=1)
    parser.add_argument("--kill-at", type=int, default=-1)
    given = parser.parse_args()
    stage = LineStage()
    settings = replace(
        SETTINGS,
        steps=given.steps,
        batch=given.batch,
        accumulate=given.accumulate,
        log_every=1,
        save_every_s=0.0,
    )
    given.folder.mkdir(exist_ok=True)
    with joined("cpu") as processes:
        examples: Any = stage.examples

        def dies(number: int) -> bool:
            if number // given.batch == given.kill_at and processes.rank == processes.world - 1:
                os.kill(os.getpid(), signal.SIGKILL)
            return False

        examples.bad = dies
        rows: list[Row] = []
        train(stage, settings, StageFolder(given.folder), processes, tell=rows.append)
        if processes.first:
            slope = stage.learner.state_dict()["slope"].tolist()
            (given.folder / "slope.json").write_text(json.dumps(slope))


if __name__ == "__main__":
    main()
