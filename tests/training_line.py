"""A stage small enough to run many times: a line through noise. A program too, for torchrun.

python training_line.py FOLDER STEPS BATCH [--kill-at STEP] [--shard] [--unet]
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

from loris_cli.models.paper_config import PaperConfig
from loris_cli.models.paper_unet import LEAD, PaperModel
from loris_cli.training.checkpoints import StageFolder
from loris_cli.training.distributed import joined
from loris_cli.training.fsdp import whole
from loris_cli.training.loop import Row, train
from loris_cli.training.paper_stage import PaperLearner
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


SMALL = PaperConfig(
    channels=64,
    multipliers=(1, 1, 2),
    factors=(2, 2),
    num_blocks=(1, 1),
    attentions=(False, True),
    heads=1,
    head_features=16,
    features=16,
    video_length=1,
    pose_length=8,
    n_genres=12,
    visual="none",
)
"""Of clips of half a second."""


class Sounds(Points):
    """Noise in the place of sound, and what is told of it; each a function of its number."""

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        self.bad(number)
        rng = np.random.default_rng([self.seed, number])

        def normal(*shape: int) -> Tensor:
            return torch.from_numpy(rng.normal(size=shape).astype(np.float32))

        rhythm = (normal(SMALL.pose_length - LEAD) > 0).float()
        return {
            "clean": 0.1 * normal(2, SMALL.n_samples),
            "noise": normal(2, SMALL.n_samples),
            "sigma": torch.tensor(0.1),
            "rhythm": rhythm,
            "envelope": rhythm,
            "motion": torch.zeros(SMALL.pose_length, 17, 3),
            "genre": torch.tensor(number % 12),
            "dropped": torch.tensor(number % 4 == 0),
        }


class UNetStage(LineStage):
    """The paper's network, small: levels, an encoder of rhythm in each block, a null."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.learner = PaperLearner(PaperModel(SMALL))
        self.examples, self.held_out = Sounds(0), Sounds(1)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("steps", type=int)
    parser.add_argument("batch", type=int)
    parser.add_argument("--accumulate", type=int, default=1)
    parser.add_argument("--kill-at", type=int, default=-1)
    parser.add_argument("--shard", action="store_true")
    parser.add_argument("--unet", action="store_true")
    given = parser.parse_args()
    stage = UNetStage() if given.unet else LineStage()
    settings = replace(
        SETTINGS,
        steps=given.steps,
        batch=given.batch,
        accumulate=given.accumulate,
        log_every=1,
        save_every_s=0.0,
        shard=given.shard,
    )
    if given.unet:
        settings = replace(settings, learning_rate=1e-3, validate_clips=2)
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
        kept = whole(stage.learner.state_dict())
        if processes.first and not given.unet:
            slope = kept["slope"].tolist()
            (given.folder / "slope.json").write_text(json.dumps(slope))


if __name__ == "__main__":
    main()
