"""Interface between video analysis and anything that generates music.

    ClipFeatures -> MusicGenerator.generate -> blocks of samples

Models, baselines, soundtrack, dataset and evaluation share these two types.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from loris_cli.array_types import Array, Float32Array, Samples
from loris_cli.composition.arrangement import Arrangement
from loris_cli.composition.chords import Harmony

ProgressCallback = Callable[[int, int], None]
"""Called with the units of work that are done and their total; the generator chooses units."""


@dataclass(frozen=True, kw_only=True)
class ClipFeatures:
    """Features of a video, or of a clip of a data set, that condition a generator."""

    duration_s: float
    peaks_s: Array
    """Rhythm peaks, ``(peaks,)``, rising seconds."""
    strengths: Array
    """Strengths of the peaks, ``(peaks,)``, 0..1."""
    energy: Array
    """Motion energy, ``(frames,)`` at 16 Hz, 0..1."""
    genre: str | None = None
    """One of `config.GENRES`, or none."""
    harmony: Harmony | None = None
    """Chords and beat subdivisions; None are drawn by the seed (`with_arrangement`)."""
    arrangement: Arrangement | None = None
    """The notes; None are drawn by the seed (`with_arrangement`)."""
    note_latent: Float32Array | None = None
    """Latent code of the note spectrogram (`loris_cli.composition.note_spectrogram`),
    ``(channels, frames)`` from the clip's second 0; None without notes."""
    keypoints: Array | None = None
    """Keypoints, ``(frames, 17, 3)``: x px, y px, score, at 16 Hz; None if not known."""
    rhythm_method: str = "directogram"
    """Origin of the peaks: ``directogram``, ``stft`` or ``flow``."""
    visual: Array | None = None
    """Visual features, ``(rows, width)``, 2 rows a second; None if there are none."""
    timing_jitter: float = 0.0
    """Deviation of peaks from the accents meant, 0 (none) to 1 (40 ms)."""

    @property
    def is_from_video(self) -> bool:
        """Whether the energy is that of motion in a video, not of composed music."""
        return self.keypoints is not None or self.rhythm_method == "flow"


class MusicGenerator(Protocol):
    """Generator of music for a clip, as `soundtrack` and `eval` use it."""

    def generate(
        self, features: ClipFeatures, *, seed: int, progress: ProgressCallback
    ) -> Iterator[Samples]:
        """Generate the soundtrack of a clip.

        Args:
            features: of the entire clip.
            seed: the same seed and features give the same bytes.
            progress: called as the work goes on.

        Yields:
            consecutive blocks ``(channels, samples)`` at 22,050 Hz, in all
            ``round(duration_s * 22050)`` samples.
        """
