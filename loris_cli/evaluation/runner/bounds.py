"""Bounds of the scores: null systems, ceilings, and the score that a model renders.

    clips, reference analyses -> audio sources of a bound, by clip and seed

A null system ignores the video: a system that does not score above it shows no synchronization.
A ceiling is made from reference audio, such as the reference or its latent reconstruction. It
is not a strict limit: the latent reconstruction shows the loss in the autoencoder, and a model
may score above it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np

from loris_cli.array_types import Array
from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.dataset.partitions import Groups, share_groups
from loris_cli.evaluation.metrics.sync import median_tempo_bpm
from loris_cli.evaluation.runner.audio_analysis import AudioAnalysis
from loris_cli.evaluation.runner.audio_sources import AudioSource, ClickTrain, WhiteNoise
from loris_cli.evaluation.runner.clips import EvalClip
from loris_cli.system.progress import NullReporter, Reporter

if TYPE_CHECKING:  # imports torch, which is not needed to score files
    from loris_cli.evaluation.runner.generation_cache import SystemRunner

FALLBACK_BPM = 120.0
"""Tempo used for a reference without beats."""

TakeSources = dict[tuple[str, int], AudioSource]
"""Audio source by clip id and seed."""


class UnavailableError(Exception):
    """The audio of a bound cannot be created in this run; the message is the reason."""


@dataclass(frozen=True, kw_only=True)
class BoundRequest:
    """Inputs for the audio sources of a bound."""

    clips: Sequence[EvalClip]
    """Clips with an analyzed reference."""
    reference_analyses: Mapping[str, AudioAnalysis]
    seeds: Sequence[int]
    has_beats: bool = True
    """Whether beats were tracked in the references."""
    system_runners: "Sequence[SystemRunner]" = ()
    reporter: Reporter = field(default_factory=NullReporter)

    def cut_to(self, clip: EvalClip, other: EvalClip) -> AudioSource:
        """Return the reference audio of another clip, truncated to the length of this clip."""
        assert other.reference is not None
        n_samples = self.reference_analyses[clip.id].n_samples
        return replace(other.reference, max_samples=n_samples)


@dataclass(frozen=True)
class Bound:
    """A null system, a ceiling, or the method that a model has to improve on."""

    category: Literal["null", "ceiling", "method"]
    description: str
    build: Callable[[BoundRequest], TakeSources]
    """Raises `UnavailableError`."""


def build_bound_sources(bound_id: str, request: BoundRequest) -> TakeSources:
    """Build the audio sources of a bound.

    Args:
        bound_id: key of `BOUNDS`.
        request: clips, references and seeds.

    Raises:
        UnavailableError: this run lacks the inputs of the bound.
    """
    if not request.clips:
        raise UnavailableError("no clip has reference audio")
    return BOUNDS[bound_id].build(request)


def pick_mismatched_clips(groups: Sequence[Groups], *, seed: int) -> list[int | None]:
    """Assign to every clip an unrelated clip; each is used about equally often.

    Args:
        groups: song, dancer, source and video of each clip.
        seed: random seed of the order.

    Returns:
        index of the assigned clip; None if all clips share a group with this clip.
    """
    n, shared = len(groups), share_groups(groups)
    order = np.random.default_rng([seed, 5]).permutation(n)
    position = np.argsort(order)
    partners: list[int | None] = []
    for index in range(n):
        # Next unrelated clip in a random cyclic order.
        candidates = (int(order[(position[index] + step) % n]) for step in range(1, n))
        partners.append(next((other for other in candidates if not shared[index, other]), None))
    return partners


def _by_clip(
    build: Callable[[AudioAnalysis, np.random.Generator], AudioSource],
) -> Callable[[BoundRequest], TakeSources]:
    """Return the builder of a bound that depends only on the reference of each clip."""

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
    """4 clicks per second, the highest density that both onset detectors resolve reliably."""
    return _clicks(reference, np.arange(0.125, reference.duration_s, 0.25))


@_by_clip
def _white_noise(reference: AudioAnalysis, rng: np.random.Generator) -> AudioSource:
    return WhiteNoise(seed=int(rng.integers(2**62)), n_samples=reference.n_samples)


@_by_clip
def _density_matched(reference: AudioAnalysis, rng: np.random.Generator) -> AudioSource:
    """Reference onsets with full seconds permuted: same number of flagged seconds, shuffled."""
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
        raise UnavailableError("requires beat tracking, which is part of the strict metrics")
    return _tempo_click_by_clip(request)


def _mismatched(request: BoundRequest) -> TakeSources:
    clips, sources = request.clips, TakeSources()
    for seed in request.seeds:
        partners = pick_mismatched_clips([clip.groups for clip in clips], seed=seed)
        for clip, partner in zip(clips, partners, strict=True):
            if partner is None:
                reason = "a clip shares a song, dancer, source or video with all others"
                raise UnavailableError(reason)
            sources[clip.id, seed] = request.cut_to(clip, clips[partner])
    return sources


def _ground_truth(request: BoundRequest) -> TakeSources:
    references = {(clip.id, request.seeds[0]): clip.reference for clip in request.clips}
    return {key: reference for key, reference in references.items() if reference is not None}


def _reconstruct(codec_name: str, request: BoundRequest) -> TakeSources:
    """Build the references encoded and decoded by the codec of the first system with it."""
    runners = (r for r in request.system_runners if r.system.codec_name == codec_name)
    runner = next(runners, None)
    if runner is None:
        system = "latent diffusion model" if codec_name == "latent" else "d2mgan or cdcd"
        raise UnavailableError(f"no {system} was selected")
    audio = runner.reconstruct_references(request.clips, reporter=request.reporter)
    return {(clip_id, request.seeds[0]): source for clip_id, source in audio.items()}


def _score(request: BoundRequest) -> TakeSources:
    """Build the audio of the scores that condition the first model with notes."""
    runner = next((r for r in request.system_runners if r.system.uses_notes), None)
    if runner is None:
        raise UnavailableError("no model conditioned on notes was selected")
    from loris_cli.evaluation.runner.systems import build_score_system

    player = replace(runner, name="score", system=build_score_system())
    takes, _ = player.generate_takes(request.clips, request.seeds, reporter=request.reporter)
    return {
        (clip_id, seed): replace(
            take, max_samples=request.reference_analyses[clip_id].n_samples
        )
        for (clip_id, seed), take in takes.items()
    }


def _performance(request: BoundRequest) -> TakeSources:
    """Reference of another dancer and performance to the same music, where it is known."""
    sources = TakeSources()
    for clip in request.clips:
        for other in request.clips:
            shared = {*clip.groups} & {*other.groups}
            if other is not clip and shared and all(g.startswith("music:") for g in shared):
                sources[clip.id, request.seeds[0]] = request.cut_to(clip, other)
                break
    if not sources:
        raise UnavailableError("no two clips are known to have the same music")
    return sources


BOUNDS: Mapping[str, Bound] = {
    "click_1hz": Bound("null", "1 click per second", _click_1hz),
    "click_4hz": Bound("null", "4 clicks per second", _click_4hz),
    "white_noise": Bound("null", "white noise", _white_noise),
    "density_matched": Bound("null", "reference onsets, seconds shuffled", _density_matched),
    "tempo_click": Bound("null", "clicks at the reference tempo, random phase", _tempo_click),
    "mismatched": Bound("null", "reference of an unrelated clip", _mismatched),
    "score": Bound("method", "rule-written score, played by the built-in synthesizer", _score),
    "ground_truth": Bound("ceiling", "reference audio", _ground_truth),
    "latent_reconstruction": Bound(
        "ceiling", "encoded and decoded reference", partial(_reconstruct, "latent")
    ),
    "vqvae_reconstruction": Bound(
        "ceiling",
        "reference encoded and decoded by the VQ-VAE of d2mgan and cdcd",
        partial(_reconstruct, "vqvae"),
    ),
    "other_performance": Bound("ceiling", "other performance to the same music", _performance),
}
"""Bounds by id, in the order of the report."""
RANDOM_BOUNDS = frozenset(
    {"white_noise", "density_matched", "tempo_click", "mismatched", "score"}
)
"""Bounds that are scored once per seed; the others are scored for the first seed only."""
CHANCE_BOUNDS = frozenset({"mismatched", "other_performance"})
"""Bounds that use the references of other clips; their F1 is not corrected for chance."""
