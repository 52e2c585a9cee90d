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
    """Features of a video, the input of a generator."""

    duration_s: float
    peaks_s: Array
    """Times of the rhythm peaks, ``(peaks,)``, ascending."""
    strengths: Array
    """Strength of each peak, ``(peaks,)``, 0..1."""
    energy: Array
    """Motion energy, ``(frames,)`` at 16 Hz, 0..1."""
    genre: str | None = None
    """One of `config.GENRES`, or None."""
    harmony: Harmony | None = None
    """Chords and beats; None lets the seed draw them."""
    arrangement: Arrangement | None = None
    """The notes; None lets the seed draw them."""
    note_latent: NDArray[np.float32] | None = None
    """Latents of the note spectrogram (`loris_cli.composition.note_spectrogram`),
    ``(channels, frames)`` from the clip's second 0; None without notes."""
    keypoints: Array | None = None
    """Poses, ``(frames, 17, 3)``: x px, y px, score, at 16 Hz; None if unknown."""
    rhythm_method: str = "directogram"
    """Source of the peaks: ``directogram``, ``stft`` or ``flow``."""
    visual: Array | None = None
    """Visual features, ``(rows, width)``, 2 a second; None if there are none."""
    timing_jitter: float = 0.0
    """How far peaks may lie from the event they belong to, 0 (exactly on it) to 1 (40 ms)."""

    @property
    def is_from_video(self) -> bool:
        """Whether the motion energy was measured in a video rather than composed."""
        return self.keypoints is not None or self.rhythm_method == "flow"


class MusicGenerator(Protocol):
    """Interface of everything that `soundtrack` and `eval` generate music with."""

    def generate(
        self, features: ClipFeatures, *, seed: int, progress: Callable[[int, int], None]
    ) -> Iterator[Samples]:
        """Generate the audio of a clip.

        Args:
            features: features of the complete clip.
            seed: the same seed and features give the same bytes.
            progress: called with the steps done and the number of steps.

        Yields:
            consecutive blocks ``(channels, samples)`` at 22,050 Hz, in all
            ``round(duration_s * 22050)`` samples.
        """
