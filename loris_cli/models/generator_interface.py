"""Interface between video analysis and anything that generates music.

    ClipFeatures -> MusicGenerator.generate -> blocks of samples

Models, baselines, soundtrack, dataset and evaluation share these two types.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from loris_cli.composition.arrangement import Arrangement
from loris_cli.composition.chords import Harmony

Array = NDArray[np.float64]
Samples = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class ClipFeatures:
    """All that a generator knows of a video."""

    duration_s: float
    peaks_s: Array
    """Rhythm peaks, ``(peaks,)``, rising seconds."""
    strengths: Array
    """How strong each is, ``(peaks,)``, 0..1."""
    energy: Array
    """How much the body moves, ``(frames,)`` at 16 Hz, 0..1."""
    genre: str | None = None
    """One of `config.GENRES`, or none."""
    harmony: Harmony | None = None
    """The plan of chords and pulse; None is one drawn by the seed (`planned`)."""
    arrangement: Arrangement | None = None
    """The notes; None are ones drawn by the seed (`planned`)."""
    note_latent: NDArray[np.float32] | None = None
    """Latent code of the note spectrogram (`loris_cli.composition.note_spectrogram`),
    ``(channels, frames)`` from the clip's second 0; None without notes."""
    keypoints: Array | None = None
    """The body, ``(frames, 17, 3)``: x px, y px, score, at 16 Hz; None if it is not known."""
    rhythm_method: str = "directogram"
    """Where the peaks are from: ``directogram``, ``stft`` or ``flow``."""
    visual: Array | None = None
    """Features of the picture, ``(rows, width)``, 2 a second; None if there are none."""
    timing_jitter: float = 0.0
    """How far peaks may lie from what they are meant for, 0 (exactly on it) to 1 (40 ms)."""

    @property
    def is_from_video(self) -> bool:
        """Whether this is of a picture: its energy is a body's, not a composer's."""
        return self.keypoints is not None or self.rhythm_method == "flow"


class MusicGenerator(Protocol):
    """What `soundtrack` and `eval` know of a model."""

    def generate(
        self, features: ClipFeatures, *, seed: int, progress: Callable[[int, int], None]
    ) -> Iterator[Samples]:
        """Sound for a clip.

        Args:
            features: of the whole clip.
            seed: the same seed and features give the same bytes.
            progress: told what is done and what there is to do.

        Yields:
            consecutive blocks ``(channels, samples)`` at 22,050 Hz, in all
            ``round(duration_s * 22050)`` samples.
        """
