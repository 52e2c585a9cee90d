"""Extract the audio of a video and its accompaniment, at the sample rate of the clips.

audio at 44.1 kHz, block by block -> vocal separation -> mono -> 22,050 Hz
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soxr

from loris_cli.array_types import Samples
from loris_cli.audio.separation import SPLEETER_RATE_HZ, VocalSeparator
from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.video.audio_track import read_audio_blocks
from loris_cli.video.stream_selection import WarningCallback

BLOCK_S = 10.0


def extract_audio(
    video: Path,
    *,
    span_s: tuple[float, float],
    separator: VocalSeparator | None,
    music_rate_hz: int = SAMPLE_RATE_HZ,
    audio_track: int | None = None,
    on_warning: WarningCallback | None = None,
) -> tuple[Samples, Samples] | None:
    """Extract the audio of a time span of a video.

    Args:
        video: video file.
        span_s: start and end in seconds of video time.
        separator: vocal separator; None keeps the vocals.
        music_rate_hz: sample rate that limits the bandwidth of the accompaniment, which is
            resampled to this rate and back.
        audio_track: number of the audio track, counted from 1; None is the default track.
        on_warning: called if one of several audio tracks is selected.

    Returns:
        mix and accompaniment, mono at 22,050 Hz, each ``(samples,)`` with the length of the
        span; audio that ends early is padded with silence. None if the span has no audio.
    """
    rate_hz = SAMPLE_RATE_HZ if separator is None else SPLEETER_RATE_HZ
    mix, accompaniment = _MonoResampler(rate_hz), _MonoResampler(rate_hz)

    def mixed_blocks() -> Iterator[Samples]:
        tracked = read_audio_blocks(
            video, rate_hz=rate_hz, block_s=BLOCK_S, track=audio_track, on_warning=on_warning
        )
        for block in _stereo_blocks(tracked, span_s, rate_hz):
            mix.add(block)
            yield block

    blocks = mixed_blocks()
    for block in blocks if separator is None else separator.remove_vocals(blocks):
        accompaniment.add(block)
    if not mix.blocks:
        return None
    n_samples = round((span_s[1] - span_s[0]) * SAMPLE_RATE_HZ)
    music = accompaniment.finish(n_samples)
    if music_rate_hz != SAMPLE_RATE_HZ:
        narrow = soxr.resample(music, SAMPLE_RATE_HZ, music_rate_hz)
        music = fix_length(soxr.resample(narrow, music_rate_hz, SAMPLE_RATE_HZ), n_samples)
    return mix.finish(n_samples), music


def _stereo_blocks(
    blocks: Iterator[Samples], span_s: tuple[float, float], rate_hz: int
) -> Iterator[Samples]:
    """Yield the audio of a time span as stereo blocks, ``(2, samples)``."""
    first, last = (round(time_s * rate_hz) for time_s in span_s)
    start = 0
    for block in blocks:
        inside = block[:, max(0, first - start) : max(0, last - start)]
        start += block.shape[1]
        if inside.shape[1]:
            stereo = inside if len(inside) == 2 else inside.mean(axis=0, keepdims=True)
            yield np.ascontiguousarray(np.broadcast_to(stereo, (2, stereo.shape[1])))
        if start >= last:
            return


def fix_length(samples: Samples, n_samples: int) -> Samples:
    """Trim samples, ``(samples,)``, or pad them with silence, to ``(n_samples,)``."""
    fixed: Samples = np.pad(samples[:n_samples], (0, max(0, n_samples - len(samples))))
    return fixed


class _MonoResampler:
    """Downmix stereo blocks to mono, resampled to 22,050 Hz."""

    def __init__(self, rate_hz: int) -> None:
        self._stream: soxr.ResampleStream | None = None
        if rate_hz != SAMPLE_RATE_HZ:
            self._stream = soxr.ResampleStream(rate_hz, SAMPLE_RATE_HZ, 1, dtype="float32")
        self.blocks: list[Samples] = []

    def add(self, block: Samples) -> None:
        """Add a block, ``(2, samples)``."""
        mono = block.mean(axis=0)
        self.blocks.append(mono if self._stream is None else self._stream.resample_chunk(mono))

    def finish(self, n_samples: int) -> Samples:
        """Flush the resampler and return all samples, trimmed or padded to a length."""
        if self._stream is not None:
            last = self._stream.resample_chunk(np.zeros(0, np.float32), last=True)
            self.blocks.append(last)
        return fix_length(np.concatenate(self.blocks), n_samples)
