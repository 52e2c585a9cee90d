"""Lossless copy of a video with rising presentation times, for files that ffmpeg cannot copy.

packets -> presentation time of each, from the order of its decoded frame -> Matroska
"""

from fractions import Fraction
from pathlib import Path

import av

from loris_cli.errors import InputError

from .containers import format_convert_hint, open_container, require_video_stream
from .timestamps import read_packets, time_video_packets


def has_irregular_times(video: Path) -> bool:
    """Return whether a copy by ffmpeg would have other times than `read_frames`.

    That is so without presentation times in the container, and after a restart of the clock.
    """
    with open_container(video) as container:
        stream = require_video_stream(container, video)
        restarts: list[float] = []
        packets = read_packets(container, [stream], stream, on_restart=restarts.append)
        times, packets = time_video_packets(container, packets, stream)
        if not times.are_valid:
            return True
        return any(restarts for _ in packets)


def write_retimed_copy(video: Path, out: Path) -> None:
    """Copy the packets of all audio and video streams, with repaired times, to a Matroska file.

    The encoded frames are not changed. If the container has no presentation times, the video is
    decoded once to find the order of its frames.

    Args:
        video: video file, see `has_irregular_times`.
        out: ``.mkv`` file, which stores times in milliseconds and holds any codec.

    Raises:
        InputError: Matroska does not support a codec.
    """
    order = _find_display_order(video)
    with (
        open_container(video) as container,
        av.open(f"file:{out}", "w", format="matroska") as copy,
    ):
        stream = require_video_stream(container, video)
        others = [s for s in container.streams.audio if s.codec_context is not None]
        packets = read_packets(container, [stream, *others], stream)
        times, packets = time_video_packets(container, packets, stream)
        try:
            outputs = {s.index: copy.add_stream_from_template(s) for s in [stream, *others]}
        except ValueError as error:
            message = f"the codecs of {video} cannot be copied with repaired times"
            raise InputError(message, hint=format_convert_hint(video)) from error
        n_packets = 0
        for packet in packets:
            if not packet.size:
                continue
            if packet.stream.index == stream.index:
                if not times.are_valid:
                    packet.pts, packet.dts = order.get(n_packets, (None, None))
                n_packets += 1
            packet.stream = outputs[packet.stream.index]
            if packet.pts is not None:  # packets without a frame are dropped
                copy.mux(packet)


def _find_display_order(video: Path) -> dict[int, tuple[int, int]]:
    """Return presentation and decoding time of each packet, by its position in the stream.

    The result is empty if the packets have valid times.
    """
    with open_container(video) as container:
        stream = require_video_stream(container, video)
        stream.thread_type = "AUTO"
        packets = read_packets(container, [stream], stream)
        times, packets = time_video_packets(container, packets, stream)
        if times.are_valid:
            return {}
        ticks: list[int] = []
        displayed: list[int] = []
        for packet in packets:
            if packet.size:
                ticks.append(times.ticks(packet))
                packet.pts = packet.dts = len(ticks) - 1
                packet.time_base = Fraction(1, 1)
            try:
                displayed += [f.pts for f in packet.decode() if f.pts is not None]
            except av.FFmpegError:
                continue
    ticks.sort()
    pts = {position: ticks[n] for n, position in enumerate(displayed)}
    in_file_order = sorted(pts)
    # As x264 does it: decoding times are the sorted presentation times, moved before them.
    delays = (ticks[n] - pts[position] for n, position in enumerate(in_file_order))
    delay = max(delays, default=0)
    return {
        position: (pts[position], ticks[n] - delay) for n, position in enumerate(in_file_order)
    }
