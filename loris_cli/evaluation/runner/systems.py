"""Who makes sounds for the clips of a benchmark: a model in its settings, or a method of rules.

clip -> whoever makes its music -> `takes.Maker`, which keeps the sounds
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Protocol

import torch

from loris_cli import __version__
from loris_cli.evaluation.runner.clips import EvalClip
from loris_cli.models.generator_interface import MusicGenerator
from loris_cli.models.load_model import PaperCheckpoint, detect_preset, load_paper_checkpoint
from loris_cli.models.mini_checkpoint import MiniCheckpoint, load_mini_checkpoint
from loris_cli.soundtrack.latent_generator import LatentGenerator
from loris_cli.soundtrack.waveform_generator import WaveformGenerator


class System(Protocol):
    """One row's maker of music."""

    @property
    def category(self) -> Literal["model", "method"]:
        """What it is in the comparison."""

    @property
    def description(self) -> str:
        """The same in words."""

    @property
    def generation_settings(self) -> dict[str, Any]:
        """What its sounds depend on, but for the clip and the seed."""

    @property
    def is_stochastic(self) -> bool:
        """Whether another seed gives another sound."""

    def get_generator(self, clip: EvalClip) -> MusicGenerator:
        """Who makes the sound of a clip."""

    def count_network_evaluations(self, duration_s: float) -> int:
        """Of a network, for a clip of that length."""


@dataclass(frozen=True, kw_only=True)
class ModelSystem:
    """A model, sampled in one way; its weights are in memory only while they are used."""

    model_name: str
    """A name, or a file."""
    device: torch.device
    steps: int | None
    """None is what suits the model."""
    guidance: float | None
    generation_settings: dict[str, Any]
    """Weights and how they are sampled."""
    has_latent: bool
    """Whether it works on a latent code, which sounds can be sent through."""
    uses_visual_features: bool
    """Whether it was trained on features of the picture."""

    @property
    def category(self) -> Literal["model", "method"]:
        """A model."""
        return "model"

    @property
    def is_stochastic(self) -> bool:
        """Its noise is drawn."""
        return True

    @property
    def description(self) -> str:
        """Weights and settings in words."""
        return (
            f"weights {self.generation_settings['weights']}, {self.generation_settings['steps']} steps,"
            f" guidance {self.generation_settings['guidance']:g}"
            + (", trained on features of the picture" if self.uses_visual_features else "")
        )

    @property
    def latent_model(self) -> MiniCheckpoint:
        """The model that has a latent code."""
        model = load_model(self.model_name, self.device)
        assert isinstance(model, MiniCheckpoint)
        return model

    def get_generator(self, clip: EvalClip) -> MusicGenerator:
        """The same for all clips."""
        return self._build_generator()

    def count_network_evaluations(self, duration_s: float) -> int:
        """Of the network."""
        return self._build_generator().compute_window_layout(duration_s)[2]

    def _build_generator(self) -> LatentGenerator | WaveformGenerator:
        return build_generator(
            load_model(self.model_name, self.device), self.device, self.steps, self.guidance
        )


@lru_cache(maxsize=1)  # of the paper's size a model holds 3 GB, and a table has eight
def load_model(name: str, device: torch.device) -> MiniCheckpoint | PaperCheckpoint:
    """Weights by name or file, of either kind.

    Raises:
        WeightsError: a model is missing or damaged, or has learned nothing.
    """
    if detect_preset(name) == "paper":
        return load_paper_checkpoint(Path(name), device=device)
    return load_mini_checkpoint(name, device=device)


def build_generator(
    model: MiniCheckpoint | PaperCheckpoint,
    device: torch.device,
    steps: int | None,
    guidance: float | None,
) -> LatentGenerator | WaveformGenerator:
    """A model in some settings; None is what suits it."""
    chosen: dict[str, Any] = {
        name: value
        for name, value in (("steps", steps), ("guidance", guidance))
        if value is not None
    }
    if isinstance(model, MiniCheckpoint):
        return LatentGenerator(model=model, device=device, **chosen)
    return WaveformGenerator(model=model, device=device, **chosen)


def build_model_system(
    model_name: str,
    *,
    device: torch.device,
    steps: int | None = None,
    guidance: float | None = None,
) -> ModelSystem:
    """A model in some settings; it is opened once, so that what is wrong is told now.

    Args:
        model_name: of the model, or its file.
        device: where it runs.
        steps: of sampling; None is what suits the model.
        guidance: how strictly the rhythm is followed; None likewise.

    Raises:
        WeightsError: it is missing or damaged, or has learned nothing.
    """
    model = load_model(model_name, device)
    generator = build_generator(model, device, steps, guidance)
    return ModelSystem(
        model_name=model_name,
        device=device,
        steps=steps,
        guidance=guidance,
        generation_settings={
            "weights": model.sha256_prefix,
            "steps": generator.steps,
            "guidance": generator.guidance,
            "device": device.type,
            "version": __version__,
        },
        has_latent=isinstance(model, MiniCheckpoint),
        uses_visual_features=isinstance(model, PaperCheckpoint)
        and model.network.config.visual_projection != "none",
    )
