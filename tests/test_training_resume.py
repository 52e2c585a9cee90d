"""Exact resume of runs that draw from the global random generators."""

import os
import random
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders import make_clip, make_poses, write_clip
from tiny_models import TINY_PAPER_CONFIG
from torch import Tensor, nn
from torch.utils.data import Dataset
from training_line import TINY_SETTINGS, LinearModel, LineStage, NoisyLineDataset

from loris_cli.pose.keypoints import write_poses
from loris_cli.training.checkpoints import StageFolder
from loris_cli.training.datasets import TrainingClips
from loris_cli.training.distributed import DistributedContext
from loris_cli.training.loop import TrainingStage, train
from loris_cli.training.paper_stage import PaperStage
from loris_cli.training.settings import TrainingSettings, resolve_settings

SINGLE_PROCESS = DistributedContext(rank=0, world_size=1, device=torch.device("cpu"))


class RandomModel(LinearModel):
    """Linear model whose loss draws from the generators of torch, numpy and Python."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.3)

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        noise = 0.1 * float(np.random.normal()) + 0.1 * random.random()
        return super().forward({**batch, "x": self.dropout(batch["x"])}) * (1 + noise)


def make_random_stage() -> LineStage:
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)
    stage = LineStage()
    stage.loss_module = RandomModel()
    return stage


class InterruptedDataset(Dataset[dict[str, Tensor]]):
    """Another data set; sends SIGTERM to this process when an example is read."""

    def __init__(self, dataset: Dataset[dict[str, Tensor]], last_example: int) -> None:
        self.dataset, self.last_example, self.process = dataset, last_example, os.getpid()

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        if index == self.last_example:
            os.kill(self.process, signal.SIGTERM)
        return self.dataset[index]


def run(
    folder: Path, make_stage: Callable[[], Any], settings: TrainingSettings, stop_at: int
) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """Train in one run or, with ``stop_at``, in two; return the weights and the metrics."""
    folder.mkdir()
    rows: list[dict[str, Any]] = []

    def start(stage: TrainingStage) -> None:
        train(stage, settings, StageFolder(folder), SINGLE_PROCESS, on_log=rows.append)

    if stop_at:
        stage = make_stage()
        stage.train_set = InterruptedDataset(stage.train_set, stop_at)
        with pytest.raises(SystemExit):
            start(stage)
        assert 0 < torch.load(folder / "resume.pt", weights_only=True)["step"] < settings.steps
        torch.manual_seed(7)
        np.random.seed(7)
        random.seed(7)
    stage = make_stage()
    start(stage)
    return stage.loss_module.state_dict(), rows


def assert_same_weights(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("workers", [0, 2])
def test_resumed_run_with_dropout_is_bit_identical(tmp_path: Path, workers: int) -> None:
    settings = replace(TINY_SETTINGS, steps=30, log_every=10, loader_workers=workers)
    uninterrupted, rows = run(tmp_path / "one", make_random_stage, settings, 0)
    resumed, resumed_rows = run(tmp_path / "two", make_random_stage, settings, 13 * 8)
    assert_same_weights(uninterrupted, resumed)
    assert [row.get("loss") for row in rows] == [row.get("loss") for row in resumed_rows]


def test_validation_does_not_change_the_random_numbers_of_training(tmp_path: Path) -> None:
    class RandomValSet(NoisyLineDataset):
        def __getitem__(self, index: int) -> dict[str, Tensor]:
            torch.rand(1)
            return super().__getitem__(index)

    def make_stage() -> LineStage:
        stage = make_random_stage()
        stage.val_set = RandomValSet(1)
        return stage

    settings = replace(TINY_SETTINGS, steps=9)
    seldom, _ = run(tmp_path / "one", make_stage, settings, 0)
    often, _ = run(tmp_path / "two", make_stage, replace(settings, validate_every=2), 0)
    assert_same_weights(seldom, often)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_resumed_run_of_the_paper_preset_is_bit_identical(tmp_path: Path, workers: int) -> None:
    """The paper's network without visual features: the ST-GCN has dropout and batch norms."""
    clip = make_clip("a", duration_s=2.0, poses="poses/a.npz")
    arrays = {
        "pose_peaks_s": np.array([0.5, 1.0]),
        "pose_peak_strengths": np.ones(2),
        "motion_energy": np.ones(32),
    }
    audio = np.random.default_rng(0).normal(0, 0.1, 44_100)
    write_clip(tmp_path, clip, audio, np.array([1.0]), **arrays)
    points = np.random.default_rng(1).uniform(0, 100, (32, 17, 2))
    write_poses(tmp_path / clip.poses, make_poses(points))
    clips = TrainingClips(data_dir=tmp_path, train=[clip], val=[clip])
    settings = resolve_settings(
        preset="paper", stage="conditional", recipe="default", subset="clicks",
        overrides=["steps=4", "batch_size=2", "validation_clips=1", "validation_samples=0",
                   f"loader_workers={workers}", "learning_rate=0.01"],
    )  # fmt: skip
    config = replace(
        TINY_PAPER_CONFIG, n_genres=12, visual_projection="none", motion_encoder=True
    )

    def make_stage() -> PaperStage:
        return PaperStage(clips, settings, config=config)

    uninterrupted, _ = run(tmp_path / "one", make_stage, settings, 0)
    resumed, _ = run(tmp_path / "two", make_stage, settings, 3)
    assert_same_weights(uninterrupted, resumed)
