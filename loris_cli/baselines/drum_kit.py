"""A drum kit of three, by formula, and strokes on it at given moments."""

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from loris_cli.config import SAMPLE_RATE_HZ

Samples = NDArray[np.float32]
Array = NDArray[np.float64]
DrumName = Literal["kick", "snare", "hat"]
DrumHit = tuple[float, DrumName, float]
"""Second, drum, how strong from 0 to 1."""

MAX_AMPLITUDE = 0.9
"""Of the whole sound, where strokes together are louder."""


def _synthesize_kick(elapsed_s: Array, rng: np.random.Generator) -> Array:
    """A tone that falls from 140 to 50 Hz."""
    turns = 50 * elapsed_s + (140 - 50) * 0.03 * (1 - np.exp(-elapsed_s / 0.03))
    sound: Array = np.sin(2 * np.pi * turns) * np.exp(-elapsed_s / 0.09)
    return sound


def _synthesize_snare(elapsed_s: Array, rng: np.random.Generator) -> Array:
    """A tone of 190 Hz under noise."""
    tone = 0.4 * np.sin(2 * np.pi * 190 * elapsed_s) * np.exp(-elapsed_s / 0.05)
    sound: Array = tone + 0.3 * rng.standard_normal(len(elapsed_s)) * np.exp(-elapsed_s / 0.06)
    return sound


def _synthesize_hat(elapsed_s: Array, rng: np.random.Generator) -> Array:
    """Noise without its lows, short."""
    bright = np.diff(rng.standard_normal(len(elapsed_s)), prepend=0.0)
    sound: Array = 0.2 * bright * np.exp(-elapsed_s / 0.02)
    return sound


DRUM_SOUNDS: Mapping[DrumName, tuple[Callable[[Array, np.random.Generator], Array], float]] = (
    MappingProxyType(
        {
            "kick": (_synthesize_kick, 0.4),
            "snare": (_synthesize_snare, 0.3),
            "hat": (_synthesize_hat, 0.1),
        }
    )
)
"""Sound of each, and for how many seconds."""


def render_drum_hits(hits: Iterable[DrumHit], n_samples: int, *, seed: int) -> Samples:
    """Strokes as sound.

    Args:
        hits: a stroke begins at the sample of its moment.
        n_samples: of the sound; what would be outside is cut.
        seed: of the noise in them.

    Returns:
        mono, 22,050 Hz, ``(samples,)``, within `MAX_AMPLITUDE`.
    """
    rng = np.random.default_rng([seed, 17])
    sound = np.zeros(n_samples)
    for moment_s, drum, strength in hits:
        make, lasts_s = DRUM_SOUNDS[drum]
        stroke = make(np.arange(round(lasts_s * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ, rng)
        start = round(moment_s * SAMPLE_RATE_HZ)
        if start >= 0:
            sound[start : start + len(stroke)] += strength * stroke[: max(n_samples - start, 0)]
    return (
        sound * (MAX_AMPLITUDE / max(float(np.abs(sound).max(initial=0.0)), MAX_AMPLITUDE))
    ).astype(np.float32)
