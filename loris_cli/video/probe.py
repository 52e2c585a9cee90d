"""Probe a video from its packets, because headers may be wrong.

file -> first displayed frame (decoded) -> times of all packets (not decoded) -> VideoInfo
"""

import os
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer

from loris_cli.array_types import Array
from loris_cli.errors import InputError, escape_unprintable
from loris_cli.video.frame_conversion import compute_square_pixel_size, read_orientation

from . import containers
from .containers import WarningCallback
from .timestamps import read_packets, time_video_packets

MAX_TIMESTAMP_JUMP_S = 600.0
MIN_GAP_S, MIN_GAP_FRAMES = 0.25, 3.0
"""A frame displayed longer than both limits indicates missing frames. The second limit is in
median frame intervals."""
MIN_FRAME_INTERVAL_S = 0.0009
"""Containers store milliseconds, so frames at more than 1000 fps would lose their times."""
MAX_DURATION_S = 24 * 3600.0
MAX_LAST_FRAME_S = 60.0
TS_PACKET_BYTES = 188  # ISO/IEC 13818-1
CUT_HINT = 'extract a part: ffmpeg -ss 0 -t 600 -i "{}" -c copy part.mp4'
RETIME_HINT = 'write new timestamps: ffmpeg -i "{}" -fps_mode cfr dance.mp4'


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """Properties of a video as it is displayed.

    Args:
        path: video file.
        width: width of the upright frame with square pixels, px.
        height: height of the upright frame with square pixels, px.
        rotation_deg: counterclockwise rotation to the upright frame: 0, 90, 180 or 270.
        duration_s: time from the first frame to the end of the last.
        fps: mean frame rate.
        frame_interval_s: median time between two frames.
        n_frames: number of displayed frames.
        has_audio: whether there is an audio stream.
        truncated: whether the file ends earlier than its container announces.
    """

    path: Path
    width: int
    height: int
    rotation_deg: int
    duration_s: float
    fps: float
    frame_interval_s: float
    n_frames: int
    has_audio: bool
    truncated: bool
    frame_gaps_s: tuple[tuple[float, float], ...] = ()
    """Start and end times of the gaps, in which frames are missing."""


@dataclass(kw_only=True)
class _PacketScan:
    """Result of one pass over the packets of a file."""

    timestamp_ticks: "array[int]"  # subscriptable from Python 3.12 on
    last_duration_ticks: int = 0
    end_s: float = 0.0
    truncated: bool = False


def probe_video(path: Path, *, on_warning: WarningCallback | None = None) -> VideoInfo:
    """Probe a video in one pass over its packets.

    Args:
        path: video file.
        on_warning: called if one of several video streams is chosen.

    Raises:
        InputError: the file is not a video, or its timestamps are invalid.
    """
    with containers.open_container(path) as container:
        stream = containers.require_video_stream(container, path, on_warning=on_warning)
        first = containers.decode_first_frame(container, stream)
        if first is None:
            hint = containers.format_convert_hint(path)
            raise InputError(f"no frame of {path} can be decoded", hint=hint)
        start, frame = first
        containers.check_frame_size(frame.width, frame.height, path)
        rotation = read_orientation(frame).rotation_deg
        width, height = compute_square_pixel_size(frame, stream.sample_aspect_ratio)
    with containers.open_container(path) as container:
        stream = containers.require_video_stream(container, path)
        tick = stream.time_base
        assert tick is not None
        packets = _scan_packets(container, stream, start)
        ticks = np.unique(np.frombuffer(packets.timestamp_ticks, np.int64))
        times = ticks - ticks[:1]
        if times.size < 2:
            raise InputError(f"{path} has only one frame", hint="specify a longer video")
        intervals_s = np.diff(times) * float(tick)
        interval_s = float(np.median(intervals_s))
        last_s = estimate_last_duration(packets.last_duration_ticks * float(tick), intervals_s)
        span_s = float(times[-1] * tick)
        _check_timestamps(path, intervals_s, span_s)
        return VideoInfo(
            path=path,
            width=width if rotation % 180 == 0 else height,
            height=height if rotation % 180 == 0 else width,
            rotation_deg=rotation,
            duration_s=span_s + last_s,
            fps=(times.size - 1) / span_s,
            frame_interval_s=interval_s,
            n_frames=int(times.size),
            has_audio=bool(container.streams.audio),
            truncated=packets.truncated or _is_truncated(container, path, packets.end_s),
            frame_gaps_s=tuple(_find_gaps_s(times * float(tick), interval_s)),
        )


