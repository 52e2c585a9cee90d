"""Lossless copy of a video with rising presentation times, for files that ffmpeg cannot copy.

packets -> presentation time of each, from the order of its decoded frame -> temporary file
"""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer, OutputContainer

from loris_cli.errors import InputError
from loris_cli.system.atomic_files import DISK_FULL_ERRNOS, output_errors

from .containers import (
    format_convert_hint,
    get_codec_name,
    open_container,
    require_video_stream,
)
from .probe import probe_video
from .timestamps import Packet, decode_video, read_packets, time_video_packets

MIN_STEP_S = Fraction(1, 1000)
"""Step of times that are different after rounding to milliseconds."""


def has_irregular_times(video: Path) -> bool:
    """Return whether a copy by ffmpeg would have other times than `read_frames`.

    That is so without presentation times in the container, after a restart of the clock, and if
    times are repeated, less than 1 ms apart or before decoding: ffmpeg then changes them. It
    also mixes up B-frames before the first key frame, which cannot be displayed.
    """
    have_rising_times, has_restarts = _examine_times(video)
    return has_restarts or not have_rising_times


def _examine_times(video: Path) -> tuple[bool, bool]:
    """Return whether a muxer accepts the presentation times, and whether the clock restarts."""
    with open_container(video) as container:
        stream = require_video_stream(container, video)
        tick = stream.time_base
        assert tick is not None
        restarts: list[float] = []
        packets = read_packets(container, [stream], stream, on_restart=restarts.append)
        times, packets = time_video_packets(container, packets, stream)
        have_rising_times = times.are_valid and _have_rising_times(
            packets, float(tick), has_b_frames=bool(stream.codec_context.has_b_frames)
        )
        return have_rising_times, bool(restarts)


def _have_rising_times(packets: Iterator[Packet], tick_s: float, *, has_b_frames: bool) -> bool:
    """Return whether muxers accept the times of the packets of a stream, and keep them."""
    times: list[int] = []
    previous: int | None = None
    for position, packet in enumerate(p for p in packets if p.size):
        if position == 0 and has_b_frames and not packet.is_keyframe:  # a cut recording
            return False
        if packet.is_discard:
            continue
        if packet.pts is None:
            return False
        times.append(packet.pts)
        if packet.dts is not None:
            if packet.dts > packet.pts or (previous is not None and packet.dts <= previous):
                return False
            previous = packet.dts
    steps_s = np.diff(np.sort(times)) * tick_s
    return steps_s.size == 0 or steps_s.min() >= min(MIN_STEP_S, float(np.median(steps_s)) / 2)


def has_hidden_frames(video: Path) -> bool:
    """Return whether the edit list of an MP4 hides encoded frames."""
    with open_container(video) as container:
        if not container.format.name.startswith("mov"):
            return False
        stream = require_video_stream(container, video)
        try:
            return any(packet.is_discard for packet in container.demux(stream))
        except av.FFmpegError:  # truncated
            return False


def write_retimed_copy(video: Path, out: Path) -> None:
    """Copy the packets of the video stream, with repaired times, to a temporary file.

    The encoded frames are not changed. If the presentation times are missing or do not rise,
    the video is decoded once to find the order of its frames.

    Args:
        video: video file, see `has_irregular_times`.
        out: output file, Matroska or NUT.

    Raises:
        InputError: the packets cannot be copied.
        OutputError: no disk space.
    """
    have_rising_times, _ = _examine_times(video)
    order = None if have_rising_times else _find_display_order(video)
    interval_s = probe_video(video).frame_interval_s
    with open_container(video) as container, _copy_errors(video, out):
        stream = require_video_stream(container, video)
        # ffmpeg finds better decoding times in Matroska, but only NUT holds any codec.
        with av.open(os.devnull, "w", format="matroska") as matroska:
            is_supported = get_codec_name(stream) in matroska.supported_codecs
        muxer = "matroska" if is_supported else "nut"
        with av.open(f"file:{out}", "w", format=muxer) as copy:
            _copy_packets(container, stream, copy, order=order, interval_s=interval_s)


def _copy_packets(
    container: InputContainer,
    stream: av.VideoStream,
    copy: OutputContainer,
    *,
    order: dict[int, tuple[int, int]] | None,
    interval_s: float,
) -> None:
    """Copy the packets of a stream, with the times of `_find_display_order` if given."""
    out_stream = copy.add_stream_from_template(stream, opaque=True)
    out_stream.metadata.update(stream.metadata)
    # The muxer needs it for the duration of the last frame.
    out_stream.codec_context.framerate = Fraction(1 / interval_s).limit_denominator(1001)
    packets = (p for p in read_packets(container, [stream], stream) if p.size)
    for position, packet in enumerate(packets):
        if order is not None:
            packet.pts, packet.dts = order.get(position, (None, None))
        packet.stream = out_stream
        if packet.pts is not None:  # packets without a frame are dropped
            copy.mux(packet)


@contextmanager
def _copy_errors(video: Path, out: Path) -> Iterator[None]:
    """Convert errors of the muxer."""
    try:
        with output_errors(out, errnos=DISK_FULL_ERRNOS):
            yield
    except (av.FFmpegError, ValueError) as error:
        message = f"the video stream of {video} cannot be copied with repaired times"
        raise InputError(message, hint=format_convert_hint(video)) from error


def _find_display_order(video: Path) -> dict[int, tuple[int, int]]:
    """Return presentation and decoding time of each packet, by its position in the stream.

    Packets without a frame are left out.
    """
    with open_container(video) as container:
        stream = require_video_stream(container, video)
        stream.thread_type = "AUTO"
        stream.codec_context.copy_opaque = True
        assert stream.time_base is not None
        min_step = math.ceil(MIN_STEP_S / stream.time_base)
        displayed: dict[int, int] = {}
        for ticks, frame in decode_video(container, stream):
            if isinstance(frame.opaque, int):
                displayed.setdefault(frame.opaque, ticks)
    rising = sorted(displayed.values())
    for n in range(1, len(rising)):
        rising[n] = max(rising[n], rising[n - 1] + min_step)
    pts = dict(zip(displayed, rising, strict=True))
    in_file_order = sorted(displayed)
    # As x264 does it: decoding times are the sorted presentation times, moved before them.
    delays = (rising[n] - pts[at] for n, at in enumerate(in_file_order))
    delay = max(delays, default=0)
    return {at: (pts[at], rising[n] - delay) for n, at in enumerate(in_file_order)}
