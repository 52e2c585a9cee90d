"""One held-out clip, and all that is scored of sounds made for it.

clip -> truth, given rhythm -> sounds -> onsets, texture, spectra, what musicnn hears -> Scored
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from loris_cli.audio import mel
from loris_cli.audio.beat_tracking import tracked_beats
from loris_cli.audio.onsets import detect_onsets, match, offsets
from loris_cli.composition.note_spectrogram import BANDS, sketch
from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.dataset.manifest import Clip
from loris_cli.dataset.read_clips import read_danced, read_features, read_lesson, read_sound
from loris_cli.evaluation.metrics import musicnn
from loris_cli.evaluation.metrics.music import (
    beat_f,
    chroma_distance,
    follows_energy,
    tempo_steadiness,
    texture,
)
from loris_cli.models.generator_interface import ClipFeatures
from loris_cli.soundtrack.conditioning import own_seed, planned
from loris_cli.soundtrack.latent_generator import ATTACK_S, LatentGenerator

Samples = NDArray[np.float32]
Moments = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Scored:
    """Figures of the takes of one clip."""

    every: dict[str, list[float]]
    """Of each take; a figure that a take cannot have is left out."""
    frames: list[Samples]
    """Log-mel of each take, ``(128, frames)``."""
    heard: list[Samples]
    """What musicnn hears in each, ``(features, patches)``."""

    @property
    def values(self) -> dict[str, float]:
        """Means over the takes."""
        return {name: float(np.mean(values)) for name, values in self.every.items()}


def spectra_of(samples: Samples) -> tuple[Samples, Samples]:
    """Log-mel frames of a sound, and what musicnn hears in it."""
    return mel.log_mel(samples), musicnn.listen(samples)[0].T


def sketches_of(told: ClipFeatures, seeds: int) -> list[Samples]:
    """The notes that a model would be told, as sound with no model between: a baseline.

    Args:
        told: of the clip.
        seeds: takes, of seeds from 0 on.
    """
    early = replace(told, peaks_s=told.peaks_s - ATTACK_S)
    n_frames = int(told.duration_s * mel.MEL_HZ) + 2
    takes = []
    for seed in range(seeds):
        arrangement = planned(early, seed=own_seed(seed, told.peaks_s)).arrangement
        assert arrangement is not None
        samples = mel.invert(sketch(arrangement, 0, n_frames), BANDS, seed=seed)
        takes.append(samples[: round(told.duration_s * SAMPLE_RATE_HZ)])
    return takes


class Case:
    """One held-out clip and what its sounds are scored against."""

    def __init__(self, data: Path, clip: Clip, *, other: Clip) -> None:
        """Read a clip.

        Args:
            data: folder of the data set.
            clip: of it.
            other: another of the same style, whose rhythm stands for chance.
        """
        self.sound = read_sound(data, clip)
        self.features = read_features(data, clip)
        lesson = read_lesson(data, clip)
        self.beats_s = np.empty(0) if lesson.harmony is None else lesson.harmony.beats_s
        danced = read_danced(data, clip)
        # Told as the peaks of a video are: nobody knows how loosely that body keeps time.
        self.danced = danced and replace(danced, harmony=None, arrangement=None, looseness=0.0)
        self.other_s = read_features(data, other).peaks_s

    def score(self, takes: Sequence[Samples], given_s: Moments) -> Scored:
        """Figures of some takes of one rhythm.

        Args:
            takes: mono sounds at 22,050 Hz.
            given_s: the peaks they were made for.
        """
        onsets = [detect_onsets(samples) for samples in takes]
        rows = [
            self._figures(samples, onsets_s, given_s)
            for samples, onsets_s in zip(takes, onsets, strict=True)
        ]
        for row, (one, other), (one_s, other_s) in zip(
            rows, pairwise(takes), pairwise(onsets), strict=False
        ):
            row["chroma_apart"] = chroma_distance(one, other)
            row["rhythm_apart"] = 1 - _agreement(one_s, other_s)
        names = sorted({name for row in rows for name in row})
        spectra = [spectra_of(samples) for samples in takes]
        return Scored(
            every={name: [row[name] for row in rows if name in row] for name in names},
            frames=[frames for frames, _ in spectra],
            heard=[heard for _, heard in spectra],
        )

    def _figures(
        self, samples: Samples, onsets_s: Moments, given_s: Moments
    ) -> dict[str, float]:
        hits = match(given_s, onsets_s)
        late = offsets(given_s, onsets_s)
        figures = {
            "hit": hits.recall,
            "precision": hits.precision,
            "accents": match(self.features.peaks_s, onsets_s).recall,
            "hit_of_another": match(self.other_s, onsets_s).recall,
            "follows_energy": follows_energy(samples, self.features.energy),
            **asdict(texture(samples, onsets_s)),
        }
        if len(late):
            figures["offset_ms"] = 1000 * float(np.median(late))
        if len(self.beats_s):
            beats_s = tracked_beats(samples)
            figures["beat_f"] = beat_f(self.beats_s, beats_s)
            figures["tempo_steadiness"] = tempo_steadiness(beats_s)
        return figures


def _agreement(one_s: Moments, other_s: Moments) -> float:
    """F-measure of the onsets of two takes; two silent ones agree."""
    if not len(one_s) and not len(other_s):
        return 1.0
    hits = match(one_s, other_s)
    return 2 * hits.recall * hits.precision / max(hits.recall + hits.precision, 1e-12)


def takes_of(generator: LatentGenerator, told: ClipFeatures, seeds: int) -> list[Samples]:
    """Sounds that a model makes of a rhythm, seeds from 0 on."""
    return [
        np.concatenate(
            list(generator.generate(told, seed=seed, progress=lambda done, total: None)), axis=1
        )[0]
        for seed in range(seeds)
    ]