def estimate_last_duration(duration_s: float, intervals_s: Array) -> float:
    """Return the duration of the last frame, or the median interval if it is implausible.

    The duration of the last packet is one tick in AVI, missing in transport streams, and hours
    in files of some recorders.
    """
    if intervals_s.min() / 2 < duration_s <= MAX_LAST_FRAME_S:
        return duration_s
    return float(np.median(intervals_s))


def _find_gaps_s(times_s: np.ndarray, interval_s: float) -> Iterator[tuple[float, float]]:
    held = np.flatnonzero(np.diff(times_s) > max(MIN_GAP_FRAMES * interval_s, MIN_GAP_S))
    yield from ((float(times_s[k]), float(times_s[k + 1])) for k in held)


def _scan_packets(
    container: InputContainer, stream: av.VideoStream, start_ticks: int
) -> _PacketScan:
    """Return the times of all displayed frames, in decoding order, and the end of the file."""
    scan = _PacketScan(timestamp_ticks=array("q"))

    n_read_errors = 0

    def count_error() -> None:  # the file ends in the middle of a packet
        nonlocal n_read_errors
        n_read_errors += 1

    packets = read_packets(container, list(container.streams), stream, on_damage=count_error)
    times, packets = time_video_packets(container, packets, stream)
    latest = start_ticks
    for packet in packets:
        if packet.size == 0:
            continue
        ticks = packet.pts if packet.pts is not None else packet.dts
        if ticks is not None and packet.time_base is not None:
            end = (ticks + (packet.duration or 0)) * packet.time_base
            scan.end_s = max(scan.end_s, float(end))
        if packet.stream.index != stream.index:
            continue
        scan.truncated = packet.is_corrupt
        if packet.is_discard:
            continue
        ticks = times.ticks(packet)
        if ticks < start_ticks:
            continue
        scan.timestamp_ticks.append(ticks)
        if ticks >= latest:
            latest, scan.last_duration_ticks = ticks, packet.duration or 0
    scan.truncated |= n_read_errors > 0
    return scan


def _check_timestamps(path: Path, intervals_s: np.ndarray, span_s: float) -> None:
    name, k = escape_unprintable(path), int(intervals_s.argmax())
    if intervals_s[k] > MAX_TIMESTAMP_JUMP_S:
        at_s, jump_s = float(intervals_s[:k].sum()), intervals_s[k]
        message = f"the timestamps of {path} jump by {jump_s:.0f} s at {at_s:.1f} s"
        raise InputError(message, hint=RETIME_HINT.format(name))
    if np.median(intervals_s) < MIN_FRAME_INTERVAL_S:
        message = f"the timestamps of {path} are {np.median(intervals_s):.2g} s apart"
        raise InputError(message, hint=RETIME_HINT.format(name))
    if span_s > MAX_DURATION_S:
        raise InputError(
            f"{path} is {span_s / 3600:.0f} hours long, over the limit of 24 hours",
            hint=CUT_HINT.format(name),
        )


def _is_truncated(container: InputContainer, path: Path, end_s: float) -> bool:
    """Return whether the container announces more data than the file contains."""
    name = container.format.name
    if name.startswith("mov"):
        return any(end > path.stat().st_size for end in _read_mp4_box_ends(path))
    if name == "mpegts":
        with path.open("rb") as file:
            head = file.read(TS_PACKET_BYTES + 1)
        is_plain = head[:1] == head[TS_PACKET_BYTES:] == b"G"  # not packets of 192 or 204 bytes
        return is_plain and path.stat().st_size % TS_PACKET_BYTES != 0
    if name.startswith(("matroska", "avi", "flv", "asf")) and container.duration is not None:
        return container.duration / av.time_base - end_s > 1.0
    return False


def _read_mp4_box_ends(path: Path) -> Iterator[int]:
    """Yield the announced ends of the top-level boxes of an MP4 (ISO/IEC 14496-12 Sec. 4.2)."""
    size = path.stat().st_size
    at = 0
    with path.open("rb") as file:
        while at + 8 <= size:
            file.seek(at, os.SEEK_SET)
            head = file.read(16)
            length = int.from_bytes(head[:4])
            if length == 1:
                length = int.from_bytes(head[8:16])
            if length < 8:  # 0: the box extends to the end of the file
                return
            at += length
            yield at
