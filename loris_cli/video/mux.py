"""Mux a video with a new audio track; the video packets are copied without re-encoding.

video (copied) + audio (encoded), optionally with the original audio -> container by suffix
"""

from collections.abc import Mapping
from pathlib import Path

import av
import soundfile
from av.container import InputContainer

from loris_cli.config import SAMPLE_RATE_HZ

from . import containers
from .containers import WarningCallback, get_codec_name
from .ffmpeg import input_args, output_url, run_ffmpeg, true_peak_limiter_filters
from .output_formats import (
    AUDIO_ONLY_SUFFIXES,
    ContainerFormat,
    check_webm_codec,
    get_container_format,
)

MIX_CEILING_DBTP = -1.0  # EBU R128: headroom for the overshoot of lossy encoders


TEXT_SUBTITLE_CODECS = {"subrip", "ass", "ssa", "webvtt", "mov_text", "text"}


def mux_audio(
    video: Path,
    audio: Path,
    output: Path,
    *,
    original_gain_db: float | None,
    audio_track: int | None = None,
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
        output: output file; the write is not atomic, so use it inside ``atomic_write``.
        original_gain_db: gain of the original audio in the mix; ``None`` omits it.
        audio_track: number of the original audio track in the mix, counted from 1; ``None``
            selects as `find_audio_stream`.
        tags: metadata tags; every container keeps ``comment``, some keep no other tag.
        on_warning: called with a message for subtitles that the container does not support,
            and if one of several audio tracks is selected.

    Raises:
        UsageError: the suffix is not that of a supported container.
        InputError: the container does not support the video codec.
        OutputError: no disk space.
    """
    suffix = output.suffix.lower()
    container_format = get_container_format(output)
    start_s = float(containers.find_start_time_s(video))
    with containers.open_container(video) as container:
        stream = containers.require_video_stream(container, video)
        check_webm_codec(stream, suffix)
        original = None
        if original_gain_db is not None:
            original = containers.find_audio_stream(
                container, track=audio_track, on_warning=on_warning
            )
        audio_args = _audio_map_args(original, audio, original_gain_db)
        video_args: list[str] = []
        if suffix not in AUDIO_ONLY_SUFFIXES:
            video_args = _video_copy_args(container, stream, container_format, on_warning)
            # The brand tags describe the input container, so they are removed.
            brand = ("major_brand", "minor_version", "compatible_brands")
            tags = dict.fromkeys(brand, "") | dict(tags)
    run_ffmpeg(
        [
            # Keep the timestamps of the file, minus that of the first displayed frame.
            *("-copyts", "-fflags", "+genpts", "-itsoffset", f"{-start_s:.6f}"),
            *input_args(video),
            *input_args(audio),
            *audio_args,
            *video_args,
            *(*container_format.audio_args, "-ar", str(SAMPLE_RATE_HZ)),
            *("-map_metadata", "0" if video_args else "-1"),
            *(arg for key, tag in tags.items() for arg in ("-metadata", f"{key}={tag}")),
            *("-fflags", "+bitexact", "-flags:a", "+bitexact", "-dn"),
            *("-f", container_format.muxer, output_url(output)),
        ]
    )


def _audio_map_args(
    original: av.AudioStream | None, audio: Path, gain_db: float | None
) -> list[str]:
    """Return arguments that select the new audio or mix it with the original audio."""
    if gain_db is None or original is None:
        return ["-map", "1:a:0"]
    n_channels, n_original = soundfile.info(audio).channels, original.channels
    stereo = max(n_channels, n_original) > 1
    layout = "stereo" if stereo else "mono"
    shape = f"aformat=sample_fmts=fltp:sample_rates={SAMPLE_RATE_HZ}:channel_layouts={layout}"
    limiter = ",".join(true_peak_limiter_filters(MIX_CEILING_DBTP, rate_hz=SAMPLE_RATE_HZ))
    filters = [
        # async with first_pts trims audio before second 0 and fills gaps with silence.
        f"[0:{original.index}]aresample={SAMPLE_RATE_HZ}:async=1:first_pts=0,"
        f"{_mono_to_stereo_filter(n_original, stereo)}{shape},"
        f"volume={gain_db:.6f}dB[original]",
        f"[1:a:0]{_mono_to_stereo_filter(n_channels, stereo)}{shape}[new]",
        f"[new][original]amix=inputs=2:duration=first:normalize=0,{limiter},{shape}[mix]",
    ]
    return ["-filter_complex", ";".join(filters), "-map", "[mix]"]


def _mono_to_stereo_filter(n_channels: int, stereo: bool) -> str:
    """Return a mono-to-stereo filter with unity gain: ffmpeg's own attenuates by 3 dB."""
    return "pan=stereo|c0=c0|c1=c0," if stereo and n_channels == 1 else ""


def _video_copy_args(
    container: InputContainer,
    stream: av.VideoStream,
    container_format: ContainerFormat,
    on_warning: WarningCallback | None,
) -> list[str]:
    """Return arguments that copy the video stream, cover art and subtitles."""
    muxer, text_codec = container_format.muxer, container_format.text_subtitle_codec
    args = ["-map", f"0:{stream.index}", "-c:v", "copy", "-copyinkf:v"]
    if muxer in {"mp4", "mov"}:
        args += ["-movflags", "+faststart"]
        if get_codec_name(stream) == "hevc":
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
