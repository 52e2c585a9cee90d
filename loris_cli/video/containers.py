"""Open and decode media files so that no file can make ffmpeg open another file or a URL.

ffmpeg detects a playlist by its content, even if it is named ``dance.mp4``, and would open the
files and URLs in it. Every function that opens a file in this package therefore allows only
demuxers that read a single file, and only the ``file`` protocol.
"""

import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer
from av.subtitles.stream import SubtitleStream

from loris_cli.errors import InputError, escape_unprintable

ALLOWED_DEMUXERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,asf,ogg,mxf,"
    "wav,w64,flac,mp3,aac,ac3,aiff,caf"
)
OPEN_WHITELISTS = {"format_whitelist": ALLOWED_DEMUXERS, "protocol_whitelist": "file"}

WarningCallback = Callable[[str], None]

MAX_PIXELS = 8192 * 8192
MAX_SIDE_PX = 16_384
MAX_SAMPLE_ASPECT_RATIO = 8  # a larger ratio is a broken header, not an anamorphic lens

PLAYLIST_SIGNATURES = (
    b"#EXTM3U", b"ffconcat", b"v=0", b"[playlist]", b"<?xml", b"<MPD", b"<smil"
)  # fmt: skip
IMAGE_SIGNATURES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\0", b"MM\0*")


def format_convert_hint(path: Path) -> str:
    """Return a hint with the ffmpeg command that converts a file."""
    return f'convert it: ffmpeg -i "{escape_unprintable(path)}" dance.mp4'


@contextmanager
def open_container(path: Path) -> Iterator[InputContainer]:
    """Open a container for reading packets.

    Raises:
        InputError: the path is not a regular file, not a media file, or a playlist.
    """
    _check_regular_file(path)
    try:
        options = OPEN_WHITELISTS | {"fflags": "+genpts", "max_pixels": str(MAX_PIXELS)}
        container = av.open(f"file:{path}", options=options, metadata_errors="replace")
    except av.FFmpegError as error:
        raise _explain_open_error(path, error) from error
    with container:
        yield container


def require_video_stream(container: InputContainer, path: Path) -> av.VideoStream:
    """Return the first video stream of a file, not counting cover art.

    Raises:
        InputError: there is no video stream, its codec is not supported, or its frames are
            too large.
    """
    stream = find_video_stream(container)
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


def find_video_stream(container: InputContainer) -> av.VideoStream | None:
    """Return the first video stream, not counting cover art, or ``None``."""
    return next((s for s in container.streams.video if not is_cover_art(s)), None)


def find_audio_stream(container: InputContainer) -> av.AudioStream | None:
    """Return the first audio stream that can be decoded, or ``None``."""
    return next((s for s in container.streams.audio if s.codec_context is not None), None)


def is_cover_art(stream: av.VideoStream) -> bool:
    """Return whether a video stream is cover art."""
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


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


def decode_stream(
    container: InputContainer,
    stream: av.VideoStream | av.AudioStream,
    *,
    on_damage: Callable[[], object] = lambda: None,
    max_read_errors: int = 1,
) -> Iterator[Any]:
    """Decode a stream; damaged packets are skipped.

    Args:
        container: container of the stream.
        stream: video or audio stream.
        on_damage: called for each packet that cannot be read or decoded.
        max_read_errors: number of consecutive read errors after which decoding stops, as at
            the end of a truncated file.

    Yields:
        Frames, ``av.VideoFrame`` or ``av.AudioFrame``, in the decoder's order.
    """
    n_errors = 0
    while n_errors < max_read_errors:
        try:
            for packet in container.demux(stream):
                n_errors = 0
                try:
                    frames = packet.decode()
                except av.FFmpegError:
                    on_damage()
                    continue
                yield from frames
        except av.FFmpegError:
            n_errors += 1
            on_damage()
        else:
            return


def decode_first_frame(
    container: InputContainer, stream: av.VideoStream
) -> av.VideoFrame | None:
    """Return the first displayed frame, which defines second 0.

    The stream must be decoded to find it: frames before the first key frame cannot be
    displayed, and frames before the start of an edit list are not displayed.
    """
    frames = decode_stream(container, stream)
    return next((frame for frame in frames if get_presentation_ticks(frame) is not None), None)


def get_presentation_ticks(item: "av.VideoFrame | av.Packet[Any]") -> int | None:
    """Return the presentation time in ticks, or the decoding time if there is none."""
    return item.pts if item.pts is not None else item.dts


def find_start_time_s(path: Path) -> Fraction:
    """Return the container time of the first displayed frame, or of the audio without video.

    Returns:
        seconds, to be subtracted from every time in the file.
    """
    with open_container(path) as container:
        stream = find_video_stream(container)
        if stream is not None and stream.codec_context is not None:
            frame = decode_first_frame(container, require_video_stream(container, path))
            ticks = None if frame is None else get_presentation_ticks(frame)
            if ticks is not None:
                assert stream.time_base is not None
                return ticks * stream.time_base
    with open_container(path) as container:
        for audio in container.streams.audio:
            if audio.start_time is not None and audio.time_base is not None:
                return audio.start_time * audio.time_base
    return Fraction(0)


def _check_regular_file(path: Path) -> None:
    try:
        mode = path.stat()
    except OSError as error:
        raise InputError(f"{path} does not exist", hint="check the path") from error
    if stat.S_ISDIR(mode.st_mode):
        raise InputError(f"{path} is a folder, not a video", hint="specify a file in it")
    if not stat.S_ISREG(mode.st_mode):
        raise InputError(f"{path} is not a regular file", hint="save the video to a file first")
    if mode.st_size == 0:
        raise InputError(f"{path} is empty", hint="download or copy it again")


def _explain_open_error(path: Path, error: av.FFmpegError) -> InputError:
    """Return the error for a file that cannot be opened, based on its first bytes."""
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError as cause:
        return InputError(f"cannot read {path}: {cause.strerror}", hint="check its permissions")
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if text.startswith(PLAYLIST_SIGNATURES):
        return InputError(f"{path} is a playlist, not a video", hint="specify one of its files")
    if text.startswith(IMAGE_SIGNATURES) or head[8:12] == b"WEBP":
        return InputError(f"{path} is an image, not a video", hint="specify a video file")
    if head[4:8] in {b"ftyp", b"mdat", b"wide", b"free", b"skip"}:
        hint = "copy or download it again; the program untrunc can repair some recordings"
        return InputError(f"{path} has no index (moov atom): the file is truncated", hint=hint)
    reason = error.strerror or "unknown format"
    return InputError(
        f"{path} is not a readable video ({reason})", hint=format_convert_hint(path)
    )
