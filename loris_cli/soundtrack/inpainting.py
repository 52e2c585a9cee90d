"""Inpainting: regenerate a time range of an earlier soundtrack, keep the rest to the sample."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from loris_cli.array_types import Float32Array, Samples
from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.errors import UsageError
from loris_cli.video.audio_track import read_audio
from loris_cli.video.probe import VideoInfo

MAX_SHORTFALL_S = 0.25
"""An earlier soundtrack may end this much before its video: encoders cut and pad."""
BLOCK_CROSSFADE_S = 0.06
"""Crossfade between original and generated samples, inside the region; also between decoded
blocks, whose phases are estimated separately."""


@dataclass(frozen=True, kw_only=True)
class InpaintSettings:
    """An earlier soundtrack of the video, and the time range that is regenerated."""

    path: Path
    """A video or an audio file."""
    start_s: float
    end_s: float


@dataclass(frozen=True, kw_only=True)
class InpaintRegion:
    """Audio to keep, and the time range inside it that is regenerated."""

    original: Samples
    """22,050 Hz, from the clip's second 0, ``(channels, samples)``."""
    start_s: float
    end_s: float

    @property
    def training_peak_gain(self) -> float:
        """Gain that brings the original to the peak of the training clips."""
        return 0.9 / max(float(np.abs(self.original).max(initial=0.0)), 1e-3)

    def merge_blocks(self, blocks: Iterator[Samples]) -> Iterator[Samples]:
        """Replace the region of the original by generated samples, with fades inside it.

        Args:
            blocks: consecutive, ``(channels, samples)``, at `training_peak_gain`.

        Yields:
            blocks of the same sizes; outside the region the original samples, unchanged.
        """
        start, n_original = 0, self.original.shape[1]
        for block in blocks:
            n = block.shape[1]
            weight = region_weights(start, n, self.start_s, self.end_s, BLOCK_CROSSFADE_S)
            weight[start + np.arange(n) >= n_original] = 1
            old = self.original[:, start : start + n]
            old = np.pad(old, ((0, 0), (0, n - old.shape[1])))
            mixed = old * (1 - weight) + block * (weight / self.training_peak_gain)
            yield np.where(weight > 0, mixed, old)
            start += n


def region_weights(
    start_sample: int, n_samples: int, start_s: float, end_s: float, fade_s: float
) -> Float32Array:
    """Weight of regenerated audio, ``(samples,)``: 1 in the region, 0 outside, faded inside.

    Args:
        start_sample: position of the first sample in the clip.
        n_samples: number of samples.
        start_s: start of the region.
        end_s: end of the region.
        fade_s: length of the linear fades at both ends.
    """
    time_s = (start_sample + np.arange(n_samples)) / SAMPLE_RATE_HZ
    depth = np.minimum(time_s - start_s, end_s - time_s) / fade_s
    return np.clip(depth, 0, 1).astype(np.float32)


def load_region(inpaint: InpaintSettings, info: VideoInfo, *, n_channels: int) -> InpaintRegion:
    """Read the earlier soundtrack of a video, converted to the channels of the generator.

    Raises:
        UsageError: the region is outside the video, or the file is not its soundtrack.
    """
    start_s, end_s = inpaint.start_s, min(inpaint.end_s, info.duration_s)
    if not 0 <= start_s < end_s:
        raise UsageError(
            f"no range {start_s:g} to {inpaint.end_s:g} s in {info.duration_s:.1f} s of video",
            hint="--inpaint-range takes two times inside the video, in seconds",
        )
    original = read_audio(inpaint.path, rate_hz=SAMPLE_RATE_HZ)
    if original is None:
        raise UsageError(f"{inpaint.path} has no audio", hint="give an earlier soundtrack")
    original_s = original.shape[1] / SAMPLE_RATE_HZ
    if original_s < info.duration_s - MAX_SHORTFALL_S:
        raise UsageError(
            f"{inpaint.path} lasts {original_s:.1f} s"
            f" and the video {info.duration_s:.1f} s: it is not its soundtrack",
            hint="--inpaint takes an earlier result for the same video",
        )
    if len(original) != n_channels:
        original = original.mean(axis=0, keepdims=True).repeat(n_channels, axis=0)
    return InpaintRegion(original=original, start_s=start_s, end_s=end_s)
