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
from loris_cli.audio.beat_tracking import track_beats
from loris_cli.audio.onsets import compute_onset_deviations, detect_onsets, match_onsets
from loris_cli.composition.note_spectrogram import NOTE_MEL_CONFIG, render_note_spectrogram
from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.dataset.manifest import Clip
from loris_cli.dataset.read_clips import (
    read_annotations,
    read_clip_audio,
    read_pose_features,
    read_rhythm_features,
)
from loris_cli.evaluation.metrics import musicnn
from loris_cli.evaluation.metrics.music import (
    beat_f_measure,
    chroma_distance,
    loudness_motion_correlation,
    measure_texture,
    tempo_stability,
)
from loris_cli.models.generator_interface import ClipFeatures
from loris_cli.soundtrack.clip_features import seed_from_rhythm, with_arrangement
from loris_cli.soundtrack.latent_generator import ATTACK_LATENCY_S, LatentGenerator

Samples = NDArray[np.float32]
TimesS = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class TakeScores:
    """Figures of the takes of one clip."""

    values_by_take: dict[str, list[float]]
    """Of each take; a figure that a take cannot have is left out."""
    log_mels: list[Samples]
    """Log-mel of each take, ``(128, frames)``."""
    musicnn_features: list[Samples]
    """What musicnn hears in each, ``(features, patches)``."""

    @property
    def mean_values(self) -> dict[str, float]:
        """Means over the takes."""
        return {name: float(np.mean(values)) for name, values in self.values_by_take.items()}


def extract_spectral_features(samples: Samples) -> tuple[Samples, Samples]:
    """Log-mel frames of a sound, and what musicnn hears in it."""
    return mel.compute_log_mel(samples), musicnn.embed(samples)[0].T


def render_note_spectrograms(features: ClipFeatures, n_seeds: int) -> list[Samples]:
    """The notes that a model would be told, as sound with no model between: a baseline.

    Args:
        features: of the clip.
        n_seeds: takes, of seeds from 0 on.
    """
    early = replace(features, peaks_s=features.peaks_s - ATTACK_LATENCY_S)
    n_frames = int(features.duration_s * mel.MEL_FPS) + 2
    takes = []
    for seed in range(n_seeds):
        arrangement = with_arrangement(
            early, seed=seed_from_rhythm(seed, features.peaks_s)
        ).arrangement
        assert arrangement is not None
        samples = mel.invert_log_mel(
            render_note_spectrogram(arrangement, 0, n_frames), NOTE_MEL_CONFIG, seed=seed
        )
        takes.append(samples[: round(features.duration_s * SAMPLE_RATE_HZ)])
    return takes


class HeldOutClip:
    """One held-out clip and what its sounds are scored against."""

    def __init__(self, data: Path, clip: Clip, *, mismatched_clip: Clip) -> None:
        """Read a clip.

        Args:
            data: folder of the data set.
            clip: of it.
            mismatched_clip: another of the same style, whose rhythm stands for chance.
        """
        self.sound = read_clip_audio(data, clip)
        self.features = read_rhythm_features(data, clip)
        lesson = read_annotations(data, clip)
        self.beats_s = np.empty(0) if lesson.harmony is None else lesson.harmony.beats_s
        danced = read_pose_features(data, clip)
        # Told as the peaks of a video are: nobody knows how loosely that body keeps time.
        self.danced = danced and replace(
            danced, harmony=None, arrangement=None, timing_jitter=0.0
        )
        self.other_s = read_rhythm_features(data, mismatched_clip).peaks_s

    def score_takes(self, takes: Sequence[Samples], condition_peaks_s: TimesS) -> TakeScores:
        """Figures of some takes of one rhythm.

        Args:
            takes: mono sounds at 22,050 Hz.
            condition_peaks_s: the peaks they were made for.
        """
        onsets = [detect_onsets(samples) for samples in takes]
        rows = [
            self._score_take(samples, onsets_s, condition_peaks_s)
            for samples, onsets_s in zip(takes, onsets, strict=True)
        ]
        for row, (one, other), (one_s, other_s) in zip(
            rows, pairwise(takes), pairwise(onsets), strict=False
        ):
            row["chroma_apart"] = chroma_distance(one, other)
            row["rhythm_apart"] = 1 - _onset_f_measure(one_s, other_s)
        names = sorted({name for row in rows for name in row})
        spectra = [extract_spectral_features(samples) for samples in takes]
        return TakeScores(
            values_by_take={name: [row[name] for row in rows if name in row] for name in names},
            log_mels=[frames for frames, _ in spectra],
            musicnn_features=[heard for _, heard in spectra],
        )

    def _score_take(
        self, samples: Samples, onsets_s: TimesS, condition_peaks_s: TimesS
    ) -> dict[str, float]:
        hits = match_onsets(condition_peaks_s, onsets_s)
        late = compute_onset_deviations(condition_peaks_s, onsets_s)
        figures = {
            "hit": hits.recall,
            "precision": hits.precision,
            "accents": match_onsets(self.features.peaks_s, onsets_s).recall,
            "hit_of_another": match_onsets(self.other_s, onsets_s).recall,
            "follows_energy": loudness_motion_correlation(samples, self.features.energy),
            **asdict(measure_texture(samples, onsets_s)),
        }
        if len(late):
            figures["offset_ms"] = 1000 * float(np.median(late))
        if len(self.beats_s):
            beats_s = track_beats(samples)
            figures["beat_f"] = beat_f_measure(self.beats_s, beats_s)
            figures["tempo_steadiness"] = tempo_stability(beats_s)
        return figures


def _onset_f_measure(onsets_s: TimesS, other_onsets_s: TimesS) -> float:
    """F-measure of the onsets of two takes; two silent ones agree."""
    if not len(onsets_s) and not len(other_onsets_s):
        return 1.0
    hits = match_onsets(onsets_s, other_onsets_s)
    return 2 * hits.recall * hits.precision / max(hits.recall + hits.precision, 1e-12)


def generate_takes(
    generator: LatentGenerator, features: ClipFeatures, n_seeds: int
) -> list[Samples]:
    """Sounds that a model makes of a rhythm, seeds from 0 on."""
    return [
        np.concatenate(
            list(generator.generate(features, seed=seed, progress=lambda done, total: None)),
            axis=1,
        )[0]
        for seed in range(n_seeds)
    ]
