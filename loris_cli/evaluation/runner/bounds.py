"""Bounds of the scores: null systems and ceilings.

    clips, reference analyses -> audio sources of a bound, by clip and seed

A null system ignores the video: a system that does not score above it is not in time. A
ceiling is the best that can be reached: the reference itself, and its latent reconstruction.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from loris_cli.array_types import Array
from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.dataset.source_names import parse_aist_performance
from loris_cli.evaluation.metrics.sync import median_tempo_bpm
from loris_cli.evaluation.runner.audio_analysis import AudioAnalysis
from loris_cli.evaluation.runner.audio_sources import AudioSource, ClickTrain, WhiteNoise
from loris_cli.evaluation.runner.clips import EvalClip
from loris_cli.system.progress import NullReporter, Reporter

if TYPE_CHECKING:  # imports torch, which the evaluation of files does not need
    from loris_cli.evaluation.runner.generation_cache import SystemRunner

FALLBACK_BPM = 120.0
"""Tempo of a reference without beats."""

TakeSources = dict[tuple[str, int], AudioSource]
"""Audio source by clip id and seed."""


class UnavailableError(Exception):
    """The audio of a bound cannot be made in this run; the message is the reason."""


@dataclass(frozen=True, kw_only=True)
class BoundRequest:
    """Inputs of the audio of a bound."""

    clips: Sequence[EvalClip]
    """Clips with an analyzed reference."""
    reference_analyses: Mapping[str, AudioAnalysis]
    seeds: Sequence[int]
    has_beats: bool = True
    """The reference analyses have beats."""
    system_runners: "Sequence[SystemRunner]" = ()
    reporter: Reporter = field(default_factory=NullReporter)

    def cut_to(self, clip: EvalClip, other: EvalClip) -> AudioSource:
        """The reference audio of another clip, cut to the length of this one's reference."""
        assert other.reference is not None
        n_samples = self.reference_analyses[clip.id].n_samples
        return replace(other.reference, max_samples=n_samples)


@dataclass(frozen=True)
class Bound:
    """A null system or a ceiling."""

    category: Literal["null", "ceiling"]
    description: str
    build: Callable[[BoundRequest], TakeSources]
    """Raises `UnavailableError`."""


def build_bound_sources(bound_id: str, request: BoundRequest) -> TakeSources:
    """Audio sources of a bound.

    Args:
        bound_id: a key of `BOUNDS`.
        request: clips, references and seeds.

    Raises:
        UnavailableError: this run lacks the inputs of the bound.
    """
    if not request.clips:
        raise UnavailableError("no clip has reference audio")
    return BOUNDS[bound_id].build(request)


def pick_mismatched_clips(groups: Sequence[str], *, seed: int) -> list[int | None]:
    """For every clip another clip of another source, each taken about equally often.

    Args:
        groups: source of each clip.
        seed: seed of the order.

    Returns:
        number of the other clip; None where all are of one source.
    """
    n = len(groups)
    order = np.random.default_rng([seed, 5]).permutation(n)
    position = np.argsort(order)
    partners: list[int | None] = []
    for index, group in enumerate(groups):
        # The next one of another source in a random circle.
        candidates = (int(order[(position[index] + step) % n]) for step in range(1, n))
        partners.append(next((other for other in candidates if groups[other] != group), None))
    return partners


def _by_clip(
    build: Callable[[AudioAnalysis, np.random.Generator], AudioSource],
) -> Callable[[BoundRequest], TakeSources]:
    """Builder of a bound that needs nothing but the reference of the clip."""

    def build_sources(request: BoundRequest) -> TakeSources:
        sources = TakeSources()
        for clip in request.clips:
            for seed in request.seeds:
                rng = np.random.default_rng([seed, *clip.id.encode()])
                sources[clip.id, seed] = build(request.reference_analyses[clip.id], rng)
        return sources

    return build_sources


def _clicks(reference: AudioAnalysis, times_s: Array) -> ClickTrain:
    return ClickTrain(click_times_s=tuple(times_s.tolist()), n_samples=reference.n_samples)


@_by_clip
def _click_1hz(reference: AudioAnalysis, rng: np.random.Generator) -> AudioSource:
    return _clicks(reference, np.arange(0.5, reference.duration_s, 1.0))


