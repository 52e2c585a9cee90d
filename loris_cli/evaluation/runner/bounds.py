"""Rows that nobody can hide: sounds that know nothing of the video, and sounds that know all.

Nulls say what a score is worth: a method that is not above them keeps no time. Ceilings say
what can be had: the truth itself, and the truth as the model's own code can tell it.
"""

from types import MappingProxyType
from typing import Literal

import numpy as np

from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.evaluation.metrics.sync import median_tempo_bpm
from loris_cli.evaluation.runner.audio_analysis import AudioAnalysis
from loris_cli.evaluation.runner.audio_sources import AudioSource, ClickTrain, WhiteNoise
from loris_cli.evaluation.runner.clips import EvalClip

SystemCategory = Literal["model", "method", "null", "ceiling"]
"""A method is another maker of music, by rules; see `loris_cli.baselines`."""

CLICK_RATES_HZ = MappingProxyType({"click_1hz": 1.0, "always_on": 4.0})
"""Clicks a second. Four are as dense as both detectors tell apart without fail."""
FALLBACK_BPM = 120.0
"""The tempo of a truth in which no beat is heard."""

NULL_SYSTEMS = MappingProxyType(
    {
        "click_1hz": "one click a second",
        "always_on": "four clicks a second, from end to end",
        "white_noise": "white noise",
        "density_matched": "the truth's own onsets, its seconds in random order",
        "tempo_click": "clicks at the truth's tempo, at a random phase",
        "shuffled": "the true sound of another clip",
    }
)
CEILINGS = MappingProxyType(
    {
        "ground_truth": "the truth itself",
        "through_latent": "the truth, encoded and decoded by the model",
        "other_take": "the same music, danced or played another time",
    }
)
CROSS_CLIP_BOUNDS = frozenset({"shuffled", "other_take"})
"""Rows made of the truths of other clips: they are chance, and are not corrected for it."""
STOCHASTIC_BOUNDS = frozenset({"white_noise", "density_matched", "tempo_click", "shuffled"})
"""Rows that chance makes; they are scored once for each seed."""


def build_bound_source(
    bound_id: str, clip: EvalClip, reference: AudioAnalysis, *, seed: int
) -> AudioSource | None:
    """The sound of a null that needs nothing but the truth of its own clip.

    Args:
        bound_id: one of `NULL_SYSTEMS` but ``shuffled``, or ``ground_truth``.
        clip: the clip.
        reference: what was heard in its true sound.
        seed: of chance; with the clip's name it gives the sound.

    Returns:
        a sound as long as the truth; None of a row that is made otherwise.
    """
    n_samples, duration_s = reference.n_samples, reference.duration_s
    rng = np.random.default_rng([seed, *clip.id.encode()])
    if bound_id in CLICK_RATES_HZ:
        step_s = 1 / CLICK_RATES_HZ[bound_id]
        times = np.arange(step_s / 2, duration_s, step_s)
    elif bound_id == "white_noise":
        return WhiteNoise(seed=int(rng.integers(2**62)), n_samples=n_samples)
    elif bound_id == "density_matched":
        times = _shuffle_seconds(reference, rng)
    elif bound_id == "tempo_click":
        step_s = 60 / (median_tempo_bpm(reference.beats_s) or FALLBACK_BPM)
        times = np.arange(rng.uniform(0, step_s), duration_s, step_s)
    else:
        return clip.reference if bound_id == "ground_truth" else None
    return ClickTrain(click_times_s=tuple(times.tolist()), n_samples=n_samples)


def pick_mismatched_clips(groups: list[str], *, seed: int) -> list[int | None]:
    """For every clip another one of another source, each taken as evenly as can be.

    Args:
        groups: source of each clip.
        seed: of the order.

    Returns:
        number of the other clip; None where all are of one source.
    """
    n = len(groups)
    order = np.random.default_rng([seed, 5]).permutation(n)
    place = np.argsort(order)
    found: list[int | None] = []
    for index, group in enumerate(groups):
        # The next in a random circle whose source is another.
        steps = (int(order[(place[index] + step) % n]) for step in range(1, n))
        found.append(next((other for other in steps if groups[other] != group), None))
    return found


def _shuffle_seconds(reference: AudioAnalysis, rng: np.random.Generator) -> np.ndarray:
    """Onsets of the truth with whole seconds swapped: as many flags, elsewhere."""
    n_whole = reference.n_samples // SAMPLE_RATE_HZ
    to = rng.permutation(n_whole)
    second = reference.protocol_onsets_s.astype(np.int64)
    inside = second < n_whole
    moved = reference.protocol_onsets_s.copy()
    moved[inside] += to[second[inside]] - second[inside]
    return np.sort(moved)
