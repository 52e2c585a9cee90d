"""Open media files so that no file can make ffmpeg open another file or a URL.

ffmpeg detects a playlist by its content, even if it is named ``dance.mp4``, and would open the
files and URLs in it. Every function that opens a file in this package therefore allows only
demuxers that read a single file, and only the ``file`` protocol.
"""

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
from av.container import InputContainer

from loris_cli.errors import InputError, escape_unprintable

ALLOWED_DEMUXERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,asf,ogg,mxf,mxf_opatom,"
    "nut,dv,gxf,rm,wtv,gif,apng,h264,hevc,m4v,mpegvideo,vc1,ivf,obu,av1,yuv4mpegpipe,"
    "wav,w64,flac,mp3,aac,ac3,aiff,caf"
)
OPEN_WHITELISTS = {"format_whitelist": ALLOWED_DEMUXERS, "protocol_whitelist": "file"}
MAX_PIXELS = 8192 * 8192
# Presentation times that ffmpeg generates are wrong with two or more B-frames in a row.
OPEN_OPTIONS = OPEN_WHITELISTS | {"fflags": "-genpts", "max_pixels": str(MAX_PIXELS)}

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
        container = av.open(f"file:{path}", options=OPEN_OPTIONS, metadata_errors="replace")
    except av.FFmpegError as error:
        raise _explain_open_error(path, error) from error
    with container:
        yield container


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
    if head[8:12] == b"WEBP" and b"ANIM" in head[:64]:
        hint = "convert it to GIF, PNG or MP4: ffmpeg cannot read animated WebP"
        return InputError(f"{path} is an animated WebP image", hint=hint)
    if text.startswith(IMAGE_SIGNATURES) or head[8:12] == b"WEBP":
        return InputError(f"{path} is an image, not a video", hint="specify a video file")
    if head[4:8] in {b"ftyp", b"mdat", b"wide", b"free", b"skip"}:
        hint = "copy or download it again; the program untrunc can repair some recordings"
        return InputError(f"{path} has no index (moov atom): the file is truncated", hint=hint)
    reason = error.strerror or "unknown format"
    return InputError(
        f"{path} is not a readable video ({reason})", hint=format_convert_hint(path)
    )
