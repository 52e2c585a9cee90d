"""Packets on one clock, and frames with rising presentation times.

packets -> restarts of the clock removed -> decoded frames -> missing times replaced

Some containers store no presentation times (AVI, elementary streams) or only some of them
(program streams), and some muxers write decoding times in their place. The decoder still
returns the frames in presentation order, so the n-th frame gets the n-th smallest time.
"""

import heapq
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from itertools import chain
from typing import Any, TypeAlias

import av
from av.container import InputContainer

Packet: TypeAlias = "av.Packet[Any]"
MediaStream = av.VideoStream | av.AudioStream

TS_DISCONT = 0x0200  # AVFMT_TS_DISCONT of libavformat: the clock of a format may restart
N_EXAMINED_PACKETS = 64
"""Video packets that decide whether the presentation times are valid. Longer runs without any
reordered frame are possible, and then the order of decoding is that of presentation."""
MIN_CLOCK_RESTART_S = 0.5
"""A decoding time this much before the previous one is a restart of the clock."""
MAX_CLOCK_STEP_S = 10.0
"""A longer step of a clock that may restart is a restart too, as in ffmpeg."""
MAX_TIME_S, MAX_TICKS, MAX_DURATION_S = 2.0**32, 2**62, 24 * 3600.0
"""Larger times (a century, or near 64 bits) and longer packets are damaged."""
MAX_REORDERED_FRAMES = 16
"""Maximum number of reference frames in H.264 and H.265."""
MAX_PENDING_FRAMES = 64
"""More frames than any decoder delays: 16 reference frames, and one for each thread."""


def read_packets(
    container: InputContainer,
    streams: Sequence[Any],
    reference: MediaStream,
    *,
    on_damage: Callable[[], object] = lambda: None,
    on_restart: Callable[[float], object] = lambda time_s: None,
    max_read_errors: int = 1,
) -> Iterator[Packet]:
    """Demux streams; if the clock restarts, later packets continue the earlier times.

    Transport streams that were joined, and recorders that are interrupted, restart the clock.
    The reference decides by how much the times of all streams are moved.

    Args:
        container: opened file.
        streams: streams to read, with the reference.
        reference: stream without gaps at a restart, the video if there is one.
        on_damage: called for each read error.
        on_restart: called with the new time of each restart of the reference's clock, s.
        max_read_errors: number of consecutive read errors after which reading stops, as at the
            end of a truncated file.

    Yields:
        packets in the order of the file; the last ones are empty and flush the decoders.
    """
    is_mov = container.format.name.startswith("mov")
    clock: _EditedClock | _ContinuousClock = _EditedClock(reference)
    if not is_mov:
        clock = _ContinuousClock(container, reference, on_restart)
    n_errors = 0
    while n_errors < max_read_errors:
        try:
            for packet in container.demux(*streams):
                n_errors = 0
                _remove_invalid_times(packet)
                yield from clock.add(packet)
        except av.FFmpegError:
            n_errors += 1
            on_damage()
        else:
            break
    yield from clock.flush()


def _remove_invalid_times(packet: Packet) -> None:
    """Remove times of damaged files that would overflow 64 bits once they are moved."""
    tick = float(packet.time_base or 0)
    packet.pts = _drop_invalid_ticks(packet.pts, tick)
    packet.dts = _drop_invalid_ticks(packet.dts, tick)
    if packet.duration and not 0 < packet.duration * tick < MAX_DURATION_S:
        packet.duration = 0


def _drop_invalid_ticks(ticks: int | None, tick_s: float) -> int | None:
    is_valid = ticks is not None and abs(ticks) < MAX_TICKS and abs(ticks) * tick_s < MAX_TIME_S
    return ticks if is_valid else None


