"""Training examples, each determined by the seed and its index only.

    clips, latents -> permutation of an epoch -> crop -> condition -> one example

Example ``n`` does not depend on the number of processes and workers. A run on two processes
therefore has the same examples as a run on one, and a resumed run the same as an uninterrupted
one.
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

from loris_cli.array_types import Float32Array
from loris_cli.audio import mel
from loris_cli.audio.magnitudes import compute_log_magnitude
from loris_cli.dataset.manifest import Clip
from loris_cli.dataset.read_clips import read_annotations, read_pose_features
from loris_cli.models.condition_routes import ROUTES, ROUTES_OF_CONDITIONING, Conditioning
from loris_cli.models.generator_interface import ClipFeatures
from loris_cli.models.mel_autoencoder import MelAutoencoderConfig
from loris_cli.models.mini_config import MiniDenoiserConfig
from loris_cli.soundtrack.conditioning import build_condition
from loris_cli.training.settings import MINI_AUDIO_ACCENT_PROBABILITY

Example = dict[str, Tensor]

MEL_STREAM, LATENT_STREAM, WAVEFORM_STREAM, ORDER_STREAM = 1, 2, 3, 17
"""Second key of the random generators, so that different purposes use different streams."""
VALIDATION_SEED = 1
MEL_CROP_FRAMES = 256
"""Log-mel frames per crop: 3 s."""
MINI_LOG_SIGMA = (-0.4, 1.2)
"""Mean and standard deviation of the log noise level, which is normally distributed as in
Karras et al. (2022), Table 1. The values are for latents of unit variance; those of LORIS are
for waveforms with a standard deviation of 0.1."""
PSEUDO_RHYTHM_PROBABILITY = 0.1
"""Probability that the peaks are the onsets of the audio."""
NO_POSE_PROBABILITY = 0.1
"""For clips with poses: probability that the poses are omitted, which needs audio accents."""
DROP_HARMONY_PROBABILITY, DROP_NOTES_PROBABILITY = 0.1, 0.05
"""Probabilities that chords and notes are both omitted, and otherwise that only notes are."""
CONDITIONING_PROBABILITIES: Mapping[Conditioning, float] = {
    "score": 0.5, "free": 0.25, "paper": 0.25,
}  # fmt: skip
DROP_ROUTE_PROBABILITY = 0.1
"""Probability that each route of the conditioning is unknown, that the style is, and that the
production is."""


@dataclass(frozen=True, kw_only=True)
class TrainingClips:
    """Clips of a data set for training and validation."""

    data_dir: Path
    train: Sequence[Clip]
    val: Sequence[Clip]

    @property
    def all(self) -> list[Clip]:
        """Return the clips of both partitions."""
        return [*self.train, *self.val]


@lru_cache(maxsize=4)
def epoch_permutation(seed: int, epoch: int, n_clips: int) -> NDArray[np.int64]:
    """Return the order of the clips in an epoch."""
    rng = np.random.default_rng((seed, ORDER_STREAM, epoch))
    return rng.permutation(n_clips)


def clip_index(seed: int, example_index: int, n_clips: int) -> int:
    """Return the index of the clip that an example is cropped from."""
    epoch, position = divmod(example_index, n_clips)
    return int(epoch_permutation(seed, epoch, n_clips)[position])


@dataclass(frozen=True, kw_only=True)
class DistributedBatchSampler:
    """Infinite sequence of micro-batches of example indices for one process.

    ``accumulation_steps`` micro-batches form one optimizer step.
    """

    first_step: int
    """Step at which the run starts or resumes."""
    batch_size: int
    """Examples per step in all processes, a multiple of world_size * accumulation_steps."""
    rank: int
    world_size: int
    accumulation_steps: int

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the example indices of each micro-batch."""
        rank_size = self.batch_size // self.world_size
        micro_size = rank_size // self.accumulation_steps
        start = self.first_step * self.batch_size + self.rank * rank_size
        while True:
            for k in range(self.accumulation_steps):
                yield list(range(start + k * micro_size, start + (k + 1) * micro_size))
            start += self.batch_size


