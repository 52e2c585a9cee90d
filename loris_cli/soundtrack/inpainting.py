"""Inpainting: regenerate a time range of an earlier soundtrack, with the rest unchanged."""

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
"""An earlier soundtrack may be this much shorter than its video: encoders trim and pad."""
BLOCK_CROSSFADE_S = 0.06
"""Length of the crossfade between original and generated samples, inside the region; also of
that between decoded blocks, whose phases are estimated separately."""


@dataclass(frozen=True, kw_only=True)
class InpaintSettings:
    """Earlier soundtrack of the video, and the time range to regenerate."""

    path: Path
    """Video or audio file."""
    start_s: float
    end_s: float


@dataclass(frozen=True, kw_only=True)
class InpaintRegion:
    """Original audio, and the time range to regenerate."""

    original: Samples
    """Audio at 22,050 Hz from the start of the clip, ``(channels, samples)``."""
    start_s: float
    end_s: float

    @property
    def training_peak_gain(self) -> float:
        """Gain that scales the original to the peak level of the training clips."""
        return 0.9 / max(float(np.abs(self.original).max(initial=0.0)), 1e-3)

    def merge_blocks(self, blocks: Iterator[Samples]) -> Iterator[Samples]:
        """Replace the region of the original by generated samples, with fades inside it.

        Args:
            blocks: consecutive generated blocks from the start of the clip,
                ``(channels, samples)`` at 22,050 Hz, at the level of the original times
                `training_peak_gain`.

        Yields:
            ``(channels, samples)``, same sizes, at the level of the original; samples outside
            the region equal the original.
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
    """Return the weight of regenerated audio, ``(n_samples,)``: 1 in the region, 0 outside.

    Args:
        start_sample: position of the first sample in the clip.
        n_samples: number of samples.
        start_s: start of the region.
        end_s: end of the region.
        fade_s: length of the linear fades at both ends, inside the region.
    """
    time_s = (start_sample + np.arange(n_samples)) / SAMPLE_RATE_HZ
    depth = np.minimum(time_s - start_s, end_s - time_s) / fade_s
    return np.clip(depth, 0, 1).astype(np.float32)


def load_region(inpaint: InpaintSettings, info: VideoInfo, *, n_channels: int) -> InpaintRegion:
    """Read the earlier soundtrack of a video, with the channel count of the generator.

    Raises:
        UsageError: the region is outside the video, or the file is not a soundtrack of it.
    """
    start_s, end_s = inpaint.start_s, min(inpaint.end_s, info.duration_s)
    if not 0 <= start_s < end_s:
        is_empty = inpaint.end_s <= start_s
        problem = "empty" if is_empty else f"outside the video ({info.duration_s:.1f} s)"
        raise UsageError(
            f"--inpaint-range {start_s:g} {inpaint.end_s:g} is {problem}",
            hint="pass --inpaint-range with two times inside the video, in seconds",
        )
    original = read_audio(inpaint.path, rate_hz=SAMPLE_RATE_HZ)
    if original is None:
        raise UsageError(
            f"{inpaint.path} has no audio stream", hint="pass an earlier soundtrack"
        )
    original_s = original.shape[1] / SAMPLE_RATE_HZ
    if original_s < info.duration_s - MAX_SHORTFALL_S:
        raise UsageError(
            f"{inpaint.path} is too short for the video: got {original_s:.1f} s,"
            f" expected {info.duration_s:.1f} s",
            hint="pass an earlier soundtrack of the same video with --inpaint",
        )
    if len(original) != n_channels:
        original = original.mean(axis=0, keepdims=True).repeat(n_channels, axis=0)
    return InpaintRegion(original=original, start_s=start_s, end_s=end_s)
