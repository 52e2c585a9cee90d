"""Training examples for the paper's network, which runs on the waveform.

clip -> crop on a grid of half seconds -> gain -> two channels, noise, window of conditions
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch.utils.data import Dataset

from loris_cli.dataset.manifest import Clip
from loris_cli.dataset.read_clips import read_clip_audio, read_clip_visual_features
from loris_cli.models.generator_interface import ClipFeatures, VideoFeatures
from loris_cli.models.paper_config import PaperConfig
from loris_cli.soundtrack.paper_conditioning import extract_window
from loris_cli.soundtrack.visual_features import VISUAL_FPS
from loris_cli.soundtrack.waveform_generator import SAMPLES_PER_ROW
from loris_cli.training import datasets
from loris_cli.training.datasets import ClipAnnotations, Example

FeaturesT = TypeVar("FeaturesT", bound=VideoFeatures)

PAPER_LOG_SIGMA = (-3.0, 1.0)
"""Mean and standard deviation of the log noise level, from the released code."""
MAX_PEAK = 0.95
MIN_GAIN = 0.3
"""Clips are normalized to a peak of 0.95 and multiplied by a random gain from 0.3 to 1
(docs/differences.md, D2)."""


@dataclass(frozen=True, kw_only=True)
class WaveformDataset(Dataset[Example]):
    """Crops of the network's input length, padded with silence after the end of a clip."""

    data_dir: Path
    clips: Sequence[Clip]
    annotations: Sequence[ClipAnnotations]
    """Annotations of each clip."""
    config: PaperConfig
    seed: int
    condition_dropout: float
    """Probability of the null condition (LORIS, Sec. 5.1)."""
    augment: bool
    """Apply a random gain; not in validation (docs/differences.md, D1)."""
    audio_accent_probability: float = 0.0
    """Probability that the peaks are accents of the clip's own audio; 0 in validation."""
    visual_encoder: str = ""
    """Encoder of the visual features for conditioning; empty for none."""

    def __getitem__(self, example_index: int) -> Example:
        """Return ``clean``, ``noise``, ``sigma``, ``drop_mask`` and the encoder inputs."""
        config = self.config
        rng = np.random.default_rng((self.seed, datasets.WAVEFORM_STREAM, example_index))
        index = datasets.clip_index(self.seed, example_index, len(self.clips))
        clip = self.clips[index]
        n_rows = int(clip.duration_s * VISUAL_FPS)
        row = int(rng.integers(max(n_rows - config.n_visual_frames, 0) + 1))
        features = self._select_rhythm(self.annotations[index], rng)
        if self.visual_encoder:
            visual = read_clip_visual_features(self.data_dir, clip, self.visual_encoder)
            features = replace(features, visual=visual)
        window = extract_window(features, config, row, is_only=False)
        samples = read_clip_audio(self.data_dir, clip)
        gain = MAX_PEAK / max(float(np.abs(samples).max(initial=0.0)), 1e-6)
        gain *= float(rng.uniform(MIN_GAIN, 1.0)) if self.augment else 1.0
        start = row * SAMPLES_PER_ROW
        crop = samples[start : start + config.n_samples] * np.float32(gain)
        crop = np.pad(crop, (0, config.n_samples - len(crop)))
        noise = rng.standard_normal((config.in_channels, config.n_samples), dtype=np.float32)
        mean, deviation = PAPER_LOG_SIGMA
        sigma = np.exp(mean + deviation * rng.standard_normal())
        drop = bool(rng.random() < self.condition_dropout)
        example = {
            "clean": torch.from_numpy(np.tile(crop, (config.in_channels, 1))),
            "noise": torch.from_numpy(noise),
            "sigma": torch.tensor(sigma).float(),
            "drop_mask": torch.tensor(drop),
            "rhythm": torch.from_numpy(window.rhythm).float(),
            "onset_envelope": torch.from_numpy(window.envelope).float(),
            "pose": torch.from_numpy(window.motion).float(),
            "genre": torch.tensor(-1 if window.genre is None else window.genre),
        }
        if window.visual is not None:
            example["visual"] = torch.from_numpy(window.visual).float()
        return example

    def _select_rhythm(
        self, annotations: ClipAnnotations, rng: np.random.Generator
    ) -> ClipFeatures:
        """Return the features of a clip, with the peaks of its poses (Eq. 4 to 7) or accents.

        A clip without poses has no visual peaks.
        """
        accents, pose = annotations.annotated_features, annotations.pose_features
        if rng.random() < self.audio_accent_probability:
            keypoints = None if pose is None else pose.keypoints
            return replace(accents, keypoints=keypoints, rhythm_method="audio")
        return pose or without_peaks(accents)


def without_peaks(features: FeaturesT) -> FeaturesT:
    """Return features without rhythm peaks and energy."""
    empty = np.empty(0)
    return replace(
        features, peaks_s=empty, strengths=empty, energy=np.zeros_like(features.energy)
    )
