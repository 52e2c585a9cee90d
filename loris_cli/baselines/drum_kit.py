"""Synthetic drum kit (kick, snare, hat), and a generator that renders drum hits."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from loris_cli.array_types import Array, Samples
from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.models.generator_interface import VideoFeatures

DrumName = Literal["kick", "snare", "hat"]
DrumHit = tuple[float, DrumName, float]
"""Time in seconds, drum, and strength from 0 to 1."""

MAX_AMPLITUDE = 0.9
"""Peak level; the audio is scaled down to it if overlapping hits exceed it."""


def _synthesize_kick(elapsed_s: Array, rng: np.random.Generator) -> Array:
    """Synthesize a tone that falls from 140 to 50 Hz."""
    turns = 50 * elapsed_s + (140 - 50) * 0.03 * (1 - np.exp(-elapsed_s / 0.03))
    return np.asarray(np.sin(2 * np.pi * turns) * np.exp(-elapsed_s / 0.09))


def _synthesize_snare(elapsed_s: Array, rng: np.random.Generator) -> Array:
    """Synthesize a 190 Hz tone with noise."""
    tone = 0.4 * np.sin(2 * np.pi * 190 * elapsed_s) * np.exp(-elapsed_s / 0.05)
    noise: Array = 0.3 * rng.standard_normal(len(elapsed_s)) * np.exp(-elapsed_s / 0.06)
    return tone + noise


def _synthesize_hat(elapsed_s: Array, rng: np.random.Generator) -> Array:
    """Synthesize short high-passed noise."""
    noise = np.diff(rng.standard_normal(len(elapsed_s)), prepend=0.0)
    return np.asarray(0.2 * noise * np.exp(-elapsed_s / 0.02))


DRUM_SOUNDS: Mapping[DrumName, tuple[Callable[[Array, np.random.Generator], Array], float]] = {
    "kick": (_synthesize_kick, 0.4),
    "snare": (_synthesize_snare, 0.3),
    "hat": (_synthesize_hat, 0.1),
}
"""Synthesis function and duration in seconds of each drum."""


def render_drum_hits(hits: Iterable[DrumHit], n_samples: int, *, seed: int) -> Samples:
    """Render drum hits as audio.

    Args:
        hits: drum hits; each starts at the sample nearest to its time.
        n_samples: length of the audio; later samples are truncated.
        seed: seed of the noise.

    Returns:
        Mono audio at 22,050 Hz, ``(samples,)``, with a peak of at most `MAX_AMPLITUDE`.
    """
    rng = np.random.default_rng([seed, 17])
    mix = np.zeros(n_samples)
    for time_s, drum, strength in hits:
        synthesize, drum_s = DRUM_SOUNDS[drum]
        hit = synthesize(np.arange(round(drum_s * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ, rng)
        start = round(time_s * SAMPLE_RATE_HZ)
        if start >= 0:
            mix[start : start + len(hit)] += strength * hit[: max(n_samples - start, 0)]
    peak = max(float(np.abs(mix).max(initial=0.0)), MAX_AMPLITUDE)
    return (mix * (MAX_AMPLITUDE / peak)).astype(np.float32)


@dataclass(frozen=True)
class DrumGenerator:
    """A `MusicGenerator` that renders the drum hits of a placement function."""

    place_hits: Callable[[VideoFeatures], list[DrumHit]]

    def generate(
        self, features: VideoFeatures, *, seed: int, progress: Callable[[int, int], None]
    ) -> Iterator[Samples]:
        """Yield the audio for a clip in one block, ``(1, samples)`` at 22,050 Hz."""
        n_samples = round(features.duration_s * SAMPLE_RATE_HZ)
        samples = render_drum_hits(self.place_hits(features), n_samples, seed=seed)
        progress(1, 1)
        yield samples[None]
