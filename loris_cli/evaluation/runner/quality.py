"""Is it good sound? Distances to the truth's spectra, and what is wrong with single sounds.

    sounds of a row, true sounds -> log-mel, musicnn, loudness, texture -> figures of the row

Of each clip the first take is listened to. Distances of few clips are too large (they are
biased by the number of frames) and are compared within one table only.
"""

import tempfile
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from loris_cli.audio import mel
from loris_cli.audio.loudness import SILENT_LUFS, measure_loudness
from loris_cli.audio.onsets import detect_onsets
from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.errors import InputError, LorisError
from loris_cli.evaluation.metrics import musicnn
from loris_cli.evaluation.metrics.embeddings import Embedder
from loris_cli.evaluation.metrics.frechet import fit_gaussian, frechet_distance
from loris_cli.evaluation.metrics.music import measure_texture
from loris_cli.evaluation.runner.audio_sources import (
    AudioSource,
    RecordedAudio,
    Samples,
    load_samples,
)
from loris_cli.evaluation.runner.run import EvaluationResult
from loris_cli.system.progress import Reporter
from loris_cli.system.worker_pool import WorkerCrash, map_in_processes

Array = NDArray[np.float64]

CLIPPING_THRESHOLD = 0.999
"""Samples from here on count as clipped."""
TEXTURE_METRICS = ("spectral_flatness", "silent_fraction", "dynamic_range_db", "key_clarity")
MIN_PROBABILITY = 1e-6
"""Likelihoods of tags are kept so far from 0 and 1: their logarithms are finite."""


@dataclass(frozen=True, kw_only=True)
class AudioQuality:
    """What a sound is like."""

    log_mel: NDArray[np.float32]
    """Log-mel, ``(128, frames)``."""
    musicnn_features: NDArray[np.float32] | None
    """What musicnn hears, ``(200, patches)``; None of less than 3 s."""
    tag_probabilities: NDArray[np.float32] | None
    """How likely each of its tags is, ``(50,)``."""
    metrics: dict[str, float]
    """``loudness_lufs``, ``clipping`` and `TEXTURE_METRICS`, those that the sound has."""


def measure_audio_quality(source: AudioSource) -> AudioQuality | None:
    """What a sound is like; None if it cannot be read."""
    try:
        samples, _ = load_samples(source)
    except LorisError:
        return None
    figures = {"clipped_fraction": float(np.mean(np.abs(samples) >= CLIPPING_THRESHOLD))}
    loud_lufs = _measure_loudness_lufs(source, samples)
    if loud_lufs > SILENT_LUFS:
        figures["loudness_lufs"] = loud_lufs
    try:
        told = measure_texture(samples, detect_onsets(samples))
        figures |= {name: float(getattr(told, name)) for name in TEXTURE_METRICS}
    except InputError:  # silent, or under 4 s
        pass
    try:
        heard, tags = musicnn.embed(samples)
    except InputError:  # under 3 s
        return AudioQuality(
            log_mel=mel.compute_log_mel(samples),
            musicnn_features=None,
            tag_probabilities=None,
            metrics=figures,
        )
    return AudioQuality(
        log_mel=mel.compute_log_mel(samples),
        musicnn_features=heard.T,
        tag_probabilities=tags.mean(axis=0),
        metrics=figures,
    )


def measure_quality(
    result: EvaluationResult, *, embeddings: Sequence[str] = (), reporter: Reporter
) -> dict[str, dict[str, float]]:
    """Figures of every row.

    Args:
        result: of the run.
        embeddings: of `embeddings.LOADERS`, on which there is to be a distance too.
        reporter: whom to tell.

    Returns:
        by row: ``frechet_log_mel``; ``frechet_musicnn`` and ``kl_tags`` of sounds of 3 s and
        more; means of the figures of `AudioQuality`; ``frechet_`` of each embedding.

    Raises:
        MissingDependencyError: there are embeddings and fadtk is not installed.
        WeightsError: weights of an embedding cannot be fetched.
    """
    truths = {
        case.id: case.reference
        for case in result.clips
        if case.reference is not None and case.id in result.reference_analyses
    }
    firsts: dict[str, dict[str, AudioSource]] = {"": dict(truths)}
    for row in result.systems:
        firsts[row.id] = {
            clip: result.take_sources[row.id][clip, row.seeds[0]]
            for clip in row.clip_ids
            if clip in truths
        }
    different = list(dict.fromkeys(s for row in firsts.values() for s in row.values()))
    found = _measure_sources(different, result.plan.max_workers, reporter)
    rows = {
        row_id: {clip: found[sound] for clip, sound in sounds.items() if sound in found}
        for row_id, sounds in firsts.items()
    }
    true = rows.pop("")
    figures = {row_id: _compare_quality(made, true) for row_id, made in rows.items() if made}
    for name in embeddings:
        heard = _embedded(name, [sound for sound in different if sound in found], reporter)
        for row_id, own in figures.items():
            both = [
                (sound, truths[clip])
                for clip, sound in firsts[row_id].items()
                if sound in heard and truths[clip] in heard
            ]
            own[f"frechet_{name}"] = frechet_distance(
                fit_gaussian(heard[made] for made, _ in both),
                fit_gaussian(heard[theirs] for _, theirs in both),
            )
    return figures


