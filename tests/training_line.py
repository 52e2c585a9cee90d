"""Small training stages: a line fitted to noisy points, and a tiny U-Net on noise.

Also a script for torchrun:

    python training_line.py FOLDER STEPS BATCH_SIZE [options of `main`]
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
from tiny_models import TINY_PAPER_CONFIG
from torch import Tensor, nn
from torch.utils.data import Dataset

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
    """Noisy points of the line; each is a function of the seed and its index."""

    def __init__(self, seed: int, is_nan: Callable[[int], bool] = lambda index: False) -> None:
        self.seed, self.is_nan = seed, is_nan

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        x = np.random.default_rng([self.seed, index]).normal(size=4).astype(np.float32)
        y = float(x[:3] @ TRUE_SLOPE.numpy() + 0.1 * x[3])
        return {
            "x": torch.from_numpy(x[:3]),
            "y": torch.tensor(np.nan if self.is_nan(index) else y),
        }


class LinearModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.zeros(3))

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        return ((batch["x"] * self.slope).sum(1) - batch["y"]).square().mean()


class LineStage:
    """Training stage that fits the slope of the line."""

    backbone_keys: frozenset[str] = frozenset()

    def __init__(self, is_nan: Callable[[int], bool] = lambda index: False) -> None:
        self.loss_module: nn.Module = LinearModel()
        self.train_set: Dataset[dict[str, Tensor]] = NoisyLineDataset(0, is_nan)
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


# Two levels, one of them without attention, and clips of half a second.
UNET_CONFIG = replace(
    TINY_PAPER_CONFIG,
    multipliers=(1, 1, 2),
    factors=(2, 2),
    num_blocks=(1, 1),
    attentions=(False, True),
    n_visual_frames=1,
    n_pose_frames=8,
    n_genres=12,
    visual_projection="none",
)


class RandomAudioDataset(NoisyLineDataset):
    """Noise as audio, with conditions; each example is a function of the seed and its index."""

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        self.is_nan(index)
        rng = np.random.default_rng([self.seed, index])

        def normal(*shape: int) -> Tensor:
            return torch.from_numpy(rng.normal(size=shape).astype(np.float32))

        rhythm = (normal(UNET_CONFIG.n_pose_frames - RHYTHM_OFFSET_FRAMES) > 0).float()
        return {
            "clean": 0.1 * normal(2, UNET_CONFIG.n_samples),
            "noise": normal(2, UNET_CONFIG.n_samples),
            "sigma": torch.tensor(0.1),
            "rhythm": rhythm,
            "onset_envelope": rhythm,
            "pose": torch.zeros(UNET_CONFIG.n_pose_frames, 17, 3),
            "genre": torch.tensor(index % 12),
            "drop_mask": torch.tensor(index % 4 == 0),
        }


class TinyUNetStage(LineStage):
    """Training stage of the paper's network with a rhythm encoder in each block."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.loss_module = PaperLoss(PaperModel(UNET_CONFIG))
        self.train_set, self.val_set = RandomAudioDataset(0), RandomAudioDataset(1)


def run_stage(
    folder: Path,
    steps: int,
    batch_size: int,
    *,
    accumulate: int = 1,
    kill_at: int = -1,
    shard: bool = False,
    unet: bool = False,
) -> None:
    """Train a stage in all processes of the launcher; kill the last one at step ``kill_at``."""
    stage = TinyUNetStage() if unet else LineStage()
    settings = replace(
        TINY_SETTINGS,
        steps=steps,
        batch_size=batch_size,
        accumulation_steps=accumulate,
        log_every=1,
        save_every_s=0.0,
        fsdp=shard,
    )
    if unet:
        # Gathering the many sharded tensors takes long, so only the last step is saved.
        settings = replace(settings, learning_rate=1e-3, validation_clips=2, save_every_s=1e9)
    folder.mkdir(exist_ok=True)
    with init_distributed("cpu") as context:
        train_set: Any = stage.train_set

        def kill_at_step(index: int) -> bool:
            if index // batch_size == kill_at and context.rank == context.world_size - 1:
                os.kill(os.getpid(), signal.SIGKILL)
            return False

        train_set.is_nan = kill_at_step
        records: list[LogRecord] = []
        train(stage, settings, StageFolder(folder), context, on_log=records.append)
        state = gather_state(stage.loss_module.state_dict())
        if context.is_main_process and not unet:
            (folder / "slope.json").write_text(json.dumps(state["slope"].tolist()))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("steps", type=int)
    parser.add_argument("batch_size", type=int)
    parser.add_argument("--accumulate", type=int, default=1)
    parser.add_argument("--kill-at", type=int, default=-1)
    parser.add_argument("--shard", action="store_true")
    parser.add_argument("--unet", action="store_true")
    run_stage(**vars(parser.parse_args()))


if __name__ == "__main__":
    main()