@dataclass(frozen=True)
class ClipAnnotations:
    """Annotations of a clip by source: score, poses, audio."""

    annotated_features: ClipFeatures
    pose_features: ClipFeatures | None
    pseudo_rhythm: ClipFeatures | None = None
    """Features extracted from the audio only."""


def read_clip_annotations(
    data_dir: Path,
    clips: Sequence[Clip],
    pseudo_rhythms: Mapping[str, ClipFeatures],
    note_latents: Mapping[str, Float32Array],
) -> list[ClipAnnotations]:
    """Read the annotations of clips.

    Args:
        data_dir: folder of the data set.
        clips: clips of the data set.
        pseudo_rhythms: audio rhythms by clip id, for some of the clips.
        note_latents: latents of the note spectrograms by clip id, for some of the clips.
    """
    annotations = []
    for clip in clips:
        score, pose = read_annotations(data_dir, clip), read_pose_features(data_dir, clip)
        score = replace(score, note_latent=note_latents.get(clip.id))
        pose = pose and replace(pose, note_latent=score.note_latent)
        annotations.append(ClipAnnotations(score, pose, pseudo_rhythms.get(clip.id)))
    return annotations


def sample_condition(
    annotations: ClipAnnotations,
    rng: np.random.Generator,
    *,
    audio_accent_probability: float = MINI_AUDIO_ACCENT_PROBABILITY,
) -> ClipFeatures:
    """Draw the condition of an example of `mini`: rhythm of poses, score or audio; notes.

    Changing the order or the number of draws changes all later random numbers of an example.

    Args:
        annotations: annotations of the clip.
        rng: random generator of the example.
        audio_accent_probability: for clips with poses, the probability of the accents of score
            or audio instead of the peaks of the poses; 0 always gives the latter.
    """
    features, pose = annotations.annotated_features, annotations.pose_features
    pseudo = annotations.pseudo_rhythm
    has_peaks = len(features.peaks_s) > 0
    if pose is not None and not audio_accent_probability:
        features = pose
    elif pseudo is not None and (not has_peaks or rng.random() < PSEUDO_RHYTHM_PROBABILITY):
        features = replace(
            features, peaks_s=pseudo.peaks_s, strengths=pseudo.strengths, energy=pseudo.energy
        )
    elif pose is not None:
        draw = rng.random()
        if draw < 1 - audio_accent_probability:
            features = pose
        elif draw < 1 - NO_POSE_PROBABILITY:
            features = replace(features, keypoints=pose.keypoints)
    if rng.random() < DROP_HARMONY_PROBABILITY:
        features = replace(features, harmony=None, note_latent=None)
    elif rng.random() < DROP_NOTES_PROBABILITY:
        features = replace(features, note_latent=None)
    return features


def sample_routes(
    rng: np.random.Generator, conditionings: Sequence[Conditioning]
) -> frozenset[str]:
    """Draw the known routes of an example: those of a conditioning, without a few of them."""
    weights = np.array([CONDITIONING_PROBABILITIES[name] for name in conditionings])
    cumulative = (weights / weights.sum()).cumsum()
    index = int(np.searchsorted(cumulative, rng.random(), side="right"))
    chosen = conditionings[min(index, len(conditionings) - 1)]
    dropped = rng.random(len(ROUTES)) < DROP_ROUTE_PROBABILITY
    known = ROUTES_OF_CONDITIONING[chosen]
    return known - {name for name, drop in zip(ROUTES, dropped, strict=True) if drop}


