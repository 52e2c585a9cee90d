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
from loris_cli.audio.mel import Bands
from loris_cli.dataset.manifest import Clip
from loris_cli.dataset.read_clips import read_danced, read_lesson
from loris_cli.models.generator_interface import ClipFeatures
from loris_cli.soundtrack.conditioning import condition

Example = dict[str, Tensor]

HEARD = 0.1
"""How often the peaks are the onsets of the sound itself."""
SEEN, NO_BODY = 0.4, 0.1
"""Of clips with a body: how often the peaks are those it shows, and how often it is hidden."""
DROP_HARMONY, DROP_NOTES = 0.1, 0.05
"""How often neither chords nor notes are told, and of the rest how often no notes."""


def generator_of(*key: int) -> np.random.Generator:
    """Random numbers that belong to a place in a run."""
    return np.random.default_rng(key)


@lru_cache(maxsize=4)
def order(seed: int, epoch: int, n: int) -> NDArray[np.int64]:
    """In which order an epoch goes through the clips."""
    shuffled: NDArray[np.int64] = generator_of(seed, 17, epoch).permutation(n)
    return shuffled


def clip_of(seed: int, number: int, n_clips: int) -> int:
    """Which clip an example is cut from."""
    return int(order(seed, number // n_clips, n_clips)[number % n_clips])


class Batches:
    """Numbers of the examples of one process, batch by batch, for ever.

    Args:
        first_step: where a run goes on.
        batch: examples in a step, of all processes.
        rank: which process this is.
        world: how many there are; ``batch`` is a multiple of it and of ``accumulate``.
        accumulate: parts that a process takes its share in.
    """

    def __init__(
        self, *, first_step: int, batch: int, rank: int, world: int, accumulate: int
    ) -> None:
        """Begin before the first batch."""
        self.first_step, self.batch, self.accumulate = first_step, batch, accumulate
        self.share = batch // world
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
class Lesson:
    """A clip as it was composed, as its dancer shows it, and as it sounds."""

    composed: ClipFeatures
    danced: ClipFeatures | None
    heard: ClipFeatures | None = None
    """By its own sound alone."""

    @property
    def has_chords(self) -> bool:
        """Whether its chords are known."""
        return self.composed.harmony is not None

    @property
    def has_notes(self) -> bool:
        """Whether there is a sketch of its notes."""
        return self.composed.sketch is not None


def read_lessons(
    data: Path,
    clips: Sequence[Clip],
    heard: Mapping[str, ClipFeatures],
    sketches: Mapping[str, NDArray[np.float32]],
) -> list[Lesson]:
    """What there is to be told of clips.

    Args:
        data: folder of the data set.
        clips: of it.
        heard: what the sound of some of them tells, by id.
        sketches: codes of the notes of some of them, by id.
    """
    lessons = []
    for clip in clips:
        drawn = sketches.get(clip.id)
        danced = read_danced(data, clip)
        lessons.append(
            Lesson(
                replace(read_lesson(data, clip), sketch=drawn),
                danced and replace(danced, sketch=drawn),
                heard.get(clip.id),
            )
        )
    return lessons


def told(lesson: Lesson, rng: np.random.Generator) -> ClipFeatures:
    """What the network is told this time: by score, body or sound; chords and notes or none."""
    features = lesson.composed
    unknown = not len(features.peaks_s)
    if lesson.heard is not None and (unknown or rng.random() < HEARD):
        own = lesson.heard
        features = replace(
            features, peaks_s=own.peaks_s, strengths=own.strengths, energy=own.energy
        )
    elif lesson.danced is not None:
        draw = rng.random()
        if draw < SEEN:
            features = lesson.danced
        elif draw < 1 - NO_BODY:
            features = replace(features, keypoints=lesson.danced.keypoints)
    if rng.random() < DROP_HARMONY:
        features = replace(features, harmony=None, sketch=None)
    elif rng.random() < DROP_NOTES:
        features = replace(features, sketch=None)
    return features


class MelExamples(Dataset[Example]):
    """Crops of log-mel frames, and the noise of their codes: to learn a latent."""

    def __init__(
        self,
        data: Path,
        clips: Sequence[Clip],
        *,
        frames: int,
        code: tuple[int, int],
        bands: Bands,
        seed: int,
    ) -> None:
        """Take clips of a data set.

        Args:
            data: its folder.
            clips: of it.
            frames: length of a crop.
            code: shape of the crop's code.
            bands: of the frames.
            seed: of the run.
        """
        self._files = [data / clip.audio for clip in clips]
        self._frames, self._code, self._seed = frames, code, seed
        self._bands = bands

    def __getitem__(self, number: int) -> Example:
        """``frames (n_mels, frames)`` and ``noise``, shaped as the code."""
        rng = generator_of(self._seed, 1, number)
        samples = self._crop(self._files[clip_of(self._seed, number, len(self._files))], rng)
        frames = mel.log_mel(samples, self._bands)[:, : self._frames]
        noise = rng.standard_normal(self._code, dtype=np.float32)
        return {"frames": torch.from_numpy(frames), "noise": torch.from_numpy(noise)}

    def _crop(self, path: Path, rng: np.random.Generator) -> NDArray[np.float32]:
        """Sound of one crop; what is too short is followed by silence."""
        need = self._frames * mel.HOP
        with soundfile.SoundFile(path) as file:
            start = int(rng.integers(max(file.frames - need, 0) + 1))
            file.seek(start)
            samples = file.read(need, dtype="float32", always_2d=True).mean(axis=1)
        padded: NDArray[np.float32] = np.pad(samples, (0, need - len(samples)))
        return padded


class CodeExamples(Dataset[Example]):
    """Crops of codes with noise and what is told of them: to learn to denoise."""

    def __init__(
        self,
        codes: Sequence[NDArray[np.float32]],
        lessons: Sequence[Lesson],
        *,
        window: int,
        seed: int,
        drop_condition: float,
        sigmas: tuple[float, float],
        sketch_channels: int = 0,
    ) -> None:
        """Take the codes of clips, each ``(channels, frames)``, and what is told of them.

        Args:
            codes: of unit variance.
            lessons: one for each.
            window: frames of a crop; no code is shorter.
            seed: of the run.
            drop_condition: how often nothing is told (LORIS, Sec. 5.1).
            sigmas: mean and standard deviation of the logarithm of the noise levels.
            sketch_channels: of the sketches that are told, 0 for none.
        """
        self._sketch_channels = sketch_channels
        self._codes, self._lessons, self._window = codes, lessons, window
        self._seed, self._drop, self._sigmas = seed, drop_condition, sigmas

    def __getitem__(self, number: int) -> Example:
        """``clean``, ``noise``, ``sigma``, ``dropped`` and the parts of a `Condition`."""
        rng = generator_of(self._seed, 2, number)
        row = clip_of(self._seed, number, len(self._codes))
        code = self._codes[row]
        start = int(rng.integers(code.shape[1] - self._window + 1))
        conditions = condition(
            told(self._lessons[row], rng),
            start,
            self._window,
            sketch_channels=self._sketch_channels,
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