class _ContinuousClock:
    """Moves the times of all streams by the same amount after each restart of the clock."""

    def __init__(
        self,
        container: InputContainer,
        reference: MediaStream,
        on_restart: Callable[[float], object],
    ) -> None:
        self._reference, self._on_restart = reference.index, on_restart
        has_restarts = bool(container.format.flags & TS_DISCONT)
        self._max_step_s = MAX_CLOCK_STEP_S if has_restarts else float("inf")
        self._offsets_s = [Fraction(0)]  # one for each restart, and 0
        self._segments: dict[int, int] = {}
        self._previous_s: dict[int, Fraction] = {}
        self._end_s = Fraction(0)
        self._held: list[tuple[Packet, int]] = []

    def add(self, packet: Packet) -> Iterator[Packet]:
        """Yield the packet, and packets that waited for the reference, with moved times."""
        ticks = packet.dts if packet.dts is not None else packet.pts
        index = packet.stream.index
        newest = len(self._offsets_s) - 1
        segment = self._segments.setdefault(index, newest)
        if ticks is not None and packet.size:
            time_s = ticks * packet.time_base
            step_s = time_s - self._previous_s.get(index, time_s)
            self._previous_s[index] = time_s
            if not -MIN_CLOCK_RESTART_S < step_s < self._max_step_s:
                segment = segment + 1 if index == self._reference else max(segment + 1, newest)
                self._segments[index] = segment
            if index == self._reference:
                start_s = (packet.pts if packet.pts is not None else ticks) * packet.time_base
                if segment > newest:
                    self._offsets_s.append(self._end_s - start_s)
                    self._on_restart(float(self._end_s))
                    yield from self._release()
                end_s = start_s + ((packet.duration or 0) * packet.time_base or abs(step_s))
                self._end_s = max(self._end_s, end_s + self._offsets_s[segment])
        if segment < len(self._offsets_s):
            yield _move_packet(packet, self._offsets_s[segment])
        else:
            self._held.append((packet, segment))

    def flush(self) -> Iterator[Packet]:
        """Yield the packets that still wait for a restart of the reference."""
        self._offsets_s.append(self._offsets_s[-1])
        yield from self._release()

    def _release(self) -> Iterator[Packet]:
        held, self._held = self._held, []
        for packet, segment in held:
            newest = len(self._offsets_s) - 1
            yield _move_packet(packet, self._offsets_s[min(segment, newest)])


class _EditedClock:
    """Corrects the presentation times of a video stream after each edit of an MP4 edit list.

    At an edit, ffmpeg repeats the frames from the last key frame on, marked as discarded, and
    places the first displayed frame in decoding order at the start of the edit. The frame that
    is displayed first may follow it, so all times of the edit would be late.
    """

    def __init__(self, stream: MediaStream) -> None:
        self._index = stream.index
        self._delay: int | None = None
        self._offset = 0
        self._previous = -(2**63)
        self._held: list[Packet] = []
        self._is_new_edit = True

    def add(self, packet: Packet) -> Iterator[Packet]:
        """Yield packets with corrected times; the first ones of an edit are held back."""
        if packet.stream.index != self._index or packet.dts is None or packet.pts is None:
            if not packet.size:
                yield from self.flush()
            yield packet
            return
        if packet.dts < self._previous:
            yield from self.flush()
            self._is_new_edit = True
        self._previous = packet.dts
        if self._held or (self._is_new_edit and not packet.is_discard):
            self._held.append(packet)
            if len(self._held) == MAX_REORDERED_FRAMES:
                yield from self.flush()
        else:
            yield self._correct(packet)

    def flush(self) -> Iterator[Packet]:
        """Yield the packets held back, which show where their edit starts."""
        if not self._held:
            return
        held, self._held, self._is_new_edit = self._held, [], False
        first = min(packet.pts or 0 for packet in held if not packet.is_discard)
        delay = first - (held[0].dts or 0)
        self._delay = delay if self._delay is None else self._delay
        self._offset = self._delay - delay
        yield from (self._correct(packet) for packet in held)

    def _correct(self, packet: Packet) -> Packet:
        if self._offset and packet.pts is not None:
            packet.pts += self._offset
        return packet


def _move_packet(packet: Packet, offset_s: Fraction) -> Packet:
    if offset_s and packet.time_base is not None:
        ticks = round(offset_s / packet.time_base)
        tick_s = float(packet.time_base)
        if packet.pts is not None:
            packet.pts = _drop_invalid_ticks(packet.pts + ticks, tick_s)
        if packet.dts is not None:
            packet.dts = _drop_invalid_ticks(packet.dts + ticks, tick_s)
    return packet