@_by_clip
def _click_4hz(reference: AudioAnalysis, rng: np.random.Generator) -> AudioSource:
    """Four clicks a second, the highest density that both detectors separate reliably."""
    return _clicks(reference, np.arange(0.125, reference.duration_s, 0.25))


@_by_clip
def _white_noise(reference: AudioAnalysis, rng: np.random.Generator) -> AudioSource:
    return WhiteNoise(seed=int(rng.integers(2**62)), n_samples=reference.n_samples)


@_by_clip
def _density_matched(reference: AudioAnalysis, rng: np.random.Generator) -> AudioSource:
    """Onsets of the reference with full seconds permuted: as many flags at other times."""
    n_full_seconds = reference.n_samples // SAMPLE_RATE_HZ
    target = rng.permutation(n_full_seconds)
    second = reference.protocol_onsets_s.astype(np.int64)
    inside = second < n_full_seconds
    times_s = reference.protocol_onsets_s.copy()
    times_s[inside] += target[second[inside]] - second[inside]
    return _clicks(reference, np.sort(times_s))


@_by_clip
def _tempo_click_by_clip(reference: AudioAnalysis, rng: np.random.Generator) -> AudioSource:
    step_s = 60 / (median_tempo_bpm(reference.beats_s) or FALLBACK_BPM)
    return _clicks(reference, np.arange(rng.uniform(0, step_s), reference.duration_s, step_s))


def _tempo_click(request: BoundRequest) -> TakeSources:
    if not request.has_beats:
        raise UnavailableError("the tempo is known from the beats of the strict metrics only")
    return _tempo_click_by_clip(request)


def _mismatched(request: BoundRequest) -> TakeSources:
    clips, sources = request.clips, TakeSources()
    for seed in request.seeds:
        partners = pick_mismatched_clips([clip.source_group for clip in clips], seed=seed)
        for clip, partner in zip(clips, partners, strict=True):
            if partner is None:
                raise UnavailableError("all clips are of one source")
            sources[clip.id, seed] = request.cut_to(clip, clips[partner])
    return sources


def _ground_truth(request: BoundRequest) -> TakeSources:
    references = {(clip.id, request.seeds[0]): clip.reference for clip in request.clips}
    return {key: reference for key, reference in references.items() if reference is not None}


def _reconstruction(request: BoundRequest) -> TakeSources:
    runner = next((r for r in request.system_runners if r.system.load_latent_model), None)
    if runner is None:
        raise UnavailableError("no model that works on a latent code was named")
    audio = runner.reconstruct_references(request.clips, reporter=request.reporter)
    return {(clip_id, request.seeds[0]): source for clip_id, source in audio.items()}


def _performance(request: BoundRequest) -> TakeSources:
    """For clips of AIST: the reference of the same music with another dancer."""
    named = [(clip, parse_aist_performance(clip.source_group)) for clip in request.clips]
    sources = TakeSources()
    for clip, performance in named:
        for other, candidate in named:
            same_music = performance and candidate and performance[0] == candidate[0]
            if same_music and performance != candidate:
                sources[clip.id, request.seeds[0]] = request.cut_to(clip, other)
                break
    if not sources:
        raise UnavailableError("no two clips are known to be of one piece of music")
    return sources


BOUNDS: Mapping[str, Bound] = {
    "click_1hz": Bound("null", "one click a second", _click_1hz),
    "click_4hz": Bound("null", "four clicks a second", _click_4hz),
    "white_noise": Bound("null", "white noise", _white_noise),
    "density_matched": Bound("null", "reference onsets, seconds shuffled", _density_matched),
    "tempo_click": Bound("null", "clicks at the reference tempo, random phase", _tempo_click),
    "mismatched": Bound("null", "the reference of another clip", _mismatched),
    "ground_truth": Bound("ceiling", "the reference itself", _ground_truth),
    "latent_reconstruction": Bound("ceiling", "encoded and decoded reference", _reconstruction),
    "other_performance": Bound("ceiling", "the same music, danced again", _performance),
}
"""Bounds by their ids, in the order of the report."""
RANDOM_BOUNDS = frozenset({"white_noise", "density_matched", "tempo_click", "mismatched"})
"""Bounds that are scored once for each seed, the others for the first seed only."""
CHANCE_BOUNDS = frozenset({"mismatched", "other_performance"})
"""Bounds made of the references of other clips; their F1 is not corrected for chance."""