@dataclass(frozen=True, kw_only=True)
class MelCropDataset(Dataset[Example]):
    """Crops of log-mel frames, with noise for their latents, to train the autoencoder."""

    data_dir: Path
    clips: Sequence[Clip]
    config: MelAutoencoderConfig
    seed: int

    def __getitem__(self, example_index: int) -> Example:
        """Return the fields of a batch of `LatentLoss`."""
        rng = np.random.default_rng((self.seed, MEL_STREAM, example_index))
        clip = self.clips[clip_index(self.seed, example_index, len(self.clips))]
        samples = self._read_crop(self.data_dir / clip.audio, rng)
        frames = mel.compute_log_mel(samples, self.config.bands)[:, :MEL_CROP_FRAMES]
        shape = self.config.latent_channels, MEL_CROP_FRAMES // self.config.stride
        noise = rng.standard_normal(shape, dtype=np.float32)
        magnitude = compute_log_magnitude(samples, self.config.n_fft)[:, :MEL_CROP_FRAMES]
        return {
            "samples": torch.from_numpy(samples),
            "frames": torch.from_numpy(frames),
            "noise": torch.from_numpy(noise),
            "log_magnitude": torch.from_numpy(magnitude),
            "noise_level": torch.tensor(rng.random()).float(),
        }

    def _read_crop(self, path: Path, rng: np.random.Generator) -> Float32Array:
        """Return the samples of a random crop; short clips are padded with silence."""
        n_samples = MEL_CROP_FRAMES * mel.HOP_LENGTH
        with soundfile.SoundFile(path) as file:
            file.seek(int(rng.integers(max(file.frames - n_samples, 0) + 1)))
            samples = file.read(n_samples, dtype="float32", always_2d=True).mean(axis=1)
        return np.pad(samples, (0, n_samples - len(samples)))


@dataclass(frozen=True, kw_only=True)
class LatentDataset(Dataset[Example]):
    """Crops of latents with noise and their condition, to train the denoiser."""

    latents: Sequence[Float32Array]
    """Latents of unit variance, ``(channels, frames)`` each, none shorter than a crop."""
    annotations: Sequence[ClipAnnotations]
    """Annotations of each latent's clip."""
    config: MiniDenoiserConfig
    seed: int
    condition_dropout: float
    """Probability of the null condition (LORIS, Sec. 5.1)."""
    audio_accent_probability: float = MINI_AUDIO_ACCENT_PROBABILITY
    """See `sample_condition`; 0 in validation."""

    def __getitem__(self, example_index: int) -> Example:
        """Return ``clean``, ``noise``, ``sigma``, ``drop_mask`` and a `MiniCondition`."""
        rng = np.random.default_rng((self.seed, LATENT_STREAM, example_index))
        row = clip_index(self.seed, example_index, len(self.latents))
        latent, n_frames = self.latents[row], self.config.window_frames
        start = int(rng.integers(latent.shape[1] - n_frames + 1))
        probability = self.audio_accent_probability
        features = sample_condition(
            self.annotations[row], rng, audio_accent_probability=probability
        )
        routes = sample_routes(rng, self.config.conditionings)
        if rng.random() < DROP_ROUTE_PROBABILITY:
            features = replace(features, genre=None)
        if rng.random() < DROP_ROUTE_PROBABILITY:
            features = replace(features, production=None)
        n_notes = self.config.note_latent_channels
        condition = build_condition(
            features, start, n_frames, note_latent_channels=n_notes, routes=routes
        )
        mean, deviation = MINI_LOG_SIGMA
        sigma = np.exp(mean + deviation * rng.standard_normal())
        drop = bool(rng.random() < self.condition_dropout)
        noise = rng.standard_normal((len(latent), n_frames), dtype=np.float32)
        return {
            "clean": torch.from_numpy(latent[:, start : start + n_frames].copy()),
            "sigma": torch.tensor(sigma).float(),
            "drop_mask": torch.tensor(drop),
            "noise": torch.from_numpy(noise),
            **{key: value[0] for key, value in condition._asdict().items()},
        }
