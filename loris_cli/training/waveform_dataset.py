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
from loris_cli.dataset.read_clips import read_picture, read_sound
from loris_cli.models.paper_config import PaperConfig
from loris_cli.soundtrack.paper_conditioning import window_of
from loris_cli.soundtrack.visual_features import VISUAL_FPS
from loris_cli.soundtrack.waveform_generator import ROW
from loris_cli.training.datasets import Example, Lesson, clip_of, generator_of, told

SIGMAS = (-3.0, 1.0)
"""Mean and deviation of the logarithm of the noise levels (specification, 1.2)."""
PEAK = 0.95
QUIETEST = 0.3
"""The peak of a clip is brought to 0.95 and multiplied by a number from 0.3 to 1 (D2)."""


class SoundExamples(Dataset[Example]):
    """As long as the network's configuration says; behind its end a clip is silent."""

    def __init__(
        self,
        data: Path,
        clips: Sequence[Clip],
        lessons: Sequence[Lesson],
        *,
        config: PaperConfig,
        seed: int,
        drop_condition: float,
        augment: bool,
        visual: str = "",
    ) -> None:
        """Take clips, and what is told of each.

        Args:
            data: folder of the data set.
            clips: of it.
            lessons: one for each.
            config: of the network.
            seed: of the run.
            drop_condition: how often nothing is told (LORIS, Sec. 5.1).
            augment: whether the gain varies; to validate it does not (D1).
            visual: maker of the features of the picture that are told; empty for none.
        """
        self._data, self._clips, self._lessons = data, list(clips), list(lessons)
        self._config, self._seed = config, seed
        self._drop, self._augment, self._visual = drop_condition, augment, visual

    def __getitem__(self, number: int) -> Example:
        """``clean``, ``noise``, ``sigma``, ``dropped``; ``rhythm`` and what else is told."""
        config = self._config
        rng = generator_of(self._seed, 3, number)
        index = clip_of(self._seed, number, len(self._clips))
        clip = self._clips[index]
        n_rows = int(clip.duration_s * VISUAL_FPS)
        row = int(rng.integers(max(n_rows - config.video_length, 0) + 1))
        features = told(self._lessons[index], rng)
        if self._visual:
            features = replace(features, visual=read_picture(self._data, clip, self._visual))
        window = window_of(features, config, row, alone=False)
        sound = read_sound(self._data, clip)
        gain = PEAK / max(float(np.abs(sound).max(initial=0.0)), 1e-6)
        gain *= float(rng.uniform(QUIETEST, 1.0)) if self._augment else 1.0
        stretch = sound[row * ROW : row * ROW + config.n_samples] * np.float32(gain)
        stretch = np.pad(stretch, (0, config.n_samples - len(stretch)))
        mean, deviation = SIGMAS
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
