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
from loris_cli.audio.loudness import SILENT_LUFS, loudness
from loris_cli.audio.onsets import detect_onsets
from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.errors import InputError, LorisError
from loris_cli.evaluation.metrics import musicnn
from loris_cli.evaluation.metrics.embeddings import Embedder
from loris_cli.evaluation.metrics.frechet import frechet_distance, statistics
from loris_cli.evaluation.metrics.music import texture
from loris_cli.evaluation.runner.audio_sources import Recorded, Samples, Sound, samples_of
from loris_cli.evaluation.runner.run import Result
from loris_cli.system.progress import Reporter
from loris_cli.system.worker_pool import Died, fan_out

Array = NDArray[np.float64]

FULL_SCALE = 0.999
"""Samples from here on count as clipped."""
TEXTURE = ("flatness", "silence", "dynamic_range_db", "key_clarity")
LEAST = 1e-6
"""Likelihoods of tags are kept so far from 0 and 1: their logarithms are finite."""


@dataclass(frozen=True, kw_only=True)
class Timbre:
    """What a sound is like."""

    frames: NDArray[np.float32]
    """Log-mel, ``(128, frames)``."""
    heard: NDArray[np.float32] | None
    """What musicnn hears, ``(200, patches)``; None of less than 3 s."""
    tags: NDArray[np.float32] | None
    """How likely each of its tags is, ``(50,)``."""
    figures: dict[str, float]
    """``loudness_lufs``, ``clipping`` and `TEXTURE`, those that the sound has."""


def timbre(sound: Sound) -> Timbre | None:
    """What a sound is like; None if it cannot be read."""
    try:
        samples, _ = samples_of(sound)
    except LorisError:
        return None
    figures = {"clipping": float(np.mean(np.abs(samples) >= FULL_SCALE))}
    loud_lufs = _loudness(sound, samples)
    if loud_lufs > SILENT_LUFS:
        figures["loudness_lufs"] = loud_lufs
    try:
        told = texture(samples, detect_onsets(samples))
        figures |= {name: float(getattr(told, name)) for name in TEXTURE}
    except InputError:  # silent, or under 4 s
        pass
    try:
        heard, tags = musicnn.listen(samples)
    except InputError:  # under 3 s
        return Timbre(frames=mel.log_mel(samples), heard=None, tags=None, figures=figures)
    return Timbre(
        frames=mel.log_mel(samples), heard=heard.T, tags=tags.mean(axis=0), figures=figures
    )


def quality(
    result: Result, *, embeddings: Sequence[str] = (), reporter: Reporter
) -> dict[str, dict[str, float]]:
    """Figures of every row.

    Args:
        result: of the run.
        embeddings: of `embeddings.LOADERS`, on which there is to be a distance too.
        reporter: whom to tell.

    Returns:
        by row: ``frechet_log_mel``; ``frechet_musicnn`` and ``kl_tags`` of sounds of 3 s and
        more; means of the figures of `Timbre`; ``frechet_`` of each embedding.

    Raises:
        MissingDependencyError: there are embeddings and fadtk is not installed.
        WeightsError: weights of an embedding cannot be fetched.
    """
    truths = {
        case.id: case.reference
        for case in result.cases
        if case.reference is not None and case.id in result.truths
    }
    firsts: dict[str, dict[str, Sound]] = {"": dict(truths)}
    for row in result.rows:
        firsts[row.id] = {
            clip: result.sounds[row.id][clip, row.seeds[0]]
            for clip in row.clips
            if clip in truths
        }
    different = list(dict.fromkeys(s for row in firsts.values() for s in row.values()))
    found = _timbres(different, result.plan.jobs, reporter)
    rows = {
        row_id: {clip: found[sound] for clip, sound in sounds.items() if sound in found}
        for row_id, sounds in firsts.items()
    }
    true = rows.pop("")
    figures = {row_id: _figures(made, true) for row_id, made in rows.items() if made}
    for name in embeddings:
        heard = _embedded(name, [sound for sound in different if sound in found], reporter)
        for row_id, own in figures.items():
            both = [
                (sound, truths[clip])
                for clip, sound in firsts[row_id].items()
                if sound in heard and truths[clip] in heard
            ]
            own[f"frechet_{name}"] = frechet_distance(
                statistics(heard[made] for made, _ in both),
                statistics(heard[theirs] for _, theirs in both),
            )
    return figures


def tag_divergence(true: NDArray[np.float32], made: NDArray[np.float32]) -> float:
    """Kullback-Leibler divergence of tags, each yes or no, mean over tags, in nats.

    Args:
        true: how likely each tag is in the truth, ``(tags,)``, 0..1.
        made: in what was made.
    """
    p, q = (np.clip(x.astype(np.float64), LEAST, 1 - LEAST) for x in (true, made))
    return float(np.mean(p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))))


def _figures(made: dict[str, Timbre], true: dict[str, Timbre]) -> dict[str, float]:
    both = [clip for clip in made if clip in true]
    figures = {
        "frechet_log_mel": frechet_distance(
            statistics(made[clip].frames for clip in both),
            statistics(true[clip].frames for clip in both),
        )
    }
    ours = [made[clip].heard for clip in both]
    theirs = [true[clip].heard for clip in both]
    heard = [
        (a, b) for a, b in zip(ours, theirs, strict=True) if a is not None and b is not None
    ]
    if sum(a.shape[1] for a, _ in heard) > 1:
        figures["frechet_musicnn"] = frechet_distance(
            statistics(a for a, _ in heard), statistics(b for _, b in heard)
        )
    divergences = [
        tag_divergence(b, a)
        for a, b in ((made[clip].tags, true[clip].tags) for clip in both)
        if a is not None and b is not None
    ]
    if divergences:
        figures["kl_tags"] = float(np.mean(divergences))
    for name in ("loudness_lufs", "clipping", *TEXTURE):
        values = [made[clip].figures[name] for clip in both if name in made[clip].figures]
        if values:
            figures[name] = float(np.mean(values))
    return figures


def _timbres(sounds: Sequence[Sound], jobs: int, reporter: Reporter) -> dict[Sound, Timbre]:
    found = {}
    with reporter.stage("quality", len(sounds)) as advance:
        if min(jobs, len(sounds)) <= 1:
            results = ((k, timbre(sound)) for k, sound in enumerate(sounds))
            for index, told in results:
                if told is not None:
                    found[sounds[index]] = told
                advance(1)
        else:
            with closing(fan_out(timbre, sounds, n_workers=jobs)) as fanned:
                for index, result in fanned:
                    if result is not None and not isinstance(result, Died):
                        found[sounds[index]] = result
                    advance(1)
    return found


def _embedded(
    name: str, sounds: Sequence[Sound], reporter: Reporter
) -> dict[Sound, NDArray[np.float32]]:
    """What one network hears in each sound; it is in memory only meanwhile."""
    embedder = Embedder(name)
    found = {}
    with reporter.stage(name, len(sounds)) as advance:
        for sound in sounds:
            found[sound] = embedder.embed(samples_of(sound)[0])
            advance(1)
    return found


def _loudness(sound: Sound, samples: Samples) -> float:
    if isinstance(sound, Recorded) and sound.most_samples is None:
        return loudness(sound.path).integrated_lufs
    with tempfile.TemporaryDirectory() as room:
        path = Path(room, "sound.wav")
        soundfile.write(path, samples, SAMPLE_RATE_HZ, subtype="FLOAT")
        return loudness(path).integrated_lufs
