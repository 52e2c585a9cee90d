"""Opening media files so that no file can make us open another.

A playlist named ``dance.mp4`` is recognised by what is in it, and would be followed: to other
files, to the network. So every opener in this package names the demuxers it allows, all of
which read one file only, and the ``file`` protocol alone.
"""

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.container
from av.subtitles.stream import SubtitleStream

from loris_cli.errors import InputError
from loris_cli.system.atomic_files import printable_path

ALLOWED_DEMUXERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,asf,ogg,mxf,"
    "wav,w64,flac,mp3,aac,ac3,aiff,caf"
)
OPEN_WHITELISTS = {"format_whitelist": ALLOWED_DEMUXERS, "protocol_whitelist": "file"}

MAX_PIXELS = 8192 * 8192
MAX_SIDE_PX = 16_384
MAX_SAMPLE_ASPECT_RATIO = 8  # a sample aspect ratio beyond this is a broken header, not a lens

CONVERT_HINT = 'convert it: ffmpeg -i "{}" dance.mp4'
PLAYLIST_SIGNATURES = (
    b"#EXTM3U",
    b"ffconcat",
    b"v=0",
    b"[playlist]",
    b"<?xml",
    b"<MPD",
    b"<smil",
)
IMAGE_SIGNATURES = (
    b"\x89PNG",
    b"\xff\xd8\xff",
    b"GIF8",
    b"BM",
    b"II*\0",
    b"MM\0*",
    b"RIFF....WEBP",
)


@contextmanager
def open_container(path: Path) -> Iterator[av.container.InputContainer]:
    """The container at ``path``, open for reading packets.

    Raises:
        InputError: it is no file, no media, or media that names other files.
    """
    _check_regular_file(path)
    try:
        container = av.open(
            f"file:{path}",
            options=OPEN_WHITELISTS | {"fflags": "+genpts", "max_pixels": str(MAX_PIXELS)},
            metadata_errors="replace",
        )
    except av.FFmpegError as error:
        raise _explain_open_error(path, error) from error
    with container:
        yield container


def require_video_stream(container: av.container.InputContainer, path: Path) -> av.VideoStream:
    """The first moving picture of a file; cover art is none.

    Raises:
        InputError: there is none, nothing here can decode it, or it is too large to.
    """
    stream = find_video_stream(container)
    if stream is None:
        raise InputError(
            f"{printable_path(path)} has no video in it",
            hint="give a file with moving pictures",
        )
    # PyAV has no codec context where no decoder of it is built in.
    if stream.codec_context is None:
        raise InputError(
            f"the video of {printable_path(path)} is in a codec that cannot be read here",
            hint=CONVERT_HINT.format(printable_path(path)),
        )
    check_frame_size(stream.codec_context.width, stream.codec_context.height, path)
    stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
    return stream


def find_video_stream(container: av.container.InputContainer) -> av.VideoStream | None:
    """As ``require_video_stream``, but ``None`` where there is no moving picture."""
    for stream in container.streams.video:
        if not stream.disposition & av.stream.Disposition.attached_pic:
            return stream
    return None


def codec_name(stream: av.VideoStream | SubtitleStream) -> str:
    """What ffmpeg calls the codec, not the decoder: ``av1`` rather than ``libdav1d``."""
    context = stream.codec_context
    return context.codec.canonical_name if context is not None else "unknown"


def check_frame_size(width: int, height: int, path: Path) -> None:
    """Refuse frames so large that decoding one would take gigabytes."""
    if width * height == 0:  # what ffmpeg makes of a size it would not decode either
        raise InputError(
            f"the frames of {printable_path(path)} have no size, or one too large to read",
            hint=CONVERT_HINT.format(printable_path(path)),
        )
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE_PX:
        raise InputError(
            f"the frames of {printable_path(path)} are {width} x {height} px, more than can be read",
            hint=f'make it smaller: ffmpeg -i "{printable_path(path)}" -vf scale=1280:-2 dance.mp4',
        )


def decode_first_frame(
    container: av.container.InputContainer, stream: av.VideoStream
) -> av.VideoFrame | None:
    """The first frame that is shown: second 0 of everything.

    Only decoding tells: frames before the first key frame cannot be shown, and frames before
    the start of an edit list may not be.
    """
    try:
        for packet in container.demux(stream):
            try:
                frames = packet.decode()
            except av.FFmpegError:  # a damaged packet: the next may be whole
                continue
            for frame in frames:
                assert isinstance(frame, av.VideoFrame)
                if presentation_ticks(frame) is not None:
                    return frame
    except av.FFmpegError:  # the file ends in the middle of a packet
        return None
    return None


def presentation_ticks(item: "av.VideoFrame | av.Packet[Any]") -> int | None:
    """Presentation time in units of the stream, from the decoding time where there is none."""
    return item.pts if item.pts is not None else item.dts


def find_start_time_s(path: Path) -> Fraction:
    """Container time of second 0: of the first shown frame, or of the sound if there is none.

    Returns:
        seconds; subtract it from every time in the file.
    """
    with open_container(path) as container:
        stream = find_video_stream(container)
        if stream is not None and stream.codec_context is not None:
            frame = decode_first_frame(container, require_video_stream(container, path))
            ticks = None if frame is None else presentation_ticks(frame)
            if ticks is not None:
                assert stream.time_base is not None
                return ticks * stream.time_base
    with open_container(path) as container:
        for sound in container.streams.audio:
            if sound.start_time is not None and sound.time_base is not None:
                return sound.start_time * sound.time_base
    return Fraction(0)


def _check_regular_file(path: Path) -> None:
    name = printable_path(path)
    try:
        mode = path.stat()
    except OSError as error:
        raise InputError(f"{name} does not exist", hint="check the path") from error
    if stat.S_ISDIR(mode.st_mode):
        raise InputError(f"{name} is a folder, not a video", hint="give a file in it")
    if not stat.S_ISREG(mode.st_mode):
        raise InputError(f"{name} is not a plain file", hint="save the video to a file first")
    if mode.st_size == 0:
        raise InputError(f"{name} is empty", hint="download or copy it again")


def _explain_open_error(path: Path, error: av.FFmpegError) -> InputError:
    """Why this file was not opened, from its first bytes."""
    name = printable_path(path)
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError as unreadable:
        return InputError(
            f"{name} cannot be read: {unreadable.strerror}", hint="check its permissions"
        )
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if text.startswith(PLAYLIST_SIGNATURES):
        return InputError(
            f"{name} is a playlist, not a video", hint="give one of the files it names"
        )
    if text.startswith(IMAGE_SIGNATURES) or head[8:12] == b"WEBP":
        return InputError(f"{name} is a picture, not a video", hint="give a moving one")
    if head[4:8] in {b"ftyp", b"mdat", b"wide", b"free", b"skip"}:
        return InputError(
            f"{name} has no index: its recording or download was cut off",
            hint="copy or download it again; the untrunc program can mend some recordings",
        )
    return InputError(
        f"{name} is not a video that can be read ({error.strerror or 'unknown format'})",
        hint=CONVERT_HINT.format(name),
    )
