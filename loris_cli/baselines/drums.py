"""Drum baseline: one drum hit on every visual peak, and nothing else.

    peaks, strengths -> kick and snare, kick, or hat -> audio

This system follows the given rhythm exactly and has no other musical content. A model with
lower synchronization scores does not follow the rhythm; a model with higher scores uses more
information than the peaks.
"""

import numpy as np

from loris_cli.baselines.drum_kit import DrumHit
from loris_cli.models.generator_interface import VideoFeatures

SNARE_QUANTILE = 0.8
"""Peak strength quantile above which a snare is added; below the median, the hit is a hat."""


def place_hits_on_peaks(features: VideoFeatures) -> list[DrumHit]:
    """Place drum hits on the visual peaks; stronger peaks get more drums."""
    if not len(features.peaks_s):
        return []
    median, high = np.quantile(features.strengths, [0.5, SNARE_QUANTILE])
    hits: list[DrumHit] = []
    peaks = zip(features.peaks_s.tolist(), features.strengths.tolist(), strict=True)
    for time_s, strength in peaks:
        if strength >= high:
            hits.append((time_s, "snare", strength))
        hits.append((time_s, "kick" if strength >= median else "hat", strength))
    return hits
