"""Trained baselines of the paper as generators of `soundtrack`."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from loris_cli.array_types import Samples
from loris_cli.baselines.learned_checkpoint import LearnedModel
from loris_cli.composition.arrangement import Arrangement
from loris_cli.models.generator_interface import (
    ClipFeatures,
    MusicGenerator,
    ProgressCallback,
    VideoFeatures,
)
from loris_cli.soundtrack.windowed_sampling import ModelTraits


@runtime_checkable
class NoteGenerator(Protocol):
    """Generator whose takes are notes, played by the synthesizer."""

    def compose(self, features: VideoFeatures, *, seed: int) -> Arrangement:
        """Return the notes of a take."""


@dataclass(frozen=True, kw_only=True)
class LearnedGenerator:
    """A trained baseline as a `MusicGenerator`, with the properties that `soundtrack` needs."""

    model: LearnedModel
    generator: MusicGenerator

    @property
    def traits(self) -> ModelTraits:
        """Properties of the model."""
        return ModelTraits(
            visual_width=getattr(self.model.network.config, "visual_width", 0) or None
        )

    @property
    def has_notes(self) -> bool:
        """Whether takes have a score."""
        return isinstance(self.generator, NoteGenerator)

    def compose(self, features: VideoFeatures, *, seed: int) -> ClipFeatures:
        """Return the features with the notes of a take; only if `has_notes`."""
        assert isinstance(self.generator, NoteGenerator)
        arrangement = self.generator.compose(features, seed=seed)
        return ClipFeatures.from_video(features, arrangement=arrangement)

    def generate(
        self, features: VideoFeatures, *, seed: int, progress: ProgressCallback
    ) -> Iterator[Samples]:
        """Generate the soundtrack of a clip, in consecutive blocks.

        Args:
            features: features of the entire clip.
            seed: seed of the take.
            progress: called repeatedly during generation.

        Yields:
            ``(channels, samples)`` blocks at 22,050 Hz, ``round(duration_s * 22050)`` samples
            in all.
        """
        yield from self.generator.generate(features, seed=seed, progress=progress)
