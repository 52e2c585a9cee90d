"""Audio quality metrics: distances to the reference audio, loudness, clipping, texture.

    takes, references -> log-mel, musicnn, loudness, texture -> metrics of the system

Only the first take of each clip is measured. Frechet distances over few clips are biased
upwards by the small number of frames, so compare them only within one table.
"""

import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from loris_cli.array_types import Float32Array, Samples
from loris_cli.audio.loudness import SILENT_LUFS, measure_loudness
from loris_cli.audio.mel import compute_log_mel
from loris_cli.audio.onsets import detect_onsets
from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.errors import InputError, LorisError
from loris_cli.evaluation.metrics import musicnn
from loris_cli.evaluation.metrics.frechet import fit_gaussian, frechet_distance
from loris_cli.evaluation.metrics.music import measure_texture
from loris_cli.evaluation.runner import audio_sources
from loris_cli.evaluation.runner.audio_sources import AudioSource, RecordedAudio
from loris_cli.evaluation.runner.run import EvaluationResult
from loris_cli.system.progress import Reporter

CLIPPING_THRESHOLD = 0.999
"""Samples with at least this magnitude count as clipped."""
TEXTURE_METRICS = ("spectral_flatness", "silent_fraction", "dynamic_range_db", "key_clarity")
MIN_PROBABILITY = 1e-6
"""Tag probabilities are clipped by this margin to 0 and 1 to keep their logarithms finite."""


@dataclass(frozen=True, kw_only=True)
class AudioQuality:
    """Features and quality metrics of one audio source."""

    log_mel: Float32Array
    """Log-mel spectrogram, ``(128, frames)``."""
    musicnn: tuple[Float32Array, Float32Array] | None
    """musicnn features ``(200, patches)`` and tag probabilities ``(50,)``; None below 3 s."""
    metrics: dict[str, float]
    """``clipped_fraction``, and ``loudness_lufs`` and `TEXTURE_METRICS` where defined."""


def measure_audio_quality(source: AudioSource) -> AudioQuality | None:
    """Measure the quality of one source; None if it cannot be read."""
    try:
        samples, _ = audio_sources.load_samples(source)
    except LorisError:
        return None
    metrics = {"clipped_fraction": float(np.mean(np.abs(samples) >= CLIPPING_THRESHOLD))}
    loudness_lufs = _measure_loudness_lufs(source, samples)
    if loudness_lufs > SILENT_LUFS:
        metrics["loudness_lufs"] = loudness_lufs
    with suppress(InputError):  # silent, or under 4 s
        texture = measure_texture(samples, detect_onsets(samples))
        metrics |= {name: float(getattr(texture, name)) for name in TEXTURE_METRICS}
    embedding = None
    with suppress(InputError):  # under 3 s
        patches, tags = musicnn.embed(samples)
        embedding = (patches.T, tags.mean(axis=0))
    return AudioQuality(log_mel=compute_log_mel(samples), musicnn=embedding, metrics=metrics)


def measure_quality(
    result: EvaluationResult, *, reporter: Reporter
) -> dict[str, dict[str, float]]:
    """Measure the audio quality of every system.

    Args:
        result: result of the evaluation run.
        reporter: receives the progress.

    Returns:
        metrics by system id: ``n_clips``, the number of takes and of references,
        on which the bias of the distances depends; ``frechet_log_mel``; ``frechet_musicnn`` and
        ``kl_tags`` over audio of at least 3 s; means of the metrics of `AudioQuality`.
    """
    references = {
        clip.id: clip.reference
        for clip in result.clips
        if clip.reference is not None and clip.id in result.reference_analyses
    }
    pairs = {
        system.id: [
            (result.take_sources[system.id][clip_id, system.seeds[0]], references[clip_id])
            for clip_id in system.clip_ids
            if clip_id in references
        ]
        for system in result.systems
    }
    takes = [take for system in pairs.values() for take, _ in system]
    sources = list(dict.fromkeys([*references.values(), *takes]))
    n_workers = min(result.plan.max_workers, len(sources))
    with reporter.stage("quality", len(sources)) as advance:
        results = audio_sources.map_sources(
            measure_audio_quality, sources, n_workers=n_workers, advance=advance
        )
    known = {source: x for source, x in results.items() if isinstance(x, AudioQuality)}
    metrics = {}
    for system_id, system in pairs.items():
        measured = [(known[a], known[b]) for a, b in system if a in known and b in known]
        if measured:
            metrics[system_id] = _compare_quality(measured)
    return metrics


def tag_kl_divergence(reference_tags: Float32Array, generated_tags: Float32Array) -> float:
    """Kullback-Leibler divergence of independent binary tags, mean over tags, in nats.

    Args:
        reference_tags: tag probabilities of the reference, ``(tags,)``, 0..1.
        generated_tags: tag probabilities of the generated audio, ``(tags,)``, 0..1.
    """
    tags = np.stack([reference_tags, generated_tags]).astype(np.float64)
    p, q = np.clip(tags, MIN_PROBABILITY, 1 - MIN_PROBABILITY)
    return float(np.mean(p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))))


def _compare_quality(pairs: Sequence[tuple[AudioQuality, AudioQuality]]) -> dict[str, float]:
    """Compute the metrics of a system from pairs of take and reference."""

    def distance(features: Sequence[tuple[Float32Array, Float32Array]]) -> float:
        takes, references = zip(*features, strict=True)
        return frechet_distance(fit_gaussian(takes), fit_gaussian(references))

    metrics = {"n_clips": float(len(pairs))}
    metrics |= {"frechet_log_mel": distance([(a.log_mel, b.log_mel) for a, b in pairs])}
    embedded = [(a.musicnn, b.musicnn) for a, b in pairs if a.musicnn and b.musicnn]
    if sum(a[0].shape[1] for a, _ in embedded) > 1:
        metrics["frechet_musicnn"] = distance([(a[0], b[0]) for a, b in embedded])
    if embedded:
        divergences = [tag_kl_divergence(b[1], a[1]) for a, b in embedded]
        metrics["kl_tags"] = float(np.mean(divergences))
    for name in ("loudness_lufs", "clipped_fraction", *TEXTURE_METRICS):
        values = [take.metrics[name] for take, _ in pairs if name in take.metrics]
        if values:
            metrics[name] = float(np.mean(values))
    return metrics


def _measure_loudness_lufs(source: AudioSource, samples: Samples) -> float:
    if isinstance(source, RecordedAudio) and source.max_samples is None:
        return measure_loudness(source.path).integrated_lufs
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "audio.wav")
        soundfile.write(path, samples, SAMPLE_RATE_HZ, subtype="FLOAT")
        return measure_loudness(path).integrated_lufs
