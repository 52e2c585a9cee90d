"""Arrays of the training clips of a baseline, computed once and kept in the run folder.

clip -> TrainingClip -> LearnedMethod.prepare_clip -> RUN/prepared/HASH.npz, or HASH.skipped
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn
from torch.utils.data import Dataset

from loris_cli.baselines.learned_method import LearnedMethod, PreparedClip, TrainingClip
from loris_cli.dataset.manifest import Clip
from loris_cli.dataset.read_clips import (
    read_annotations,
    read_clip_audio,
    read_clip_visual_features,
    read_video_features,
)
from loris_cli.errors import InputError
from loris_cli.models.generator_interface import VideoFeatures
from loris_cli.system.atomic_files import atomic_write
from loris_cli.system.progress import Reporter
from loris_cli.training.datasets import Example, clip_index
from loris_cli.training.waveform_dataset import without_peaks

LEARNED_STREAM = 4
"""Second key of the random generators, see `datasets.MEL_STREAM`."""


def read_training_clip(data_dir: Path, clip: Clip, visual_encoder: str) -> TrainingClip:
    """Read a clip for the training of a baseline.

    Args:
        data_dir: folder of the data set.
        clip: clip of the data set.
        visual_encoder: encoder of the visual features; empty for none.
    """
    annotations = read_annotations(data_dir, clip)
    features = read_training_features(data_dir, clip, visual_encoder)
    return TrainingClip(
        clip_id=clip.id,
        features=features,
        read_samples=partial(read_clip_audio, data_dir, clip),
        arrangement=annotations.arrangement,
        harmony=annotations.harmony,
    )


def read_training_features(data_dir: Path, clip: Clip, visual_encoder: str) -> VideoFeatures:
    """Read the features of a clip's video; without poses it has no peaks."""
    features = read_video_features(data_dir, clip)
    if features is None:
        features = without_peaks(read_annotations(data_dir, clip).without_score())
    if not visual_encoder:
        return features
    visual = read_clip_visual_features(data_dir, clip, visual_encoder)
    return replace(features, visual=visual)


@dataclass(frozen=True, kw_only=True)
class ClipPreparation:
    """Preparation of the clips of a run."""

    data_dir: Path
    folder: Path
    """Folder of the arrays."""
    method: LearnedMethod
    config: Any
    """Configuration of the network."""
    codec: nn.Module | None
    visual_encoder: str

    def prepare(self, clips: Sequence[Clip], reporter: Reporter) -> None:
        """Write the arrays of all clips that have none yet.

        Raises:
            OutputError: the folder is not writable.
        """
        todo = [clip for clip in clips if not self._is_done(clip)]
        if not todo:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        reasons: list[str] = []
        with reporter.stage("preparation of clips", len(todo)) as advance:
            for clip in todo:
                reasons += self._prepare_clip(clip)
                advance(1)
        for reason, n_clips in Counter(reasons).most_common():
            reporter.warn(f"{n_clips} of {len(todo)} clips are not used: {reason}")

    def find_prepared(self, clips: Sequence[Clip]) -> list[Path]:
        """Return the files of the clips that have something to train on.

        Raises:
            InputError: there is none; the reason is that of the first clip.
        """
        paths = [path for clip in clips if (path := self._array_path(clip)).is_file()]
        if not paths:
            reason = self._skipped_path(clips[0]).read_text(encoding="utf-8").strip()
            raise InputError(
                f"no clip can be used to train {self.method.name}: {reason}",
                hint="prepare the data with `loris prep`, or use another --split",
            )
        return paths

    def _prepare_clip(self, clip: Clip) -> list[str]:
        """Write the arrays of a clip; return the reason if it cannot be used."""
        training_clip = read_training_clip(self.data_dir, clip, self.visual_encoder)
        try:
            arrays = self.method.prepare_clip(training_clip, self.config, self.codec)
        except InputError as error:
            reason = str(error).replace(f"{clip.id} ", "it ")
            with atomic_write(self._skipped_path(clip), overwrite=True) as temporary:
                temporary.write_text(f"{clip.id}: {reason}\n", encoding="utf-8")
            return [reason]
        with (
            atomic_write(self._array_path(clip), overwrite=True) as temporary,
            temporary.open("wb") as file,
        ):
            np.savez(file, **arrays)  # type: ignore[arg-type]
        return []

    def _is_done(self, clip: Clip) -> bool:
        return self._array_path(clip).is_file() or self._skipped_path(clip).is_file()

    def _array_path(self, clip: Clip) -> Path:
        return self.folder / f"{_hash_id(clip)}.npz"

    def _skipped_path(self, clip: Clip) -> Path:
        return self.folder / f"{_hash_id(clip)}.skipped"


def _hash_id(clip: Clip) -> str:
    return hashlib.sha256(clip.id.encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class PreparedDataset(Dataset[Example]):
    """Examples of a baseline from prepared clips."""

    paths: Sequence[Path]
    method: LearnedMethod
    config: Any
    seed: int

    def __getitem__(self, example_index: int) -> Example:
        """Return an example of the method, see `LearnedMethod.draw_example`."""
        rng = np.random.default_rng((self.seed, LEARNED_STREAM, example_index))
        path = self.paths[clip_index(self.seed, example_index, len(self.paths))]
        with np.load(path, allow_pickle=False) as arrays:
            prepared: PreparedClip = {name: arrays[name] for name in arrays.files}
        return self.method.draw_example(prepared, self.config, rng)