class PacketTimes:
    """Presentation times of the packets of a video stream, in ticks of the stream.

    Args:
        container: container of the stream.
        stream: video stream.
        packets: its first packets.
    """

    def __init__(
        self, container: InputContainer, stream: av.VideoStream, packets: Sequence[Packet]
    ) -> None:
        """Decide from the first packets whether the presentation times are valid."""
        context, times = stream.codec_context, [packet.pts for packet in packets]
        known = [time for time in times if time is not None]
        is_avi = container.format.name == "avi"
        self._use_decoding_times = is_avi or len(known) < len(times)
        self.are_valid = not self._use_decoding_times and (
            not context.has_b_frames or known != sorted(known)
        )
        """Whether each packet has the time of its own frame, not that of another."""
        if is_avi and not context.has_b_frames and len(known) == len(times):
            self.are_valid, self._use_decoding_times = True, False
        self._offset = 0
        if packets and None not in (packets[0].pts, packets[0].dts) and not is_avi:
            self._offset = (packets[0].pts or 0) - (packets[0].dts or 0)
        self._interval = _nominal_interval_ticks(stream)
        self._previous: int | None = None

    def ticks(self, packet: Packet) -> int:
        """Return the presentation time of the next packet, in ticks.

        Unless the times are valid, it may be that of another packet: only all times together
        are those of the displayed frames.
        """
        step = packet.duration or self._interval
        time = packet.pts
        if self._use_decoding_times:
            time = None if packet.dts is None else packet.dts + self._offset
        elif time is None:
            time = packet.dts
        if time is None:
            time = 0 if self._previous is None else self._previous + step
        self._previous = time
        return time


def _nominal_interval_ticks(stream: av.VideoStream) -> int:
    rate = stream.average_rate or stream.guessed_rate or 25
    return max(1, round(1 / (rate * (stream.time_base or Fraction(1, 90_000)))))


def time_video_packets(
    container: InputContainer, packets: Iterator[Packet], stream: av.VideoStream
) -> tuple[PacketTimes, Iterator[Packet]]:
    """Return the times of the packets of a stream, and all packets."""
    head: list[Packet] = []
    examined: list[Packet] = []
    for packet in packets:
        head.append(packet)
        if packet.stream.index == stream.index and packet.size and not packet.is_discard:
            examined.append(packet)
        if len(examined) == N_EXAMINED_PACKETS:
            break
    return PacketTimes(container, stream, examined), chain(head, packets)


def decode_video(
    container: InputContainer,
    stream: av.VideoStream,
    *,
    on_damage: Callable[[], object] = lambda: None,
    max_read_errors: int = 1,
) -> Iterator[tuple[int, av.VideoFrame]]:
    """Decode a video stream; damaged packets are skipped.

    Args:
        container: container of the stream.
        stream: video stream. With ``copy_opaque`` set in its codec context, ``opaque`` of each
            frame is the position of its packet in the stream.
        on_damage: called for each packet that cannot be read or decoded.
        max_read_errors: as for `read_packets`.

    Yields:
        Presentation time in ticks of the stream, and frame, in presentation order.
    """
    packets = read_packets(
        container, [stream], stream, on_damage=on_damage, max_read_errors=max_read_errors
    )
    times, packets = time_video_packets(container, packets, stream)
    interval = _nominal_interval_ticks(stream)
    pending: list[int] = []
    previous: int | None = None
    for position, packet in enumerate(packets):
        if packet.size and stream.codec_context.copy_opaque:
            packet.opaque = position
        ticks: int | None = None
        if packet.size and not packet.is_discard and not times.are_valid:
            ticks = times.ticks(packet)
            heapq.heappush(pending, ticks)
        try:
            frames = packet.decode()
        except av.FFmpegError:
            on_damage()
            if ticks in pending:
                pending.remove(ticks)
                heapq.heapify(pending)
            continue
        for frame in frames:
            time = heapq.heappop(pending) if pending else frame.pts
            if time is None:
                time = 0 if previous is None else previous + interval
            previous = time
            yield time, frame
        while len(pending) > MAX_PENDING_FRAMES:
            heapq.heappop(pending)
