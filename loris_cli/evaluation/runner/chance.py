"""Chance level of a system: its takes scored against the references of unrelated clips.

    takes, references of clips of other sources -> chance values -> difference to the own ones

A system that ignores the video scores as high with the references of other clips as with its
own. The difference is therefore what it gains from the video.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from loris_cli.array_types import Array
from loris_cli.audio.onsets import match_onsets
from loris_cli.dataset.partitions import share_groups
from loris_cli.evaluation.metrics import significance
from loris_cli.evaluation.metrics.loris_scores import f1_score
from loris_cli.evaluation.metrics.significance import PairedDifference
from loris_cli.evaluation.runner.audio_analysis import AnalysisConfig, AudioAnalysis
from loris_cli.evaluation.runner.clips import EvalClip

MAX_ONSET_PAIRS = 2_000
"""Approximate number of pairs that are matched onset by onset, 1 ms each, per system."""
CHANCE_METRICS = ("F1", "onset_f")
"""Metrics that are compared with their chance levels."""


def compute_chance_values(
    clips: Sequence[EvalClip],
    references: Mapping[str, AudioAnalysis],
    takes: Mapping[tuple[str, int], AudioAnalysis],
    config: AnalysisConfig,
    *,
    seeds: Sequence[int],
) -> dict[str, Array]:
    """Score the takes of each clip against the references of unrelated clips.

    Args:
        clips: scored clips.
        references: analyses of the references, by clip id.
        takes: analyses of the takes, by clip id and seed.
        config: scoring protocol, and whether strict metrics are computed.
        seeds: seeds of the takes.

    Returns:
        ``BCS``, ``BHS`` and, with strict metrics, ``onset_f``, ``(clips,)`` each: means over
        seeds and other clips; NaN for a clip without a reference or without unrelated clips.
    """
    rows = [k for k, clip in enumerate(clips) if clip.id in references]
    if not rows:
        return {}
    known = [clips[k] for k in rows]
    shared = share_groups([clip.groups for clip in known])
    audio = [references[clip.id] for clip in known]
    by_seed = []
    for seed in seeds:
        own = [takes[clip.id, seed] for clip in known]
        flags = ([take.onset_flags for take in own], [take.onset_flags for take in audio])
        bcs, bhs = significance.chance_precision_recall(*flags, shared)
        values = {"BCS": bcs, "BHS": bhs}
        if config.strict_metrics:
            n_partners = max(MAX_ONSET_PAIRS // (len(known) * len(seeds)), 1)
            values["onset_f"] = _match_other_onsets(own, audio, shared, n_partners)
        by_seed.append(values)
    result = {}
    for name in by_seed[0]:
        result[name] = np.full(len(clips), np.nan)
        result[name][rows] = np.mean([values[name] for values in by_seed], axis=0)
    return result


def _match_other_onsets(
    takes: Sequence[AudioAnalysis],
    references: Sequence[AudioAnalysis],
    shared: NDArray[np.bool_],
    n_partners: int,
) -> Array:
    """Return the mean onset F-measure with the next unrelated clips, at most ``n_partners``."""
    n = len(takes)
    means = np.full(n, np.nan)
    for k, take in enumerate(takes):
        others = [j % n for j in range(k + 1, k + n) if not shared[k, j % n]][:n_partners]
        if others:
            means[k] = np.mean([_compute_onset_f(take, references[j]) for j in others])
    return means


def _compute_onset_f(take: AudioAnalysis, reference: AudioAnalysis) -> float:
    end_s = min(take.duration_s, reference.duration_s)
    onsets_s = (audio.crop_events(end_s).onsets_s for audio in (reference, take))
    match = match_onsets(*onsets_s)
    return f1_score(match.precision, match.recall)


def compare_to_chance(
    clip_values: Mapping[str, Array],
    chance_values: Mapping[str, Array],
    groups: Sequence[str],
) -> dict[str, PairedDifference]:
    """Compare scores with the own reference and with those of unrelated clips.

    Args:
        clip_values: scores with the own reference, ``(clips,)`` each.
        chance_values: scores of `compute_chance_values`.
        groups: source of each clip.

    Returns:
        the paired difference of F1 and, with strict metrics, of the onset F-measure.
    """
    differences = {}
    for metric in CHANCE_METRICS:
        components, statistic = significance.METRIC_STATISTICS[metric]
        if not clip_values.keys() & chance_values.keys() >= {*components}:
            continue
        difference = significance.compare_paired(
            [clip_values[name] for name in components],
            [chance_values[name] for name in components],
            groups,
            statistic,
        )
        if difference is not None:
            differences[metric] = difference
    return differences


def compute_chance_levels(chance_values: Mapping[str, Array]) -> dict[str, float]:
    """Return the F1 and the onset F-measure of the means over clips, where defined."""
    levels = {}
    for metric in CHANCE_METRICS:
        components, statistic = significance.METRIC_STATISTICS[metric]
        if not chance_values.keys() >= {*components}:
            continue
        defined = [chance_values[name] for name in components]
        defined = [values[~np.isnan(values)] for values in defined]
        if all(len(values) for values in defined):
            means = [np.array([values.mean()]) for values in defined]
            levels[metric] = float(statistic(*means)[0])
    return levels
