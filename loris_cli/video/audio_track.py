"""Audio of a file, aligned with its video: sample 0 is at the first displayed frame.

packets -> decoded blocks -> gaps filled, overlaps trimmed -> resampled -> (channels, samples)
"""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import soxr
from av.audio.plane import AudioPlane

from loris_cli.array_types import Samples
from loris_cli.errors import InputError

from .containers import (
    WarningCallback,
    find_audio_stream,
    find_start_time_s,
    find_video_stream,
    format_convert_hint,
    open_container,
)
from .timestamps import read_packets

# Matroska rounds timestamps to 1 ms and some recorders drift by a block; more is a real gap.
MAX_DRIFT_S = 0.05
MAX_GAP_S, MAX_SILENCE_S = 600.0, 3600.0
"""Longest gap, and sum of all gaps, that are filled; larger ones are wrong timestamps."""
MIN_RATE_HZ, MAX_RATE_HZ = 1000, 768_000
SILENCE_BLOCK_S = 1.0  # gaps are filled block by block, so that a long gap takes no memory

SAMPLE_TYPES = {"u8": "u1", "s16": "i2", "s32": "i4", "s64": "i8", "flt": "f4", "dbl": "f8"}


def read_audio(
    path: Path,
    *,
    rate_hz: int,
    track: int | None = None,
    on_warning: WarningCallback | None = None,
) -> Samples | None:
    """Read all audio of a video or an audio file.

    Args:
        path: video or audio file.
        rate_hz: sample rate of the result.
        track: number of the audio track, counted from 1; None selects as `find_audio_stream`.
        on_warning: called if one of several audio tracks is selected.

    Returns:
        ``(channels, samples)``, full scale 1, sample ``i`` at ``i / rate_hz`` seconds after
        the first displayed frame; ``None`` if there is no audio.

    Raises:
        InputError: the file cannot be read, or has no such track.
    """
    blocks = list(
        read_audio_blocks(
            path, rate_hz=rate_hz, block_s=10.0, track=track, on_warning=on_warning
        )
    )
    return np.concatenate(blocks, axis=1) if blocks else None


