"""Interface between video analysis and music generators.

    VideoFeatures -> MusicGenerator.generate -> blocks of samples

Models, baselines, soundtrack, dataset and evaluation share these types.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Any, Protocol

from loris_cli.array_types import Array, Float32Array, Samples
from loris_cli.composition.arrangement import Arrangement
from loris_cli.composition.chords import Harmony

ProgressCallback = Callable[[int, int], None]
"""Called with the completed and total units of work; the generator chooses the unit."""


@dataclass(frozen=True, kw_only=True)
class VideoFeatures:
    """Features of a video, all that a generator receives.

    The class has no field for reference audio, chords, notes or annotations, so a system under
    evaluation cannot depend on them.
    """

    duration_s: float
    peaks_s: Array
    """Times of the rhythm peaks in seconds, ``(peaks,)``, ascending."""
    strengths: Array
    """Strengths of the peaks, ``(peaks,)``, 0..1."""
    energy: Array
    """Motion energy, ``(frames,)`` at 16 Hz, 0..1."""
    genre: str | None = None
    """One of `config.GENRES`, or None."""
    keypoints: Array | None = None
    """Keypoints, ``(frames, 17, 3)``: x px, y px, score, at 16 Hz; None if unknown."""
    rhythm_method: str = "directogram"
    """Source of the peaks: ``directogram``, ``stft`` or ``flow``; ``audio`` in training."""
    visual: Array | None = None
    """Visual features, ``(rows, width)``, 2 rows per second; None if unavailable."""

    @property
    def is_from_video(self) -> bool:
        """Whether the energy was measured in a video, not in composed music."""
        return self.keypoints is not None or self.rhythm_method == "flow"

    def without_score(self) -> "VideoFeatures":
        """Return the video features alone, without the fields of `ClipFeatures`."""
        names = (field.name for field in fields(VideoFeatures))
        return VideoFeatures(**{name: getattr(self, name) for name in names})


@dataclass(frozen=True, kw_only=True)
class ClipFeatures(VideoFeatures):
    """Conditions of a network: video features with a composed or an annotated score.

    Generators compose the score themselves; training reads it from annotations.
    """

    harmony: Harmony | None = None
    """Chords and beat subdivisions."""
    arrangement: Arrangement | None = None
    """Notes."""
    note_latent: Float32Array | None = None
    """Latents of the note spectrogram (`loris_cli.composition.note_spectrogram`),
    ``(channels, frames)`` from the start of the clip; None without notes."""
    production: Float32Array | None = None
    """Production of the music (`loris_cli.composition.production`), ``(15,)``; None if
    unknown."""

    @classmethod
    def from_video(cls, video: VideoFeatures, **score: Any) -> "ClipFeatures":
        """Return the features of a video with the given score fields, and no others."""
        return cls(**vars(video.without_score()), **score)


class MusicGenerator(Protocol):
    """Music generator as used by `soundtrack` and `eval`."""

    def generate(
        self, features: VideoFeatures, *, seed: int, progress: ProgressCallback
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
