"""Examples to learn from, each a function of (seed, number) alone.

    clips, codes -> order of an epoch -> crop -> what is told of it -> one example

Whatever the number of processes and workers, example ``n`` is the same; so a run on two
processes learns from what a run on one would, and one that is stopped goes on where it was.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from loris_cli.audio import mel
from loris_cli.audio.mel import MelConfig
from loris_cli.dataset.manifest import Clip
from loris_cli.dataset.read_clips import read_annotations, read_pose_features
from loris_cli.models.generator_interface import ClipFeatures
from loris_cli.soundtrack.conditioning import build_condition

Example = dict[str, Tensor]

PSEUDO_RHYTHM_PROBABILITY = 0.1
"""How often the peaks are the onsets of the sound itself."""
POSE_RHYTHM_PROBABILITY, NO_POSE_PROBABILITY = 0.4, 0.1
"""Of clips with a body: how often the peaks are those it shows, and how often it is hidden."""
DROP_HARMONY_PROBABILITY, DROP_NOTES_PROBABILITY = 0.1, 0.05
"""How often neither chords nor notes are told, and of the rest how often no notes."""


def make_rng(*key: int) -> np.random.Generator:
    """Random numbers that belong to a place in a run."""
    return np.random.default_rng(key)


@lru_cache(maxsize=4)
def epoch_permutation(seed: int, epoch: int, n_clips: int) -> NDArray[np.int64]:
    """In which order an epoch goes through the clips."""
    shuffled: NDArray[np.int64] = make_rng(seed, 17, epoch).permutation(n_clips)
    return shuffled


def clip_index(seed: int, example_index: int, n_clips: int) -> int:
    """Which clip an example is cut from."""
    return int(
        epoch_permutation(seed, example_index // n_clips, n_clips)[example_index % n_clips]
    )


class DistributedBatchSampler:
    """Numbers of the examples of one process, batch by batch, for ever.

    Args:
        first_step: where a run goes on.
        batch_size: examples in a step, of all processes.
        rank: which process this is.
        world_size: how many there are; ``batch_size`` is a multiple of it and of ``accumulation_steps``.
        accumulation_steps: parts that a process takes its share in.
    """

    def __init__(
        self,
        *,
        first_step: int,
        batch_size: int,
        rank: int,
        world_size: int,
        accumulation_steps: int,
    ) -> None:
        """Begin before the first batch."""
        self.first_step, self.batch, self.accumulate = (
            first_step,
            batch_size,
            accumulation_steps,
        )
        self.share = batch_size // world_size
        self.rank = rank

    def __iter__(self) -> Iterator[list[int]]:
        """Give lists of numbers; ``accumulate`` of them make a step."""
        part = self.share // self.accumulate
        step = self.first_step
        while True:
            start = step * self.batch + self.rank * self.share
            for k in range(self.accumulate):
                yield list(range(start + k * part, start + (k + 1) * part))
            step += 1


@dataclass(frozen=True)
class ClipAnnotations:
    """A clip as it was composed, as its dancer shows it, and as it sounds."""

    annotated_features: ClipFeatures
    pose_features: ClipFeatures | None
    pseudo_rhythm: ClipFeatures | None = None
    """By its own sound alone."""

    @property
    def has_chords(self) -> bool:
        """Whether its chords are known."""
        return self.annotated_features.harmony is not None

    @property
    def has_notes(self) -> bool:
        """Whether there is a sketch of its notes."""
        return self.annotated_features.note_latent is not None


def read_clip_annotations(
    data_dir: Path,
    clips: Sequence[Clip],
    pseudo_rhythms: Mapping[str, ClipFeatures],
    note_latents: Mapping[str, NDArray[np.float32]],
) -> list[ClipAnnotations]:
    """What there is to be told of clips.

    Args:
        data_dir: folder of the data set.
        clips: of it.
        pseudo_rhythms: what the sound of some of them tells, by id.
        note_latents: codes of the notes of some of them, by id.
    """
    lessons = []
    for clip in clips:
        drawn = note_latents.get(clip.id)
        danced = read_pose_features(data_dir, clip)
        lessons.append(
            ClipAnnotations(
                replace(read_annotations(data_dir, clip), note_latent=drawn),
                danced and replace(danced, note_latent=drawn),
                pseudo_rhythms.get(clip.id),
            )
        )
    return lessons


def sample_condition_source(
    annotations: ClipAnnotations, rng: np.random.Generator
) -> ClipFeatures:
    """What the network is told this time: by score, body or sound; chords and notes or none."""
    features = annotations.annotated_features
    unknown = not len(features.peaks_s)
    if annotations.pseudo_rhythm is not None and (
        unknown or rng.random() < PSEUDO_RHYTHM_PROBABILITY
    ):
        own = annotations.pseudo_rhythm
        features = replace(
            features, peaks_s=own.peaks_s, strengths=own.strengths, energy=own.energy
        )
    elif annotations.pose_features is not None:
        draw = rng.random()
        if draw < POSE_RHYTHM_PROBABILITY:
            features = annotations.pose_features
        elif draw < 1 - NO_POSE_PROBABILITY:
            features = replace(features, keypoints=annotations.pose_features.keypoints)
    if rng.random() < DROP_HARMONY_PROBABILITY:
        features = replace(features, harmony=None, note_latent=None)
    elif rng.random() < DROP_NOTES_PROBABILITY:
        features = replace(features, note_latent=None)
    return features


class MelCropDataset(Dataset[Example]):
    """Crops of log-mel frames, and the noise of their codes: to learn a latent."""

    def __init__(
        self,
        data_dir: Path,
        clips: Sequence[Clip],
        *,
        crop_frames: int,
        latent_shape: tuple[int, int],
        bands: MelConfig,
        seed: int,
    ) -> None:
        """Take clips of a data set.

        Args:
            data_dir: its folder.
            clips: of it.
            crop_frames: length of a crop.
            latent_shape: shape of the crop's code.
            bands: of the frames.
            seed: of the run.
        """
        self._files = [data_dir / clip.audio for clip in clips]
        self._frames, self._code, self._seed = crop_frames, latent_shape, seed
        self._bands = bands

    def __getitem__(self, example_index: int) -> Example:
        """``frames (n_mels, frames)`` and ``noise``, shaped as the code."""
        rng = make_rng(self._seed, 1, example_index)
        samples = self._crop(
            self._files[clip_index(self._seed, example_index, len(self._files))], rng
        )
        frames = mel.compute_log_mel(samples, self._bands)[:, : self._frames]
        noise = rng.standard_normal(self._code, dtype=np.float32)
        return {"frames": torch.from_numpy(frames), "noise": torch.from_numpy(noise)}

    def _crop(self, path: Path, rng: np.random.Generator) -> NDArray[np.float32]:
        """Sound of one crop; what is too short is followed by silence."""
        need = self._frames * mel.HOP_LENGTH
        with soundfile.SoundFile(path) as file:
            start = int(rng.integers(max(file.frames - need, 0) + 1))
            file.seek(start)
            samples = file.read(need, dtype="float32", always_2d=True).mean(axis=1)
        padded: NDArray[np.float32] = np.pad(samples, (0, need - len(samples)))
        return padded


class LatentDataset(Dataset[Example]):
    """Crops of codes with noise and what is told of them: to learn to denoise."""

    def __init__(
        self,
        latents: Sequence[NDArray[np.float32]],
        annotations: Sequence[ClipAnnotations],
        *,
        window_frames: int,
        seed: int,
        condition_dropout: float,
        log_sigma: tuple[float, float],
        note_latent_channels: int = 0,
    ) -> None:
        """Take the codes of clips, each ``(channels, frames)``, and what is told of them.

        Args:
            latents: of unit variance.
            annotations: one for each.
            window_frames: frames of a crop; no code is shorter.
            seed: of the run.
            condition_dropout: how often nothing is told (LORIS, Sec. 5.1).
            log_sigma: mean and standard deviation of the logarithm of the noise levels.
            note_latent_channels: of the sketches that are told, 0 for none.
        """
        self._sketch_channels = note_latent_channels
        self._codes, self._lessons, self._window = latents, annotations, window_frames
        self._seed, self._drop, self._sigmas = seed, condition_dropout, log_sigma

    def __getitem__(self, example_index: int) -> Example:
        """``clean``, ``noise``, ``sigma``, ``dropped`` and the parts of a `Condition`."""
        rng = make_rng(self._seed, 2, example_index)
        row = clip_index(self._seed, example_index, len(self._codes))
        code = self._codes[row]
        start = int(rng.integers(code.shape[1] - self._window + 1))
        conditions = build_condition(
            sample_condition_source(self._lessons[row], rng),
            start,
            self._window,
            note_latent_channels=self._sketch_channels,
        )
        mean, deviation = self._sigmas
        return {
            "clean": torch.from_numpy(code[:, start : start + self._window].copy()),
            "sigma": torch.tensor(np.exp(mean + deviation * rng.standard_normal())).float(),
            "dropped": torch.tensor(bool(rng.random() < self._drop)),
            "noise": torch.from_numpy(
                rng.standard_normal((len(code), self._window), dtype=np.float32)
            ),
            **{key: value[0] for key, value in conditions._asdict().items()},
        }
