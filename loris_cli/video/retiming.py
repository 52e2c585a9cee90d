"""Lossless copy of a video with rising presentation times, for files that ffmpeg cannot copy.

packets -> presentation time of each, from the order of its decoded frame -> Matroska
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av

from loris_cli.errors import InputError
from loris_cli.system.atomic_files import DISK_FULL_ERRNOS, output_errors

from .containers import format_convert_hint, open_container, require_video_stream
from .timestamps import Packet, read_packets, time_video_packets

MIN_STEP_S = Fraction(1, 500)
"""Step between repeated times, which are different after rounding to milliseconds."""


def has_irregular_times(video: Path) -> bool:
    """Return whether a copy by ffmpeg would have other times than `read_frames`.

    That is so without presentation times in the container, after a restart of the clock, and if
    times are repeated or presentation precedes decoding: ffmpeg then changes the times.
    """
    have_rising_times, has_restarts = _examine_times(video)
    return has_restarts or not have_rising_times


def _examine_times(video: Path) -> tuple[bool, bool]:
    """Return whether a muxer accepts the presentation times, and whether the clock restarts."""
    with open_container(video) as container:
        stream = require_video_stream(container, video)
        restarts: list[float] = []
        packets = read_packets(container, [stream], stream, on_restart=restarts.append)
        times, packets = time_video_packets(container, packets, stream)
        have_rising_times = times.are_valid and _have_rising_times(packets)
        return have_rising_times, bool(restarts)


def _have_rising_times(packets: Iterator[Packet]) -> bool:
    """Return whether a muxer accepts the times of the packets of a stream."""
    known: set[int] = set()
    previous: int | None = None
    for packet in packets:
        if not packet.size or packet.is_discard:
            continue
        if packet.pts is None or packet.pts in known:
            return False
        known.add(packet.pts)
        if packet.dts is not None:
            if packet.dts > packet.pts or (previous is not None and packet.dts <= previous):
                return False
            previous = packet.dts
    return True


def write_retimed_copy(video: Path, out: Path) -> None:
    """Copy the packets of the video stream, with repaired times, to a Matroska file.

    The encoded frames are not changed. If the presentation times are missing or do not rise,
    the video is decoded once to find the order of its frames.

    Args:
        video: video file, see `has_irregular_times`.
        out: ``.mkv`` file, which stores times in milliseconds and holds any codec.

    Raises:
        InputError: the packets cannot be copied.
        OutputError: no disk space.
    """
    have_rising_times, _ = _examine_times(video)
    order = None if have_rising_times else _find_display_order(video)
    with (
        open_container(video) as container,
        _copy_errors(video, out),
        av.open(f"file:{out}", "w", format="matroska") as copy,
    ):
        stream = require_video_stream(container, video)
        out_stream = copy.add_stream_from_template(stream)
        out_stream.metadata.update(stream.metadata)
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
        assert stream.time_base is not None
        min_step = math.ceil(MIN_STEP_S / stream.time_base)
        packets = read_packets(container, [stream], stream)
        times, packets = time_video_packets(container, packets, stream)
        ticks: dict[int, int] = {}
        displayed: list[int] = []
        position = -1
        for packet in packets:
            if packet.size:
                position += 1
                ticks[position] = times.ticks(packet)
                packet.pts = packet.dts = position
                packet.time_base = Fraction(1, 1)
            try:
                displayed += [f.pts for f in packet.decode() if f.pts is not None]
            except av.FFmpegError:
                ticks.pop(position, None)
    rising = sorted(ticks.values())
    for n in range(1, len(rising)):
        rising[n] = max(rising[n], rising[n - 1] + min_step)
    # A damaged packet may give several frames.
    pts = {at: rising[n] for n, at in enumerate(dict.fromkeys(displayed)) if n < len(rising)}
    in_file_order = sorted(pts)
    # As x264 does it: decoding times are the sorted presentation times, moved before them.
    delays = (rising[n] - pts[at] for n, at in enumerate(in_file_order))
    delay = max(delays, default=0)
    return {at: (pts[at], rising[n] - delay) for n, at in enumerate(in_file_order)}
