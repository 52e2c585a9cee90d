"""A drum on every peak of the body, and nothing else.

    peaks, strengths -> kick and snare, kick, or hat -> sound

What a maker of music scores that follows the given rhythm to the sample and knows no music: a
model below it in time does not keep it, and one above it knows more than the peaks.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from loris_cli.baselines.drum_kit import DrumHit, Samples, render_drum_hits
from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.models.generator_interface import ClipFeatures

SNARE_QUANTILE = 0.8
"""Quantile of strengths from which a snare sounds too; below the median it is the hat."""


@dataclass(frozen=True)
class DrumGenerator:
    """As a `MusicGenerator`."""

    def generate(
        self, features: ClipFeatures, *, seed: int, progress: Callable[[int, int], None]
    ) -> Iterator[Samples]:
        """Sound for a clip, ``(1, samples)``, in one block."""
        n_samples = round(features.duration_s * SAMPLE_RATE_HZ)
        sound = render_drum_hits(place_hits_on_peaks(features), n_samples, seed=seed)
        progress(1, 1)
        yield sound[None]


def place_hits_on_peaks(features: ClipFeatures) -> list[DrumHit]:
    """Strokes on the peaks: the stronger, the more drums."""
    if not len(features.peaks_s):
        return []
    middle, high = np.quantile(features.strengths, [0.5, SNARE_QUANTILE])
    strokes: list[DrumHit] = []
    for moment_s, strength in zip(
        features.peaks_s.tolist(), features.strengths.tolist(), strict=True
    ):
        if strength >= high:
            strokes.append((moment_s, "snare", strength))
        strokes.append((moment_s, "kick" if strength >= middle else "hat", strength))
    return strokes
