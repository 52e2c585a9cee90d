"""Who makes sounds for the clips of a benchmark: a model in its settings, or a method of rules.

clip -> whoever makes its music -> `takes.Maker`, which keeps the sounds
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Protocol

import torch

from loris_cli import __version__
from loris_cli.evaluation.runner.clips import Case
from loris_cli.models.generator_interface import MusicGenerator
from loris_cli.models.load_model import NamedPaper, kind_of, load_named_paper
from loris_cli.models.mini_checkpoint import MiniModel, load_mini
from loris_cli.soundtrack.latent_generator import LatentGenerator
from loris_cli.soundtrack.waveform_generator import WaveformGenerator


class Entrant(Protocol):
    """One row's maker of music."""

    @property
    def kind(self) -> Literal["model", "method"]:
        """What it is in the comparison."""

    @property
    def what(self) -> str:
        """The same in words."""

    @property
    def settings(self) -> dict[str, Any]:
        """What its sounds depend on, but for the clip and the seed."""

    @property
    def seeded(self) -> bool:
        """Whether another seed gives another sound."""

    def music_of(self, case: Case) -> MusicGenerator:
        """Who makes the sound of a clip."""

    def evaluations(self, duration_s: float) -> int:
        """Of a network, for a clip of that length."""


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """A model, sampled in one way; its weights are in memory only while they are used."""

    model: str
    """A name, or a file."""
    device: torch.device
    steps: int | None
    """None is what suits the model."""
    guidance: float | None
    settings: dict[str, Any]
    """Weights and how they are sampled."""
    has_code: bool
    """Whether it works on a latent code, which sounds can be sent through."""
    sees_picture: bool
    """Whether it was trained on features of the picture."""

    @property
    def kind(self) -> Literal["model", "method"]:
        """A model."""
        return "model"

    @property
    def seeded(self) -> bool:
        """Its noise is drawn."""
        return True

    @property
    def what(self) -> str:
        """Weights and settings in words."""
        return (
            f"weights {self.settings['weights']}, {self.settings['steps']} steps,"
            f" guidance {self.settings['guidance']:g}"
            + (", trained on features of the picture" if self.sees_picture else "")
        )

    @property
    def code(self) -> MiniModel:
        """The model that has a latent code."""
        model = open_model(self.model, self.device)
        assert isinstance(model, MiniModel)
        return model

    def music_of(self, case: Case) -> MusicGenerator:
        """The same for all clips."""
        return self._generator()

    def evaluations(self, duration_s: float) -> int:
        """Of the network."""
        return self._generator().windows(duration_s)[2]

    def _generator(self) -> LatentGenerator | WaveformGenerator:
        return generator_of(
            open_model(self.model, self.device), self.device, self.steps, self.guidance
        )


@lru_cache(maxsize=1)  # of the paper's size a model holds 3 GB, and a table has eight
def open_model(name: str, device: torch.device) -> MiniModel | NamedPaper:
    """Weights by name or file, of either kind.

    Raises:
        WeightsError: a model is missing or damaged, or has learned nothing.
    """
    if kind_of(name) == "paper":
        return load_named_paper(Path(name), device=device)
    return load_mini(name, device=device)


def generator_of(
    model: MiniModel | NamedPaper,
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
    if isinstance(model, MiniModel):
        return LatentGenerator(model=model, device=device, **chosen)
    return WaveformGenerator(model=model, device=device, **chosen)


def sampled(
    name: str,
    *,
    device: torch.device,
    steps: int | None = None,
    guidance: float | None = None,
) -> Sampled:
    """A model in some settings; it is opened once, so that what is wrong is told now.

    Args:
        name: of the model, or its file.
        device: where it runs.
        steps: of sampling; None is what suits the model.
        guidance: how strictly the rhythm is followed; None likewise.

    Raises:
        WeightsError: it is missing or damaged, or has learned nothing.
    """
    model = open_model(name, device)
    generator = generator_of(model, device, steps, guidance)
    return Sampled(
        model=name,
        device=device,
        steps=steps,
        guidance=guidance,
        settings={
            "weights": model.fingerprint,
            "steps": generator.steps,
            "guidance": generator.guidance,
            "device": device.type,
            "version": __version__,
        },
        has_code=isinstance(model, MiniModel),
        sees_picture=isinstance(model, NamedPaper) and model.network.config.visual != "none",
    )
