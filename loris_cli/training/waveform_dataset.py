"""Stretches of sound and what is told of them, for the network on the waveform.

clip -> stretch on the grid of half seconds -> gain -> two channels, noise, window of conditions
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from loris_cli.dataset.manifest import Clip
from loris_cli.dataset.read_clips import read_clip_audio, read_clip_visual_features
from loris_cli.models.paper_config import PaperConfig
from loris_cli.soundtrack.paper_conditioning import extract_window
from loris_cli.soundtrack.visual_features import VISUAL_FPS
from loris_cli.soundtrack.waveform_generator import SAMPLES_PER_VISUAL_ROW
from loris_cli.training.datasets import (
    ClipAnnotations,
    Example,
    clip_index,
    make_rng,
    sample_condition_source,
)

PAPER_LOG_SIGMA = (-3.0, 1.0)
"""Mean and deviation of the logarithm of the noise levels (specification, 1.2)."""
MAX_PEAK = 0.95
MIN_GAIN = 0.3
"""The peak of a clip is brought to 0.95 and multiplied by a number from 0.3 to 1 (D2)."""


class WaveformDataset(Dataset[Example]):
    """As long as the network's configuration says; behind its end a clip is silent."""

    def __init__(
        self,
        data_dir: Path,
        clips: Sequence[Clip],
        annotations: Sequence[ClipAnnotations],
        *,
        config: PaperConfig,
        seed: int,
        condition_dropout: float,
        augment: bool,
        visual_encoder: str = "",
    ) -> None:
        """Take clips, and what is told of each.

        Args:
            data_dir: folder of the data set.
            clips: of it.
            annotations: one for each.
            config: of the network.
            seed: of the run.
            condition_dropout: how often nothing is told (LORIS, Sec. 5.1).
            augment: whether the gain varies; to validate it does not (D1).
            visual_encoder: maker of the features of the picture that are told; empty for none.
        """
        self._data, self._clips, self._lessons = data_dir, list(clips), list(annotations)
        self._config, self._seed = config, seed
        self._drop, self._augment, self._visual = condition_dropout, augment, visual_encoder

    def __getitem__(self, example_index: int) -> Example:
        """``clean``, ``noise``, ``sigma``, ``dropped``; ``rhythm`` and what else is told."""
        config = self._config
        rng = make_rng(self._seed, 3, example_index)
        index = clip_index(self._seed, example_index, len(self._clips))
        clip = self._clips[index]
        n_rows = int(clip.duration_s * VISUAL_FPS)
        row = int(rng.integers(max(n_rows - config.n_visual_frames, 0) + 1))
        features = sample_condition_source(self._lessons[index], rng)
        if self._visual:
            features = replace(
                features, visual=read_clip_visual_features(self._data, clip, self._visual)
            )
        window = extract_window(features, config, row, is_only_window=False)
        sound = read_clip_audio(self._data, clip)
        gain = MAX_PEAK / max(float(np.abs(sound).max(initial=0.0)), 1e-6)
        gain *= float(rng.uniform(MIN_GAIN, 1.0)) if self._augment else 1.0
        stretch = sound[
            row * SAMPLES_PER_VISUAL_ROW : row * SAMPLES_PER_VISUAL_ROW + config.n_samples
        ] * np.float32(gain)
        stretch = np.pad(stretch, (0, config.n_samples - len(stretch)))
        mean, deviation = PAPER_LOG_SIGMA
        noise = rng.standard_normal((config.in_channels, config.n_samples), dtype=np.float32)
        picture = {} if window.visual is None else {"visual": window.visual}
        return {
            **{key: torch.from_numpy(rows).float() for key, rows in picture.items()},
            "clean": torch.from_numpy(np.tile(stretch, (config.in_channels, 1))),
            "noise": torch.from_numpy(noise),
            "sigma": torch.tensor(np.exp(mean + deviation * rng.standard_normal())).float(),
            "dropped": torch.tensor(bool(rng.random() < self._drop)),
            "rhythm": torch.from_numpy(window.rhythm).float(),
            "envelope": torch.from_numpy(window.envelope).float(),
            "motion": torch.from_numpy(window.motion).float(),
            "genre": torch.tensor(-1 if window.genre is None else window.genre),
        }
