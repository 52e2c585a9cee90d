"""Audio of a file, aligned with its video: sample 0 is at the first displayed frame.

packets -> decoded blocks -> gaps filled, overlaps trimmed -> resampled -> (channels, samples)
"""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import soxr

from loris_cli.array_types import Samples

from .containers import decode_stream, find_audio_stream, find_start_time_s, open_container

# Matroska rounds timestamps to 1 ms and some recorders drift by a block; more is a real gap.
MAX_DRIFT_S = 0.05
SILENCE_BLOCK_S = 1.0  # gaps are filled block by block, so that a long gap takes no memory


def read_audio(path: Path, *, rate_hz: int) -> Samples | None:
    """Read all audio of a video or an audio file.

    Args:
        path: video or audio file.
        rate_hz: sample rate of the result.

    Returns:
        ``(channels, samples)``, full scale 1, sample ``i`` at ``i / rate_hz`` seconds after
        the first displayed frame; ``None`` if there is no audio.
    """
    blocks = list(read_audio_blocks(path, rate_hz=rate_hz, block_s=10.0))
    return np.concatenate(blocks, axis=1) if blocks else None


def read_audio_blocks(path: Path, *, rate_hz: int, block_s: float) -> Iterator[Samples]:
    """Yield the audio of a file in blocks; nothing if there is no audio.

    Yields:
        ``(channels, samples)`` of ``block_s`` seconds, the last one shorter.
    """
    size = max(1, round(rate_hz * block_s))
    pending: list[Samples] = []
    n_pending = 0
    for block in _resample_blocks(path, rate_hz):
        pending.append(block)
        n_pending += block.shape[1]
        if n_pending >= size:
            samples = np.concatenate(pending, axis=1)
            cut = n_pending - n_pending % size
            yield from np.split(samples[:, :cut], cut // size, axis=1)
            pending, n_pending = [samples[:, cut:]], n_pending - cut
    if n_pending:
        yield np.concatenate(pending, axis=1)


def _resample_blocks(path: Path, rate_hz: int) -> Iterator[Samples]:
    resampler: soxr.ResampleStream | None = None
    n_channels = 0
    for block, source_hz in _align_blocks(path):
        if resampler is None:
            n_channels = len(block)
            resampler = soxr.ResampleStream(source_hz, rate_hz, n_channels, dtype="float32")
        yield _resample(resampler, block)
    if resampler is not None:
        yield _resample(resampler, np.zeros((n_channels, 0), np.float32), last=True)


def _resample(resampler: soxr.ResampleStream, block: Samples, *, last: bool = False) -> Samples:
    samples: Samples = resampler.resample_chunk(np.ascontiguousarray(block.T), last=last)
    return samples.reshape(-1, len(block)).T


def _align_blocks(path: Path) -> Iterator[tuple[Samples, int]]:
    """Yield decoded blocks without gaps or overlaps from second 0 on, and their sample rate."""
    start_s = find_start_time_s(path)
    n_samples = 0
    for block, time_s, rate_hz in _decode_blocks(path):
        # The first block is placed exactly; later ones move only at a real gap or overlap.
        drift = round((time_s - start_s) * rate_hz) - n_samples
        if n_samples and abs(drift) <= MAX_DRIFT_S * rate_hz:
            drift = 0
        while drift > 0:
            n_silent = min(drift, round(SILENCE_BLOCK_S * rate_hz))
            yield np.zeros((len(block), n_silent), np.float32), rate_hz
            n_samples += n_silent
            drift -= n_silent
        tail = block[:, -drift:]
        if tail.shape[1]:
            yield tail, rate_hz
            n_samples += tail.shape[1]


def _decode_blocks(path: Path) -> Iterator[tuple[Samples, Fraction, int]]:
    """Yield blocks ``(channels, samples)``, their container times, and the sample rate.

    All blocks have the sample rate and channel layout of the first one.
    """
    with open_container(path) as container:
        stream = find_audio_stream(container)
        if stream is None:
            return
        resampler: av.AudioResampler | None = None
        layout, rate_hz, source_format = "", 0, ("", 0)
        time_s = Fraction(0)
        for frame in decode_stream(container, stream):  # damaged packets become silence
            frame_format = frame.layout.name, frame.sample_rate
            if not rate_hz:
                layout, rate_hz = frame_format
            if frame.pts is not None and frame.time_base is not None:
                time_s = frame.pts * frame.time_base
            frame.pts = None
            if resampler is None or source_format != frame_format:
                resampler = av.AudioResampler(format="fltp", layout=layout, rate=rate_hz)
                source_format = frame_format
            for block in resampler.resample(frame):
                samples = np.asarray(block.to_ndarray(), np.float32)
                yield samples, time_s, rate_hz
                time_s += Fraction(samples.shape[1], rate_hz)
