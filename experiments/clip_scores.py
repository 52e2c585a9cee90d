"""Metrics of the takes of one held-out clip.

clip -> reference, rhythm -> takes -> onsets, texture, spectra, musicnn features -> TakeScores
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from music_metrics import chroma_distance, loudness_motion_correlation, tempo_stability
from numpy.typing import NDArray

from loris_cli.audio import mel
from loris_cli.audio.beat_tracking import track_beats
from loris_cli.audio.onsets import compute_onset_deviations, detect_onsets, match_onsets
from loris_cli.dataset.manifest import Clip
from loris_cli.dataset.read_clips import (
    read_annotations,
    read_clip_audio,
    read_rhythm_features,
    read_video_features,
)
from loris_cli.evaluation.metrics import musicnn
from loris_cli.evaluation.metrics.loris_scores import f1_score
from loris_cli.evaluation.metrics.music import measure_texture
from loris_cli.evaluation.metrics.sync import beat_f_measure
from loris_cli.models.generator_interface import MusicGenerator, VideoFeatures

Samples = NDArray[np.float32]
TimesS = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class TakeScores:
    """Metrics of the takes of one clip."""

    values_by_take: dict[str, list[float]]
    """Values by metric, one for each take for which the metric is defined."""
    log_mels: list[Samples]
    """Log-mel spectrogram of each take, ``(128, frames)``."""
    musicnn_features: list[Samples]
    """musicnn features of each take, ``(features, patches)``."""

    @property
    def mean_values(self) -> dict[str, float]:
        """Mean of each metric over the takes."""
        return {name: float(np.mean(values)) for name, values in self.values_by_take.items()}


def extract_spectral_features(samples: Samples) -> tuple[Samples, Samples]:
    """Compute the log-mel spectrogram and the musicnn features of audio.

    Args:
        samples: mono audio at 22,050 Hz, ``(samples,)``.

    Returns:
        log-mel spectrogram, ``(128, frames)``, and features, ``(features, patches)``.
    """
    return mel.compute_log_mel(samples), musicnn.embed(samples)[0].T


class HeldOutClip:
    """Audio, features and annotations of a held-out clip."""

    def __init__(self, data: Path, clip: Clip, *, mismatched_clip: Clip) -> None:
        """Read a clip from a data set.

        Args:
            data: data set folder.
            clip: the clip.
            mismatched_clip: another clip of the same style; its rhythm gives the chance level.
        """
        self.reference = read_clip_audio(data, clip)
        self.features = read_rhythm_features(data, clip)
        harmony = read_annotations(data, clip).harmony
        self.beats_s = np.empty(0) if harmony is None else harmony.beats_s
        self.pose_features = read_video_features(data, clip)
        self.mismatched_peaks_s = read_rhythm_features(data, mismatched_clip).peaks_s

    def score_takes(self, takes: Sequence[Samples], condition_peaks_s: TimesS) -> TakeScores:
        """Score takes that share a rhythm condition.

        Args:
            takes: mono audio at 22,050 Hz, ``(samples,)`` each.
            condition_peaks_s: peaks of the rhythm condition in seconds, ``(peaks,)``.
        """
        onsets = [detect_onsets(samples) for samples in takes]
        rows = [
            self._score_take(samples, onsets_s, condition_peaks_s)
            for samples, onsets_s in zip(takes, onsets, strict=True)
        ]
        for row, (one, other), (one_s, other_s) in zip(
            rows, pairwise(takes), pairwise(onsets), strict=False
        ):
            row["chroma_distance"] = chroma_distance(one, other)
            row["onset_distance"] = 1 - _onset_f_measure(one_s, other_s)
        names = sorted({name for row in rows for name in row})
        spectra = [extract_spectral_features(samples) for samples in takes]
        return TakeScores(
            values_by_take={name: [row[name] for row in rows if name in row] for name in names},
            log_mels=[frames for frames, _ in spectra],
            musicnn_features=[features for _, features in spectra],
        )

    def _score_take(
        self, samples: Samples, onsets_s: TimesS, condition_peaks_s: TimesS
    ) -> dict[str, float]:
        match = match_onsets(condition_peaks_s, onsets_s)
        offsets_s = compute_onset_deviations(condition_peaks_s, onsets_s)
        metrics = {
            "recall": match.recall,
            "precision": match.precision,
            "accent_recall": match_onsets(self.features.peaks_s, onsets_s).recall,
            "mismatched_recall": match_onsets(self.mismatched_peaks_s, onsets_s).recall,
            "loudness_motion_correlation": loudness_motion_correlation(
                samples, self.features.energy
            ),
            **asdict(measure_texture(samples, onsets_s)),
        }
        if len(offsets_s):
            metrics["median_offset_ms"] = 1000 * float(np.median(offsets_s))
        if len(self.beats_s):
            beats_s = track_beats(samples)
            metrics["beat_f_measure"] = beat_f_measure(self.beats_s, beats_s)
            metrics["tempo_stability"] = tempo_stability(beats_s)
        return metrics


def _onset_f_measure(onsets_s: TimesS, other_onsets_s: TimesS) -> float:
    """Return the onset F-measure of two takes; 1 if neither has an onset."""
    if not len(onsets_s) and not len(other_onsets_s):
        return 1.0
    match = match_onsets(onsets_s, other_onsets_s)
    return f1_score(match.recall, match.precision)


def generate_takes(
    generator: MusicGenerator, features: VideoFeatures, n_seeds: int
) -> list[Samples]:
    """Generate mono takes at 22,050 Hz, ``(samples,)`` each, with seeds from 0."""
    takes = []
    for seed in range(n_seeds):
        blocks = generator.generate(features, seed=seed, progress=lambda done, total: None)
        takes.append(np.concatenate(list(blocks), axis=1).mean(axis=0))
    return takes