def read_audio_blocks(
    path: Path,
    *,
    rate_hz: int,
    block_s: float,
    track: int | None = None,
    on_warning: WarningCallback | None = None,
) -> Iterator[Samples]:
    """Yield the audio of a file in blocks; nothing if there is no audio.

    Args:
        path: video or audio file.
        rate_hz: sample rate of the result.
        block_s: length of the blocks.
        track: as for `read_audio`.
        on_warning: as for `read_audio`.

    Yields:
        ``(channels, samples)`` of ``block_s`` seconds, the last one shorter.
    """
    size = max(1, round(rate_hz * block_s))
    pending: list[Samples] = []
    n_pending = 0
    decoded = _decode_blocks(path, track, on_warning)
    start_s = find_start_time_s(path, audio_track=track)
    for block in _resample_blocks(_align_blocks(decoded, start_s), rate_hz):
        pending.append(block)
        n_pending += block.shape[1]
        if n_pending >= size:
            samples = np.concatenate(pending, axis=1)
            cut = n_pending - n_pending % size
            yield from np.split(samples[:, :cut], cut // size, axis=1)
            pending, n_pending = [samples[:, cut:]], n_pending - cut
    if n_pending:
        yield np.concatenate(pending, axis=1)


def _resample_blocks(blocks: Iterator[tuple[Samples, int]], rate_hz: int) -> Iterator[Samples]:
    resampler: soxr.ResampleStream | None = None
    n_channels = 0
    for block, source_hz in blocks:
        if resampler is None:
            n_channels = len(block)
            resampler = soxr.ResampleStream(source_hz, rate_hz, n_channels, dtype="float32")
        yield _resample(resampler, block)
    if resampler is not None:
        yield _resample(resampler, np.zeros((n_channels, 0), np.float32), last=True)


def _resample(resampler: soxr.ResampleStream, block: Samples, *, last: bool = False) -> Samples:
    samples: Samples = resampler.resample_chunk(np.ascontiguousarray(block.T), last=last)
    return samples.reshape(-1, len(block)).T


def _align_blocks(
    blocks: Iterator[tuple[Samples, Fraction, int]], start_s: Fraction
) -> Iterator[tuple[Samples, int]]:
    """Yield decoded blocks without gaps or overlaps from second 0 on, and their sample rate."""
    n_samples, silence_s = 0, 0.0
    for block, time_s, rate_hz in blocks:
        # The first block is placed exactly; later ones move only at a real gap or overlap.
        drift = round((time_s - start_s) * rate_hz) - n_samples
        gap_s = drift / rate_hz
        if (n_samples and abs(gap_s) <= MAX_DRIFT_S) or gap_s > MAX_GAP_S:
            drift = 0
        if drift > 0 and silence_s + drift / rate_hz > MAX_SILENCE_S:
            drift = 0
        silence_s += max(drift / rate_hz, 0)
        while drift > 0:
            n_silent = min(drift, round(SILENCE_BLOCK_S * rate_hz))
            yield np.zeros((len(block), n_silent), np.float32), rate_hz
            n_samples += n_silent
            drift -= n_silent
        tail = block[:, -drift:]
        if tail.shape[1]:
            yield tail, rate_hz
            n_samples += tail.shape[1]


def _decode_blocks(
    path: Path, track: int | None, on_warning: WarningCallback | None
) -> Iterator[tuple[Samples, Fraction, int]]:
    """Yield blocks ``(channels, samples)``, their container times, and the sample rate.

    All blocks have the sample rate and channel layout of the first one.
    """
    with open_container(path) as container:
        stream = find_audio_stream(container, track=track, on_warning=on_warning)
        if stream is None:
            return
        video = find_video_stream(container)
        reference = stream if video is None else video
        streams = [stream] if video is None else [stream, video]
        resampler: av.AudioResampler | None = None
        first_format, source_format = ("", 0), ("", 0)
        time_s = Fraction(0)
        for packet in read_packets(container, streams, reference):
            if packet.stream.index != stream.index:
                continue
            try:
                frames: list[Any] = packet.decode()
            except av.FFmpegError:  # damaged packets become silence
                continue
            for frame in frames:
                frame_format = frame.layout.name, frame.sample_rate
                _check_rate(frame.sample_rate, path)
                if not first_format[1]:
                    first_format = frame_format
                if frame.pts is not None and frame.time_base is not None:
                    time_s = frame.pts * frame.time_base
                blocks = [frame]
                if frame_format != first_format:
                    if frame_format != source_format:
                        layout, rate_hz = first_format
                        resampler = av.AudioResampler("flt", layout, rate_hz)
                    assert resampler is not None
                    frame.pts = None
                    blocks = resampler.resample(frame)
                source_format = frame_format
                for block in blocks:
                    samples = _read_samples(block)
                    yield samples, time_s, first_format[1]
                    time_s += Fraction(samples.shape[1], first_format[1])


def _check_rate(rate_hz: int, path: Path) -> None:
    """Check that no header can make the resampled audio take gigabytes."""
    if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
        raise InputError(
            f"the audio of {path} has an invalid sample rate: {rate_hz} Hz",
            hint=format_convert_hint(path),
        )


def _read_samples(frame: av.AudioFrame) -> Samples:
    """Return the samples of a frame with any number of channels, full scale 1.

    ``AudioFrame.to_ndarray`` reads beyond the planes of planar frames with more than 8
    channels, and ``AudioResampler`` has at most 64 channels.

    Returns:
        ``(channels, samples)`` float32.
    """
    kind, n_channels = frame.format.packed.name, frame.layout.nb_channels
    n_planes = n_channels if frame.format.is_planar else 1
    n_values = frame.samples * n_channels // n_planes
    dtype = np.dtype(SAMPLE_TYPES[kind])
    buffers = [memoryview(AudioPlane(frame, k)) for k in range(n_planes)]
    planes = [np.frombuffer(buffer, dtype, n_values) for buffer in buffers]
    samples = np.stack(planes) if n_planes > 1 else planes[0].reshape(-1, n_channels).T
    if dtype.kind == "f":
        return samples.astype(np.float32)
    middle = 128 if dtype.kind == "u" else 0
    return (samples.astype(np.float32) - middle) / 2.0 ** (8 * dtype.itemsize - 1)
