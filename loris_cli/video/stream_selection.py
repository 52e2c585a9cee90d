"""Selection of the video stream and the audio stream of a file, the only place of this choice.

streams -> without attached pictures -> default flag, size, number of frames -> one stream
"""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import av
from av.container import InputContainer
from av.stream import Disposition

from loris_cli.errors import InputError, escape_unprintable

from .container_opening import OPEN_OPTIONS

WarningCallback = Callable[[str], None]

MAX_COUNTED_PACKETS = 20_000
"""Packets that are counted if the header has no number of frames, some minutes of video."""
SECONDARY_AUDIO = Disposition.comment | Disposition.visual_impaired | Disposition.descriptions


def is_cover_art(stream: av.VideoStream) -> bool:
    """Return whether a video stream is cover art."""
    return bool(stream.disposition & (Disposition.attached_pic | Disposition.timed_thumbnails))


def find_video_stream(
    container: InputContainer, *, on_warning: WarningCallback | None = None
) -> av.VideoStream | None:
    """Return the video stream to read, or ``None``.

    Attached pictures and streams of one picture are never chosen. Among the others, the default
    flag decides, then the frame size, then the number of frames, then the order.

    Args:
        container: opened file; its read position does not change.
        on_warning: called with the choice if there are several candidates.
    """
    streams = [stream for stream in container.streams.video if not is_cover_art(stream)]
    decodable = [stream for stream in streams if stream.codec_context is not None]
    if not decodable:
        return streams[0] if streams else None
    if len(decodable) > 1:
        counts = _count_frames(container, decodable)
        decodable = [stream for stream in decodable if counts[stream.index] > 1] or decodable
        decodable.sort(key=lambda stream: _video_rank(stream, counts))
        if len(decodable) > 1 and on_warning is not None:
            stream = decodable[0]
            context = stream.codec_context
            details = [context.codec.canonical_name, f"{context.width} x {context.height} px"]
            name = _file_name(container)
            on_warning(
                f"{name} has {len(decodable)} video streams: using stream {stream.index}"
                f" ({_join_details(stream, details)})"
            )
    return decodable[0]


def find_audio_stream(
    container: InputContainer,
    *,
    track: int | None = None,
    on_warning: WarningCallback | None = None,
) -> av.AudioStream | None:
    """Return the audio stream to read, or ``None`` if no stream can be decoded.

    The default flag decides, then the number of channels, then the number of frames, then the
    order. Commentary and audio descriptions are chosen last.

    Args:
        container: opened file; its read position does not change.
        track: number of the audio track, counted from 1 in the order of the file; None applies
            the rule above.
        on_warning: called with the choice if there are several candidates and no ``track``.

    Raises:
        InputError: the file has no such track, or it cannot be decoded.
    """
    streams = list(container.streams.audio)
    if track is not None:
        if not 1 <= track <= len(streams) or streams[track - 1].codec_context is None:
            exists = 1 <= track <= len(streams)
            problem = "cannot be decoded" if exists else f"does not exist, of {len(streams)}"
            raise InputError(
                f"audio track {track} of {_file_name(container)} {problem}",
                hint="select another with --audio-track, counted from 1",
            )
        return streams[track - 1]
    decodable = [stream for stream in streams if stream.codec_context is not None]
    if len(decodable) < 2:
        return decodable[0] if decodable else None
    counts = _count_frames(container, decodable)
    best = min(decodable, key=lambda stream: _audio_rank(stream, counts))
    if on_warning is not None:
        language = best.language if best.language not in {None, "und"} else None
        channels = f"{best.channels} channel{'s' * (best.channels != 1)}"
        details = [best.codec_context.codec.canonical_name, channels, language]
        on_warning(
            f"{_file_name(container)} has {len(streams)} audio tracks: using track"
            f" {streams.index(best) + 1} ({_join_details(best, details)});"
            " --audio-track selects another"
        )
    return best


def _video_rank(stream: av.VideoStream, counts: Counter[int]) -> tuple[bool, int, int, int]:
    context = stream.codec_context
    is_default = bool(stream.disposition & Disposition.default)
    return not is_default, -context.width * context.height, -counts[stream.index], stream.index


def _audio_rank(stream: av.AudioStream, counts: Counter[int]) -> tuple[int, ...]:
    n_frames = counts[stream.index]
    is_secondary = bool(stream.disposition & SECONDARY_AUDIO)
    is_default = bool(stream.disposition & Disposition.default)
    groups = (n_frames == 0, is_secondary, not is_default)
    return *groups, -stream.channels, -n_frames, stream.index


def _count_frames(
    container: InputContainer, streams: Sequence[av.VideoStream | av.AudioStream]
) -> Counter[int]:
    """Return the number of frames of each stream by index, from the header or the packets."""
    if all(stream.frames for stream in streams):
        return Counter({stream.index: stream.frames for stream in streams})
    counts: Counter[int] = Counter()
    with av.open(container.name, options=OPEN_OPTIONS, metadata_errors="replace") as copy:
        try:
            for n, packet in enumerate(copy.demux([copy.streams[s.index] for s in streams])):
                counts[packet.stream.index] += packet.size > 0
                if n >= MAX_COUNTED_PACKETS:
                    break
        except av.FFmpegError:  # the file is truncated: what was counted decides
            pass
    return counts


def _file_name(container: InputContainer) -> str:
    return escape_unprintable(Path(container.name.removeprefix("file:")).name)


def _join_details(
    stream: av.VideoStream | av.AudioStream, details: Sequence[str | None]
) -> str:
    flags = ["default"] if stream.disposition & Disposition.default else []
    return ", ".join(part for part in [*details, *flags] if part)
