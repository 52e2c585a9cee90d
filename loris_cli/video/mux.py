"""Mux a video with a new audio track; the video packets are copied without re-encoding.

video (copied, with repaired times if necessary) + audio (encoded) -> container by suffix
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import av
from av.container import InputContainer

from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.system.atomic_files import output_errors, temporary_folder

from . import containers
from .containers import WarningCallback, get_codec_name
from .ffmpeg import input_args, output_url, run_ffmpeg
from .mp4_boxes import SourceBoxes, read_source_boxes, write_source_boxes
from .output_formats import (
    AUDIO_ONLY_SUFFIXES,
    EDIT_LIST_MUXERS,
    ContainerFormat,
    check_hidden_frames,
    check_webm_codec,
    get_container_format,
)
from .retiming import has_irregular_times, write_retimed_copy

DOLBY_VISION_TAGS = {"dvh1", "dvhe"}
"""Tags of HEVC that cannot be displayed without its Dolby Vision records (profile 5)."""
TEXT_SUBTITLE_CODECS = {"subrip", "ass", "ssa", "webvtt", "mov_text", "text"}


def mux_audio(
    video: Path,
    audio: Path,
    output: Path,
    *,
    tags: Mapping[str, str],
    on_warning: WarningCallback | None = None,
) -> None:
    """Write a video with a new audio track, or the audio alone to ``.wav`` or ``.flac``.

    Frames, timestamps, rotation, cover art, subtitles, chapters and tags of the video are
    preserved as far as the container supports them. The video keeps its length, whatever the
    length of the audio. The same inputs produce the same bytes.

    Args:
        video: input video.
        audio: WAV or FLAC, mono or stereo, sample 0 at the first displayed frame.
        output: output file; the write is not atomic, so use it inside ``atomic_write``. A
            temporary folder is created next to it.
        tags: metadata tags; every container keeps ``comment``, some keep no other tag.
        on_warning: called with a message for subtitles that the container does not support.

    Raises:
        UsageError: the suffix is not that of a supported container.
        InputError: the container does not support the video codec.
        OutputError: no disk space.
    """
    suffix = output.suffix.lower()
    container_format = get_container_format(output)
    muxer = container_format.muxer
    if suffix in AUDIO_ONLY_SUFFIXES:
        _run_muxer(input_args(audio), ["-map_metadata", "-1"], output, tags)
        return
    check_hidden_frames(video, output)
    boxes = _read_boxes(video)
    with temporary_folder(output.parent) as work:
        source = video
        is_edited = bool(boxes.edits) and muxer in EDIT_LIST_MUXERS
        if not is_edited and (boxes.edits or has_irregular_times(video)):
            source, boxes = work / "retimed", replace(boxes, edits=())
            write_retimed_copy(video, source)
        # Keep the timestamps of the file, minus that of the first displayed frame.
        start_s = float(containers.find_start_time_s(source))
        time_args = ["-copyts", "-itsoffset", f"{-start_s:.6f}"]
        if boxes.edits:  # ffmpeg would copy the frames of each edit again
            time_args = ["-ignore_editlist", "1"]
        inputs = [*time_args, *input_args(source), *input_args(audio)]
        inputs += input_args(video) if source != video else []  # for its tags
        with containers.open_container(source) as container:
            stream = containers.require_video_stream(container, source)
            check_webm_codec(stream, suffix)
            copy_args = _video_copy_args(container, stream, container_format, on_warning)
        if boxes.edits:
            copy_args += ["-movie_timescale", str(boxes.movie_hz)]
        copy_args += ["-map_metadata", "0" if source == video else "2"]
        if source != video:
            _warn_of_subtitles(video, on_warning)
        _run_muxer(inputs, copy_args, output, _read_replaced_tags(video) | dict(tags))
        if muxer in EDIT_LIST_MUXERS:
            with output_errors(output):
                write_source_boxes(output, boxes, work)


def _read_boxes(video: Path) -> SourceBoxes:
    """Return the boxes of an MP4 that ffmpeg does not copy; none for other containers."""
    with containers.open_container(video) as container:
        stream = containers.require_video_stream(container, video)
        boxes = None
        if container.format.name.startswith("mov"):
            boxes = read_source_boxes(video, stream.id)
    if boxes is None:
        return SourceBoxes()
    return boxes if len(boxes.edits) > 1 else replace(boxes, edits=())


def _warn_of_subtitles(video: Path, on_warning: WarningCallback | None) -> None:
    with containers.open_container(video) as container:
        if container.streams.subtitles and on_warning is not None:
            on_warning(f"subtitles of {video.name} have irregular times: skipped")


def _run_muxer(
    inputs: list[str], copy_args: list[str], output: Path, tags: Mapping[str, str]
) -> None:
    """Run ffmpeg with the audio encoder and the muxer of a container."""
    container_format = get_container_format(output)
    run_ffmpeg(
        [
            *(*inputs, *copy_args, *container_format.audio_args, "-ar", str(SAMPLE_RATE_HZ)),
            *(arg for key, tag in tags.items() for arg in ("-metadata", f"{key}={tag}")),
            *("-fflags", "+bitexact", "-flags:a", "+bitexact", "-dn"),
            *("-f", container_format.muxer, output_url(output)),
        ]
    )


def _read_replaced_tags(video: Path) -> dict[str, str]:
    """Return the tags of the output that must not be equal to those of the input."""
    with containers.open_container(video) as container:
        created = container.metadata.get("creation_time", "")
    # The brand tags describe the input container. ffmpeg joins the dates of several boxes.
    brand = ("major_brand", "minor_version", "compatible_brands")
    return dict.fromkeys(brand, "") | {"creation_time": created.split(";")[0]}


def _video_copy_args(
    container: InputContainer,
    stream: av.VideoStream,
    container_format: ContainerFormat,
    on_warning: WarningCallback | None,
) -> list[str]:
    """Return arguments for the video stream, the new audio, cover art and subtitles."""
    muxer, text_codec = container_format.muxer, container_format.text_subtitle_codec
    args = ["-map", f"0:{stream.index}", "-map", "1:a:0", "-c:v", "copy", "-copyinkf:v"]
    args += ["-strict", "unofficial"]  # records of 3-D, 360-degree and Dolby Vision video
    if muxer in EDIT_LIST_MUXERS:
        args += ["-movflags", "+faststart"]
        if (
            get_codec_name(stream) == "hevc"
            and stream.codec_context.codec_tag not in DOLBY_VISION_TAGS
        ):
            args += ["-tag:v:0", "hvc1"]  # the only HEVC tag that QuickTime plays
    covers = [s for s in container.streams.video if containers.is_cover_art(s)]
    for n, cover in enumerate(covers if container_format.supports_cover else [], start=1):
        args += ["-map", f"0:{cover.index}", f"-disposition:v:{n}", "attached_pic"]
    n_subtitles = 0
    for subtitle in container.streams.subtitles:
        codec = get_codec_name(subtitle)
        if codec in container_format.copied_subtitle_codecs:
            target_codec = "copy"
        elif codec in TEXT_SUBTITLE_CODECS and text_codec is not None:
            target_codec = text_codec
        else:
            if on_warning is not None:
                on_warning(f"{muxer} does not support {codec} subtitles: skipped")
            continue
        args += ["-map", f"0:{subtitle.index}", f"-c:s:{n_subtitles}", target_codec]
        n_subtitles += 1
    return args
