"""Speed of ``loris train`` against a minimal loop: ``python benchmarks/training.py``.

Trains the ``mini`` denoiser on random latents, alternately with a minimal loop (no weight
average, log, checkpoint or validation) and with the loop of ``loris train``, on the same
examples. Prints steps per second of both, their ratio, and the fraction of time that
``loris train`` waits for data.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset

from loris_cli.models.generator_interface import ClipFeatures
from loris_cli.models.mini_unet import MiniDenoiser
from loris_cli.training.checkpoints import StageFolder, Weights
from loris_cli.training.datasets import ClipAnnotations, Example, LatentDataset
from loris_cli.training.distributed import DistributedContext
from loris_cli.training.loop import train
from loris_cli.training.losses import DenoiserLoss
from loris_cli.training.mini_stages import MINI_DENOISER_CONFIG
from loris_cli.training.settings import TrainingSettings


class RandomDataStage:
    """Training stage on random data, with the same cost as on real data."""

    backbone_keys: frozenset[str] = frozenset()
    n_clips = 16

    def __init__(self) -> None:
        """Build the network and the examples."""
        rng = np.random.default_rng(0)
        torch.manual_seed(0)
        self.loss_module: nn.Module = DenoiserLoss(MiniDenoiser(MINI_DENOISER_CONFIG))
        latents = [
            rng.standard_normal((MINI_DENOISER_CONFIG.latent_channels, 516), dtype=np.float32)
            for _ in range(self.n_clips)
        ]
        keypoints = rng.uniform(0, 100, (384, 17, 3))
        features = ClipFeatures(
            duration_s=24.0,
            peaks_s=np.arange(1.0, 23.0, 0.7),
            strengths=np.ones(32),
            energy=np.full(384, 0.5),
            genre="pop",
            keypoints=keypoints,
            note_latent=rng.standard_normal(
                (MINI_DENOISER_CONFIG.note_latent_channels, 516), dtype=np.float32
            ),
        )
        self.train_set: Dataset[Example] = LatentDataset(
            latents=latents,
            annotations=[ClipAnnotations(features, features)] * self.n_clips,
            config=MINI_DENOISER_CONFIG,
            seed=0,
            condition_dropout=0.1,
        )
        self.val_set = self.train_set

    def initialize(self) -> None:
        """Do nothing."""

    def export_weights(self, module: nn.Module) -> Weights:
        """Return no weights."""
        return {}, {}

    def render_samples(self, module: nn.Module, folder: Path, step: int) -> dict[str, float]:
        """Generate nothing."""
        return {}


def time_plain_loop(stage: RandomDataStage, steps: int, batch_size: int) -> float:
    """Return seconds per step of a minimal loop."""
    optimizer = torch.optim.AdamW(stage.loss_module.parameters(), lr=1e-4)
    started = time.perf_counter()
    for step in range(steps):
        rows = [stage.train_set[step * batch_size + k] for k in range(batch_size)]
        examples = {key: torch.stack([row[key] for row in rows]) for key in rows[0]}
        optimizer.zero_grad()
        stage.loss_module(examples).backward()
        torch.nn.utils.clip_grad_norm_(stage.loss_module.parameters(), 0.5)
        optimizer.step()
    return (time.perf_counter() - started) / steps


def time_loris_loop(stage: RandomDataStage, settings: TrainingSettings) -> tuple[float, float]:
    """Return seconds per step of `train`, and the fraction of time spent waiting for data."""
    rows: list[dict[str, Any]] = []
    context = DistributedContext(rank=0, world_size=1, device=torch.device("cpu"))
    with tempfile.TemporaryDirectory() as name:
        folder = StageFolder(Path(name))
        started = time.perf_counter()
        train(stage, settings, folder, context, on_log=rows.append)
        step_s = (time.perf_counter() - started) / settings.steps
        last = [json.loads(row) for row in folder.metrics_path.read_text().splitlines()][-1]
    return step_s, float(last["data_wait_fraction"])


def main() -> None:
    """Measure both loops alternately and print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--workers", type=int, default=0)
    args = parser.parse_args()
    settings = replace(
        TrainingSettings(),
        steps=args.steps,
        batch_size=args.batch,
        loader_workers=args.workers,
        validation_clips=0,
        validation_samples=0,
        save_every_s=1e9,
    )
    stage = RandomDataStage()
    time_plain_loop(stage, 1, args.batch)
    timings = [
        (time_plain_loop(stage, args.steps, args.batch), time_loris_loop(stage, settings))
        for _ in range(args.turns)
    ]
    plain_s = statistics.median(first for first, _ in timings)
    loris_s = statistics.median(second for _, (second, _) in timings)
    wait_fraction = statistics.median(fraction for _, (_, fraction) in timings)
    print(
        f"{os.cpu_count()} cores, torch {torch.__version__}, {torch.get_num_threads()} threads,"
        f" batch {args.batch}, {args.turns} turns of {args.steps} steps\n"
        f"plain loop {1 / plain_s:.3f} steps/s, loris train {1 / loris_s:.3f} steps/s"
        f" (including one checkpoint), ratio {plain_s / loris_s:.3f};"
        f" waiting for data {wait_fraction:.1%}"
    )


if __name__ == "__main__":
    main()