def tag_kl_divergence(
    reference_tags: NDArray[np.float32], generated_tags: NDArray[np.float32]
) -> float:
    """Kullback-Leibler divergence of tags, each yes or no, mean over tags, in nats.

    Args:
        reference_tags: how likely each tag is in the truth, ``(tags,)``, 0..1.
        generated_tags: in what was made.
    """
    p, q = (
        np.clip(x.astype(np.float64), MIN_PROBABILITY, 1 - MIN_PROBABILITY)
        for x in (reference_tags, generated_tags)
    )
    return float(np.mean(p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))))


def _compare_quality(
    generated: dict[str, AudioQuality], reference: dict[str, AudioQuality]
) -> dict[str, float]:
    both = [clip for clip in generated if clip in reference]
    figures = {
        "frechet_log_mel": frechet_distance(
            fit_gaussian(generated[clip].log_mel for clip in both),
            fit_gaussian(reference[clip].log_mel for clip in both),
        )
    }
    ours = [generated[clip].musicnn_features for clip in both]
    theirs = [reference[clip].musicnn_features for clip in both]
    heard = [
        (a, b) for a, b in zip(ours, theirs, strict=True) if a is not None and b is not None
    ]
    if sum(a.shape[1] for a, _ in heard) > 1:
        figures["frechet_musicnn"] = frechet_distance(
            fit_gaussian(a for a, _ in heard), fit_gaussian(b for _, b in heard)
        )
    divergences = [
        tag_kl_divergence(b, a)
        for a, b in (
            (generated[clip].tag_probabilities, reference[clip].tag_probabilities)
            for clip in both
        )
        if a is not None and b is not None
    ]
    if divergences:
        figures["kl_tags"] = float(np.mean(divergences))
    for name in ("loudness_lufs", "clipping", *TEXTURE_METRICS):
        values = [
            generated[clip].metrics[name] for clip in both if name in generated[clip].metrics
        ]
        if values:
            figures[name] = float(np.mean(values))
    return figures


def _measure_sources(
    sources: Sequence[AudioSource], max_workers: int, reporter: Reporter
) -> dict[AudioSource, AudioQuality]:
    found = {}
    with reporter.stage("quality", len(sources)) as advance:
        if min(max_workers, len(sources)) <= 1:
            results = ((k, measure_audio_quality(sound)) for k, sound in enumerate(sources))
            for index, told in results:
                if told is not None:
                    found[sources[index]] = told
                advance(1)
        else:
            with closing(
                map_in_processes(measure_audio_quality, sources, n_workers=max_workers)
            ) as fanned:
                for index, result in fanned:
                    if result is not None and not isinstance(result, WorkerCrash):
                        found[sources[index]] = result
                    advance(1)
    return found


def _embedded(
    name: str, sounds: Sequence[AudioSource], reporter: Reporter
) -> dict[AudioSource, NDArray[np.float32]]:
    """What one network hears in each sound; it is in memory only meanwhile."""
    embedder = Embedder(name)
    found = {}
    with reporter.stage(name, len(sounds)) as advance:
        for sound in sounds:
            found[sound] = embedder.embed(load_samples(sound)[0])
            advance(1)
    return found


def _measure_loudness_lufs(source: AudioSource, samples: Samples) -> float:
    if isinstance(source, RecordedAudio) and source.max_samples is None:
        return measure_loudness(source.path).integrated_lufs
    with tempfile.TemporaryDirectory() as room:
        path = Path(room, "sound.wav")
        soundfile.write(path, samples, SAMPLE_RATE_HZ, subtype="FLOAT")
        return measure_loudness(path).integrated_lufs
