"""Interface between video analysis and music generators.

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
"""Called with the completed and total units of work; the generator chooses the unit."""


@dataclass(frozen=True, kw_only=True)
class ClipFeatures:
    """Features of a video or data set clip that condition a generator."""

    duration_s: float
    peaks_s: Array
    """Times of the rhythm peaks in seconds, ``(peaks,)``, ascending."""
    strengths: Array
    """Strengths of the peaks, ``(peaks,)``, 0..1."""
    energy: Array
    """Motion energy, ``(frames,)`` at 16 Hz, 0..1."""
    genre: str | None = None
    """One of `config.GENRES`, or None."""
    harmony: Harmony | None = None
    """Chords and beat subdivisions; if None, `add_arrangement` draws them from the seed."""
    arrangement: Arrangement | None = None
    """Notes; if None, `add_arrangement` draws them from the seed."""
    note_latent: Float32Array | None = None
    """Latents of the note spectrogram (`loris_cli.composition.note_spectrogram`),
    ``(channels, frames)`` from the start of the clip; None without notes."""
    keypoints: Array | None = None
    """Keypoints, ``(frames, 17, 3)``: x px, y px, score, at 16 Hz; None if unknown."""
    rhythm_method: str = "directogram"
    """Source of the peaks: ``directogram``, ``stft`` or ``flow``; ``audio`` in training."""
    visual: Array | None = None
    """Visual features, ``(rows, width)``, 2 rows per second; None if unavailable."""
    timing_jitter: float = 0.0
    """Timing deviation of the peaks from the intended accents, 0 (none) to 1 (40 ms)."""

    @property
    def is_from_video(self) -> bool:
        """Whether the energy was measured in a video, not in composed music."""
        return self.keypoints is not None or self.rhythm_method == "flow"


class MusicGenerator(Protocol):
    """Music generator as used by `soundtrack` and `eval`."""

    def generate(
        self, features: ClipFeatures, *, seed: int, progress: ProgressCallback
    ) -> Iterator[Samples]:
        """Generate the soundtrack of a clip.

        Args:
            features: features of the entire clip.
            seed: random seed; equal seeds and features produce identical bytes.
            progress: called repeatedly during generation.

        Yields:
            consecutive blocks ``(channels, samples)`` at 22,050 Hz, in total
            ``round(duration_s * 22050)`` samples.
        """
