"""Lossless copy of a video with rising presentation times, for files that ffmpeg cannot copy.

packets -> presentation time of each, from the order of its decoded frame -> Matroska
"""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av

from loris_cli.errors import InputError
from loris_cli.system.atomic_files import DISK_FULL_ERRNOS, output_errors

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
        if not times.are_valid or container.format.name.startswith("mov"):
            return not times.are_valid
        return any(restarts for _ in packets)


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
    """Copy the packets of the video stream, with repaired times, to a Matroska file.

    The encoded frames are not changed. If the container has no presentation times, the video is
    decoded once to find the order of its frames.

    Args:
        video: video file, see `has_irregular_times`.
        out: ``.mkv`` file, which stores times in milliseconds and holds any codec.

    Raises:
        InputError: the packets cannot be copied.
        OutputError: no disk space.
    """
    order = _find_display_order(video)
    with (
        open_container(video) as container,
        _copy_errors(video, out),
        av.open(f"file:{out}", "w", format="matroska") as copy,
    ):
        stream = require_video_stream(container, video)
        packets = read_packets(container, [stream], stream)
        times, packets = time_video_packets(container, packets, stream)
        out_stream = copy.add_stream_from_template(stream)
        out_stream.metadata.update(stream.metadata)
        n_packets, previous = 0, -(2**63)
        for packet in packets:
            if not packet.size:
                continue
            if not times.are_valid:
                packet.pts, packet.dts = order.get(n_packets, (None, None))
            n_packets += 1
            if packet.pts is None:  # packets without a frame are dropped
                continue
            # Two joined files may overlap in decoding time.
            packet.dts = previous = max(
                previous, packet.pts if packet.dts is None else packet.dts
            )
            packet.stream = out_stream
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
