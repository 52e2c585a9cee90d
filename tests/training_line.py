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
from loris_cli.models.paper_unet import RHYTHM_OFFSET_FRAMES, PaperModel
from loris_cli.training.checkpoints import StageFolder, Weights
from loris_cli.training.distributed import init_distributed
from loris_cli.training.fsdp import gather_state
from loris_cli.training.loop import LogRecord, train
from loris_cli.training.losses import PaperLoss
from loris_cli.training.settings import TrainingSettings

TRUE_SLOPE = torch.tensor([1.0, -2.0, 0.5])
TINY_SETTINGS = TrainingSettings(
    steps=60,
    batch_size=8,
    learning_rate=0.1,
    warmup_steps=5,
    weight_decay=0.0,
    ema_decay=0.9,
    validate_every=20,
    validation_clips=16,
    validation_samples=1,
    save_every_s=1e9,
)


class NoisyLineDataset(Dataset[dict[str, Tensor]]):
    """Noisy points of the line; each a function of its number."""

    def __init__(self, seed: int, bad: Callable[[int], bool] = lambda number: False) -> None:
        self.seed, self.is_bad = seed, bad

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        x = np.random.default_rng([self.seed, index]).normal(size=4).astype(np.float32)
        y = float(x[:3] @ TRUE_SLOPE.numpy() + 0.1 * x[3])
        return {
            "x": torch.from_numpy(x[:3]),
            "y": torch.tensor(np.nan if self.is_bad(index) else y),
        }


class LinearModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.zeros(3))

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        return ((batch["x"] * self.slope).sum(1) - batch["y"]).square().mean()


class LineStage:
    backbone_keys: frozenset[str] = frozenset()

    def __init__(self, is_bad: Callable[[int], bool] = lambda number: False) -> None:
        self.loss_module: nn.Module = LinearModel()
        self.train_set: Dataset[dict[str, Tensor]] = NoisyLineDataset(0, is_bad)
        self.val_set: Dataset[dict[str, Tensor]] = NoisyLineDataset(1)
        self.n_clips = 100
        self.n_initializations = 0
        self.sampled_steps: list[int] = []

    def initialize(self) -> None:
        self.n_initializations += 1

    def export_weights(self, module: nn.Module) -> Weights:
        return module.state_dict(), {}

    def render_samples(self, module: nn.Module, folder: Path, step: int) -> dict[str, float]:
        self.sampled_steps.append(step)
        return {"onset_recall": 0.5}


TINY_PAPER_CONFIG = PaperConfig(
    channels=64,
    multipliers=(1, 1, 2),
    factors=(2, 2),
    num_blocks=(1, 1),
    attentions=(False, True),
    heads=1,
    head_features=16,
    context_features=16,
    n_visual_frames=1,
    n_pose_frames=8,
    n_genres=12,
    visual_projection="none",
)
"""Of clips of half a second."""


class RandomAudioDataset(NoisyLineDataset):
    """Noise in place of audio, with conditions; each example a function of its index."""

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        self.is_bad(number)
        rng = np.random.default_rng([self.seed, number])

        def normal(*shape: int) -> Tensor:
            return torch.from_numpy(rng.normal(size=shape).astype(np.float32))

        rhythm = (normal(TINY_PAPER_CONFIG.n_pose_frames - RHYTHM_OFFSET_FRAMES) > 0).float()
        return {
            "clean": 0.1 * normal(2, TINY_PAPER_CONFIG.n_samples),
            "noise": normal(2, TINY_PAPER_CONFIG.n_samples),
            "sigma": torch.tensor(0.1),
            "rhythm": rhythm,
            "onset_envelope": rhythm,
            "pose": torch.zeros(TINY_PAPER_CONFIG.n_pose_frames, 17, 3),
            "genre": torch.tensor(number % 12),
            "drop_mask": torch.tensor(number % 4 == 0),
        }


class TinyUNetStage(LineStage):
    """The paper's network, small: levels, an encoder of rhythm in each block, a null."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.loss_module = PaperLoss(PaperModel(TINY_PAPER_CONFIG))
        self.train_set, self.val_set = RandomAudioDataset(0), RandomAudioDataset(1)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("steps", type=int)
    parser.add_argument("batch", type=int)
    parser.add_argument("--accumulate", type=int, default=1)
    parser.add_argument("--kill-at", type=int, default=-1)
    parser.add_argument("--shard", action="store_true")
    parser.add_argument("--unet", action="store_true")
    args = parser.parse_args()
    stage = TinyUNetStage() if args.unet else LineStage()
    settings = replace(
        TINY_SETTINGS,
        steps=args.steps,
        batch_size=args.batch,
        accumulation_steps=args.accumulate,
        log_every=1,
        save_every_s=0.0,
        fsdp=args.shard,
    )
    if args.unet:
        settings = replace(settings, learning_rate=1e-3, validation_clips=2)
    args.folder.mkdir(exist_ok=True)
    with init_distributed("cpu") as context:
        examples: Any = stage.train_set

        def kill_at_step(number: int) -> bool:
            if number // args.batch == args.kill_at and context.rank == context.world_size - 1:
                os.kill(os.getpid(), signal.SIGKILL)
            return False

        examples.is_bad = kill_at_step
        rows: list[LogRecord] = []
        train(stage, settings, StageFolder(args.folder), context, on_log=rows.append)
        state = gather_state(stage.loss_module.state_dict())
        if context.is_main_process and not args.unet:
            slope = state["slope"].tolist()
            (args.folder / "slope.json").write_text(json.dumps(slope))


if __name__ == "__main__":
    main()
