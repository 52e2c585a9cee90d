"""A tiny trained baseline: it places clicks whose level depends on the energy."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from loris_cli.array_types import Samples
from loris_cli.baselines.learned_method import (
    Example,
    LearnedMethod,
    PreparedClip,
    TrainingClip,
)
from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.errors import InputError
from loris_cli.models.generator_interface import ProgressCallback, VideoFeatures


@dataclass(frozen=True, kw_only=True)
class TinyConfig:
    width: int = 2
    compat: Literal["paper", "official"] = "paper"


class TinyNetwork(nn.Module):
    def __init__(self, config: TinyConfig) -> None:
        super().__init__()
        self.config = config
        self.scale = nn.Linear(1, config.width)

    def forward(self, energy: Tensor) -> Tensor:
        out: Tensor = self.scale(energy[..., None]).mean(dim=-1)
        return out


class TinyLoss(nn.Module):
    def __init__(self, network: nn.Module, codec: nn.Module | None) -> None:
        super().__init__()
        assert codec is None
        self.network = network

    def forward(self, batch: Example) -> Tensor:
        loss: Tensor = (
            (self.network(batch["energy"]).mean(dim=1) - batch["level"]).square().mean()
        )
        return loss


def prepare_clip(clip: TrainingClip, config: TinyConfig, codec: object) -> PreparedClip:
    if clip.features.keypoints is None:
        raise InputError("it has no poses")
    level = np.abs(clip.read_samples()).mean()
    return {"energy": clip.features.energy.astype(np.float32), "level": np.array(level)}


def draw_example(clip: PreparedClip, config: TinyConfig, rng: np.random.Generator) -> Example:
    start = int(rng.integers(len(clip["energy"]) - 8))
    energy = torch.from_numpy(clip["energy"][start : start + 8])
    return {"energy": energy, "level": torch.tensor(float(clip["level"]))}


@dataclass(frozen=True, kw_only=True)
class TinyGenerator:
    network: nn.Module

    @torch.no_grad()
    def generate(
        self, features: VideoFeatures, *, seed: int, progress: ProgressCallback
    ) -> Iterator[Samples]:
        samples = np.zeros(round(features.duration_s * SAMPLE_RATE_HZ), np.float32)
        level = self.network(torch.from_numpy(features.energy.astype(np.float32))).mean()
        samples[(features.peaks_s * SAMPLE_RATE_HZ).astype(int)] = 0.5 + 0.1 * float(
            torch.tanh(level)
        )
        samples[seed % len(samples)] = 0.1
        progress(1, 1)
        yield samples[None]


TINY_METHOD = LearnedMethod(
    name="foley",
    citation="a method of the tests",
    configs={"compact": TinyConfig(), "full": TinyConfig(width=3)},
    build_network=TinyNetwork,
    build_loss=TinyLoss,
    prepare_clip=prepare_clip,
    draw_example=draw_example,
    build_generator=lambda network, codec, device: TinyGenerator(network=network),
    training_defaults={"learning_rate": 1e-2, "batch_size": 2},
)
