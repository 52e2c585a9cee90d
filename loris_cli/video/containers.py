"""Streams of a media file: requirements on the video, and the time of its first frame."""

from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer
from av.subtitles.stream import SubtitleStream

from loris_cli.errors import InputError, escape_unprintable

from .container_opening import MAX_PIXELS
from .container_opening import OPEN_WHITELISTS as OPEN_WHITELISTS
from .container_opening import format_convert_hint as format_convert_hint
from .container_opening import open_container as open_container
from .stream_selection import WarningCallback as WarningCallback
from .stream_selection import find_audio_stream as find_audio_stream
from .stream_selection import find_video_stream as find_video_stream
from .stream_selection import is_cover_art as is_cover_art
from .timestamps import decode_video

MAX_SIDE_PX = 16_384
MAX_SAMPLE_ASPECT_RATIO = 8  # a larger ratio is a broken header, not an anamorphic lens


def require_video_stream(
    container: InputContainer, path: Path, *, on_warning: WarningCallback | None = None
) -> av.VideoStream:
    """Return the video stream of a file; see `find_video_stream` for the choice.

    Raises:
        InputError: there is no video stream, its codec is not supported, or its frames are
            too large.
    """
    stream = find_video_stream(container, on_warning=on_warning)
    if stream is None:
        raise InputError(f"{path} has no video stream", hint="specify a video file")
    # PyAV provides no codec context if its ffmpeg has no decoder for the codec.
    if stream.codec_context is None:
        raise InputError(
            f"{path} has an unsupported video codec", hint=format_convert_hint(path)
        )
    check_frame_size(stream.codec_context.width, stream.codec_context.height, path)
    stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
    return stream


def get_codec_name(stream: av.VideoStream | SubtitleStream) -> str:
    """Return ffmpeg's name of the codec rather than the decoder: ``av1``, not ``libdav1d``."""
    context = stream.codec_context
    return context.codec.canonical_name if context is not None else "unknown"


def check_frame_size(width: int, height: int, path: Path) -> None:
    """Check that frames are not so large that decoding one would take gigabytes.

    Raises:
        InputError: the frames are empty or too large.
    """
    if width * height == 0:  # ffmpeg reports this size for frames that it cannot decode
        raise InputError(f"{path} has an invalid frame size", hint=format_convert_hint(path))
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE_PX:
        command = f'ffmpeg -i "{escape_unprintable(path)}" -vf scale=1280:-2 dance.mp4'
        message = f"the frames of {path} are too large: {width} x {height} px"
        raise InputError(message, hint=f"scale it down: {command}")


def decode_first_frame(
    container: InputContainer, stream: av.VideoStream
) -> tuple[int, av.VideoFrame] | None:
    """Return the first displayed frame, which defines second 0, and its time in ticks.

    The stream must be decoded to find it: frames before the first key frame cannot be
    displayed, and frames before the start of an edit list are not displayed.
    """
    return next(decode_video(container, stream), None)


def find_start_time_s(path: Path, *, audio_track: int | None = None) -> Fraction:
    """Return the container time of the first displayed frame, or of the audio without video.

    Returns:
        seconds, to be subtracted from every time in the file.
    """
    with open_container(path) as container:
        stream = find_video_stream(container)
        if stream is not None and stream.codec_context is not None:
            first = decode_first_frame(container, require_video_stream(container, path))
            if first is not None:
                assert stream.time_base is not None
                return first[0] * stream.time_base
    with open_container(path) as container:
        audio = find_audio_stream(container, track=audio_track)
        if audio is not None and audio.start_time is not None and audio.time_base is not None:
            return audio.start_time * audio.time_base
    return Fraction(0)
