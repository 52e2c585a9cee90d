"""Measured cost of generators without a recorded speed."""

import time
from dataclasses import replace
from functools import cache
from typing import NamedTuple

import numpy as np

from loris_cli.models.generator_interface import VideoFeatures
from loris_cli.soundtrack.generators import ModelGenerator, SoundtrackGenerator
from loris_cli.soundtrack.learned_generator import LearnedGenerator
from loris_cli.soundtrack.score_generator import ScoreGenerator
from loris_cli.soundtrack.waveform_generator import WaveformGenerator

DECODE_S_PER_AUDIO_S = 0.12
"""Approximate time to decode and normalize one second of audio, on two cores of a 2017 CPU."""
SYNTHESIS_S_PER_AUDIO_S = 0.06
"""Approximate time to play and normalize one second of a score, on the same CPU."""
TIMED_CLIP_S = 6.0
"""Longest clip used to time a trained baseline for a cost estimate."""
BASE_MEMORY_MIB = 1200
"""Peak memory, measured at 1 and 10 minutes; it does not depend on the duration."""
PAPER_MEMORY_FACTOR = 1.6
"""Computed ratio of peak memory to weights of the paper's network. At full size (3.1 GB of
weights), a batch of one takes 3.9 GB, and guidance doubles the difference."""


class TakeCost(NamedTuple):
    """Cost of one take."""

    time_s: float
    memory_mib: int
    n_windows: int = 0
    n_evaluations: int = 0
    """Network evaluations."""


def measure_take_cost(generator: SoundtrackGenerator, duration_s: float) -> TakeCost:
    """Estimate the cost of a take from a short timed one.

    Args:
        generator: the generator.
        duration_s: duration of the take.
    """
    memory_mib = _estimate_memory_mib(generator)
    if isinstance(generator, ScoreGenerator):
        return TakeCost(duration_s * SYNTHESIS_S_PER_AUDIO_S, memory_mib)
    if isinstance(generator, LearnedGenerator):
        timed_s = min(duration_s, TIMED_CLIP_S)
        time_s = duration_s * _time_generation_s(generator, timed_s) / timed_s
        return TakeCost(time_s, memory_mib)
    layout = generator.compute_window_layout(duration_s)
    timed_s = min(round(duration_s), generator.traits.max_timing_clip_s)
    time_s = layout.n_evaluations * _time_evaluation_s(generator, timed_s)
    time_s += duration_s * DECODE_S_PER_AUDIO_S
    return TakeCost(time_s, memory_mib, len(layout.starts), layout.n_evaluations)


@cache
def _time_generation_s(generator: LearnedGenerator, clip_s: float) -> float:
    """Measure the time to generate a clip without peaks."""
    empty = np.zeros(0)
    clip = VideoFeatures(duration_s=clip_s, peaks_s=empty, strengths=empty, energy=np.zeros(1))
    started_s = time.monotonic()
    for _ in generator.generate(clip, seed=0, progress=lambda done, total: None):
        pass
    return time.monotonic() - started_s


@cache
def _time_evaluation_s(generator: ModelGenerator, clip_s: float) -> float:
    """Measure the time of one network evaluation, with its proportion of the decoding."""
    empty = np.zeros(0)
    clip = VideoFeatures(duration_s=clip_s, peaks_s=empty, strengths=empty, energy=np.zeros(1))
    short = replace(generator, steps=2, sampler="euler")
    started_s = time.monotonic()
    for _ in short.generate(clip, seed=0, progress=lambda done, total: None):
        pass
    elapsed_s = time.monotonic() - started_s
    return elapsed_s / short.compute_window_layout(clip_s).n_evaluations


def _estimate_memory_mib(generator: SoundtrackGenerator) -> int:
    """Estimate the peak memory in MiB."""
    if not isinstance(generator, WaveformGenerator):
        return BASE_MEMORY_MIB
    weights = generator.model.network.state_dict().values()
    n_bytes = sum(value.numel() * value.element_size() for value in weights)
    return int(BASE_MEMORY_MIB + n_bytes * PAPER_MEMORY_FACTOR / 2**20)
