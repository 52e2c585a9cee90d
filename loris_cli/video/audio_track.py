"""The sound of a file in time with its pictures: sample 0 is at the first shown frame.

packets -> decoded blocks -> gaps filled, overlaps cut -> resampled -> (channels, samples)
"""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import av.container
import numpy as np
import soxr
from numpy.typing import NDArray

from .containers import find_start_time_s, open_container

Samples = NDArray[np.float32]

# Matroska rounds times to 1 ms and some recorders wander by a block; more is a real gap.
MAX_DRIFT_S = 0.05
SILENCE_BLOCK_S = 1.0  # of zeros made at a time, so that a long gap takes no memory


def read_audio(path: Path, *, rate_hz: int) -> Samples | None:
    """All sound of a video or a sound file.

    Args:
        path: the file.
        rate_hz: samples per second wanted.

    Returns:
        ``(channels, samples)``, full scale 1, sample ``i`` at ``i / rate_hz`` seconds after
        the first shown frame; ``None`` if there is no sound.
    """
    blocks = list(read_audio_blocks(path, rate_hz=rate_hz, block_s=10.0))
    return np.concatenate(blocks, axis=1) if blocks else None


def read_audio_blocks(path: Path, *, rate_hz: int, block_s: float) -> Iterator[Samples]:
    """The same in blocks, for files of any length; none if there is no sound.

    Yields:
        ``(channels, samples)`` of ``block_s`` seconds, the last one shorter.
    """
    size = max(1, round(rate_hz * block_s))
    kept: list[Samples] = []
    n_kept = 0
    for piece in _resample_blocks(path, rate_hz):
        kept.append(piece)
        n_kept += piece.shape[1]
        if n_kept >= size:
            whole = np.concatenate(kept, axis=1)
            cut = n_kept - n_kept % size
            yield from np.split(whole[:, :cut], cut // size, axis=1)
            kept, n_kept = [whole[:, cut:]], n_kept - cut
    if n_kept:
        yield np.concatenate(kept, axis=1)


def _resample_blocks(path: Path, rate_hz: int) -> Iterator[Samples]:
    stream: soxr.ResampleStream | None = None
    n_channels = 0
    for piece, source_hz in _align_blocks(path):
        if stream is None:
            n_channels = len(piece)
            stream = soxr.ResampleStream(source_hz, rate_hz, n_channels, dtype="float32")
        yield _resample_block(stream, piece)
    if stream is not None:
        yield _resample_block(stream, np.zeros((n_channels, 0), np.float32), last=True)


def _resample_block(
    resampler: soxr.ResampleStream, block: Samples, *, last: bool = False
) -> Samples:
    made: Samples = resampler.resample_chunk(np.ascontiguousarray(block.T), last=last)
    return made.reshape(-1, len(block)).T


def _align_blocks(path: Path) -> Iterator[tuple[Samples, int]]:
    """Decoded blocks without gap or overlap from second 0 on, and their rate."""
    start = find_start_time_s(path)
    n_made = 0
    for piece, time, rate in _decode_blocks(path):
        wanted = round((time - start) * rate)
        # The first block is put exactly; later ones only move if the file really jumps.
        drift = wanted - n_made
        if n_made and abs(drift) <= MAX_DRIFT_S * rate:
            drift = 0
        while drift > 0:
            silent = min(drift, round(SILENCE_BLOCK_S * rate))
            yield np.zeros((len(piece), silent), np.float32), rate
            n_made += silent
            drift -= silent
        rest = piece[:, -drift:]
        if rest.shape[1]:
            yield rest, rate
            n_made += rest.shape[1]


def _decode_blocks(path: Path) -> Iterator[tuple[Samples, Fraction, int]]:
    """Blocks ``(channels, samples)``, their container time, and the rate of the first."""
    with open_container(path) as container:
        stream = next((s for s in container.streams.audio if s.codec_context is not None), None)
        if stream is None:
            return
        resampler: av.AudioResampler | None = None
        layout, rate, came = "", 0, ("", 0)
        due = Fraction(0)
        for frame in _decode_frames(container, stream):
            if not rate:
                layout, rate = frame.layout.name, frame.sample_rate
            if frame.pts is not None and frame.time_base is not None:
                due = frame.pts * frame.time_base
            frame.pts = None
            if resampler is None or came != (frame.layout.name, frame.sample_rate):
                resampler = av.AudioResampler(format="fltp", layout=layout, rate=rate)
                came = frame.layout.name, frame.sample_rate
            for block in resampler.resample(frame):
                samples = np.asarray(block.to_ndarray(), np.float32)
                yield samples, due, rate
                due += Fraction(samples.shape[1], rate)


def _decode_frames(
    container: av.container.InputContainer, stream: av.AudioStream
) -> Iterator[av.AudioFrame]:
    try:
        for packet in container.demux(stream):
            try:
                frames = packet.decode()
            except av.FFmpegError:  # a damaged packet leaves a gap, which becomes silence
                continue
            for frame in frames:
                assert isinstance(frame, av.AudioFrame)
                yield frame
    except av.FFmpegError:  # the file was cut off: what came is what there is
        return
