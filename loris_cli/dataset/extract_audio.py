"""A video's own sound, and the music in it, as the clips will have them.

sound at 44.1 kHz, a block at a time -> voices taken out -> mono -> 22,050 Hz
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soxr
from numpy.typing import NDArray

from loris_cli.audio.separation import SPLEETER_RATE_HZ, VocalSeparator
from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.video.audio_track import read_audio_blocks

Samples = NDArray[np.float32]

BLOCK_S = 10.0


def extract_audio(
    video: Path,
    *,
    span_s: tuple[float, float],
    separator: VocalSeparator | None,
    accompaniment_rate_hz: int = SAMPLE_RATE_HZ,
) -> tuple[Samples, Samples] | None:
    """The sound of a stretch of a video.

    Args:
        video: the file.
        span_s: from and to, on the clock of the pictures.
        separator: takes the voices out; None leaves them.
        accompaniment_rate_hz: rate that the music goes through on its way; a lower one than ours
            takes its highest overtones.

    Returns:
        the mix and the music in it, mono at 22,050 Hz, each ``(samples,)``, as long as the
        stretch; sound that ends early is followed by silence. None if there is no sound.
    """
    n_samples = round((span_s[1] - span_s[0]) * SAMPLE_RATE_HZ)
    if separator is None:
        mix = _MonoResampler(SAMPLE_RATE_HZ)
        for block in _stereo_blocks(video, span_s, SAMPLE_RATE_HZ):
            mix.add(block)
        if mix.is_empty:
            return None
        own = mix.finish(n_samples)
        return own, _limit_bandwidth(own, accompaniment_rate_hz)
    mix, music = _MonoResampler(SPLEETER_RATE_HZ), _MonoResampler(SPLEETER_RATE_HZ)

    def heard() -> Iterator[Samples]:
        for block in _stereo_blocks(video, span_s, SPLEETER_RATE_HZ):
            mix.add(block)
            yield block

    for block in separator.remove_vocals(heard()):
        music.add(block)
    if mix.is_empty:
        return None
    return mix.finish(n_samples), _limit_bandwidth(
        music.finish(n_samples), accompaniment_rate_hz
    )


def _stereo_blocks(video: Path, span_s: tuple[float, float], rate_hz: int) -> Iterator[Samples]:
    """Sound between two moments, in stereo: ``(2, samples)``."""
    first, last = (round(moment_s * rate_hz) for moment_s in span_s)
    at = 0
    for block in read_audio_blocks(video, rate_hz=rate_hz, block_s=BLOCK_S):
        inside = block[:, max(0, first - at) : max(0, last - at)]
        at += block.shape[1]
        if inside.shape[1]:
            both = inside if len(inside) == 2 else inside.mean(axis=0, keepdims=True)
            yield np.ascontiguousarray(np.broadcast_to(both, (2, both.shape[1])))
        if at >= last:
            return


def _limit_bandwidth(samples: Samples, rate_hz: int) -> Samples:
    """Down to a rate and up again."""
    if rate_hz == SAMPLE_RATE_HZ:
        return samples
    down = soxr.resample(samples, SAMPLE_RATE_HZ, rate_hz)
    return fix_length(soxr.resample(down, rate_hz, SAMPLE_RATE_HZ), len(samples))


def fix_length(samples: Samples, n_samples: int) -> Samples:
    """As long as asked for: cut, or followed by silence."""
    fitted: Samples = np.pad(samples[:n_samples], (0, max(0, n_samples - len(samples))))
    return fitted


class _MonoResampler:
    """Stereo blocks at one rate, collected as mono at ours."""

    def __init__(self, rate_hz: int) -> None:
        self._stream = (
            None
            if rate_hz == SAMPLE_RATE_HZ
            else soxr.ResampleStream(rate_hz, SAMPLE_RATE_HZ, 1, dtype="float32")
        )
        self._parts: list[Samples] = []
        self.is_empty = True

    def add(self, block: Samples) -> None:
        """Take a block, ``(2, samples)``."""
        self.is_empty = False
        mono = block.mean(axis=0)
        self._parts.append(mono if self._stream is None else self._stream.resample_chunk(mono))

    def finish(self, n_samples: int) -> Samples:
        """All that was collected, at a length."""
        if self._stream is not None:
            last = self._stream.resample_chunk(np.zeros(0, np.float32), last=True)
            self._parts.append(last)
        return fix_length(np.concatenate(self._parts), n_samples)
