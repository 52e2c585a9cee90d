"""Containers of results: their muxers and encoders, and which of them holds a video stream."""

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import av

from loris_cli.errors import InputError
from loris_cli.system.input_paths import check_suffix

from . import containers
from .containers import get_codec_name
from .ffmpeg import MKV_HINT, input_args, run_ffmpeg
from .retiming import has_hidden_frames


@dataclass(frozen=True)
class ContainerFormat:
    """Muxer, audio encoder and supported streams of a container.

    Args:
        muxer: ffmpeg's name of the muxer.
        audio_args: arguments of the audio encoder.
        text_subtitle_codec: codec that text subtitles are converted to; ``None`` if the
            container does not support them.
        copied_subtitle_codecs: subtitle codecs that are copied.
        supports_cover: whether the container supports cover art.
    """

    muxer: str
    audio_args: tuple[str, ...]
    text_subtitle_codec: str | None = None
    copied_subtitle_codecs: tuple[str, ...] = ()
    supports_cover: bool = False


AAC = ("-c:a", "aac", "-b:a", "128k")
VORBIS = ("-c:a", "libvorbis", "-q:a", "5")
MATROSKA_SUBTITLES = ("subrip", "ass", "ssa", "webvtt", "hdmv_pgs_subtitle", "dvd_subtitle")
MP4 = ContainerFormat("mp4", AAC, "mov_text", ("mov_text", "dvd_subtitle"), supports_cover=True)
CONTAINER_FORMATS = {
    ".mp4": MP4,
    ".m4v": MP4,
    ".mov": ContainerFormat("mov", AAC, "mov_text", ("mov_text",)),
    ".mkv": ContainerFormat("matroska", AAC, "subrip", MATROSKA_SUBTITLES),
    ".webm": ContainerFormat("webm", VORBIS, "webvtt", ("webvtt",)),
    ".wav": ContainerFormat("wav", ("-c:a", "pcm_s16le")),
    ".flac": ContainerFormat("flac", ("-c:a", "flac", "-sample_fmt", "s16")),
}
DEFAULT_SUFFIX = ".mp4"
AUDIO_ONLY_SUFFIXES = {".wav", ".flac"}
EDIT_LIST_MUXERS = {"mp4", "mov"}
WEBM_VIDEO_CODECS = {"vp8", "vp9", "av1"}


def get_container_format(output: Path) -> ContainerFormat:
    """Return the container of an output file.

    Raises:
        UsageError: the suffix is not that of a supported container.
    """
    check_suffix(output, CONTAINER_FORMATS)
    return CONTAINER_FORMATS[output.suffix.lower()]


def check_container(video: Path, output: Path) -> None:
    """Check, before any long work, that the output container supports the video codec.

    ffmpeg muxes the first frame, because only ffmpeg knows which codecs its muxers support.

    Raises:
        UsageError: the suffix is not that of a supported container.
        InputError: the container does not support the video codec.
    """
    muxer, suffix = get_container_format(output).muxer, output.suffix.lower()
    if suffix in AUDIO_ONLY_SUFFIXES:
        return
    with containers.open_container(video) as container:
        stream = containers.require_video_stream(container, video)
        check_webm_codec(stream, suffix)
        copy_args = ["-map", f"0:{stream.index}", "-c", "copy", "-frames:v", "1"]
    check_hidden_frames(video, output)
    run_ffmpeg([*input_args(video), *copy_args, "-f", muxer, os.devnull])


def check_hidden_frames(video: Path, output: Path) -> None:
    """Check that the output container can hide the frames that the input hides.

    Raises:
        InputError: only MP4 and QuickTime have edit lists.
    """
    if get_container_format(output).muxer not in EDIT_LIST_MUXERS and has_hidden_frames(video):
        suffix = output.suffix.lower()
        message = f"{suffix} cannot hide the frames that {video} cuts off with an edit list"
        raise InputError(message, hint="use an output name that ends in .mp4 or .mov")


def check_webm_codec(video_stream: av.VideoStream, suffix: str) -> None:
    """Check the codec of a WebM file, whose muxer accepts others.

    Raises:
        InputError: WebM does not support the video codec.
    """
    if suffix == ".webm" and get_codec_name(video_stream) not in WEBM_VIDEO_CODECS:
        raise InputError(
            f"WebM does not support {get_codec_name(video_stream)} video", hint=MKV_HINT
        )


def select_output_suffix(video: Path) -> tuple[str, str]:
    """Choose the container of a result whose name is not given.

    Returns:
        Suffix: MP4 if it supports the video codec, else the container of the video, else
        Matroska. Codec that MP4 does not support, or an empty string.
    """
    try:
        with containers.open_container(video) as container:
            stream = containers.find_video_stream(container)
            codec = get_codec_name(stream) if stream and stream.codec_context else ""
    except InputError:  # reported when the video is processed
        return DEFAULT_SUFFIX, ""
    if not codec or codec in _supported_codecs(MP4.muxer):
        return DEFAULT_SUFFIX, ""
    source = CONTAINER_FORMATS.get(video.suffix.lower(), MP4)
    keeps_container = codec in _supported_codecs(source.muxer)
    return video.suffix.lower() if keeps_container else ".mkv", codec


@cache
def _supported_codecs(muxer: str) -> frozenset[str]:
    with av.open(os.devnull, "w", format=muxer) as container:
        return frozenset(container.supported_codecs)
