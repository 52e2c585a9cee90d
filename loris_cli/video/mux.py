"""A film with a new sound track: its own packets, untouched, and our sound from second 0 on.

video (copied) + sound (encoded), under it the old sound if asked for -> container by name
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import av.container
import av.stream
import soundfile

from loris_cli.errors import InputError, UsageError
from loris_cli.system.atomic_files import printable_path

from .containers import codec_name, find_start_time_s, open_container, require_video_stream
from .ffmpeg import input_args, output_url, run_ffmpeg, true_peak_limiter_filters

WarningCallback = Callable[[str], None]

AUDIO_RATE_HZ = 22_050
MIX_CEILING_DBTP = -1.0  # EBU R128: room for what a lossy encoder adds


@dataclass(frozen=True, kw_only=True)
class ContainerFormat:
    """What goes into a container, by its suffix.

    Args:
        muxer: ffmpeg's name for it.
        sound: arguments that encode the sound.
        text: codec for subtitles that are text; ``None``: it takes none.
        copied: subtitle codecs that it takes as they are.
        cover: it takes a cover picture.
    """

    muxer: str
    audio_args: tuple[str, ...]
    text_subtitle_codec: str | None = None
    copied_subtitle_codecs: tuple[str, ...] = ()
    supports_cover: bool = False


AAC_ARGS = ("-c:a", "aac", "-b:a", "128k")
MP4_FORMAT = ContainerFormat(
    muxer="mp4",
    audio_args=AAC_ARGS,
    text_subtitle_codec="mov_text",
    copied_subtitle_codecs=("mov_text", "dvd_subtitle"),
    supports_cover=True,
)
MATROSKA_SUBTITLES = ("subrip", "ass", "ssa", "webvtt", "hdmv_pgs_subtitle", "dvd_subtitle")
CONTAINER_FORMATS = {
    ".mp4": MP4_FORMAT,
    ".m4v": MP4_FORMAT,
    ".mov": ContainerFormat(
        muxer="mov",
        audio_args=AAC_ARGS,
        text_subtitle_codec="mov_text",
        copied_subtitle_codecs=("mov_text",),
    ),
    ".mkv": ContainerFormat(
        muxer="matroska",
        audio_args=AAC_ARGS,
        text_subtitle_codec="subrip",
        copied_subtitle_codecs=MATROSKA_SUBTITLES,
    ),
    ".webm": ContainerFormat(
        muxer="webm",
        audio_args=("-c:a", "libvorbis", "-q:a", "5"),
        text_subtitle_codec="webvtt",
        copied_subtitle_codecs=("webvtt",),
    ),
    ".wav": ContainerFormat(muxer="wav", audio_args=("-c:a", "pcm_s16le")),
    ".flac": ContainerFormat(muxer="flac", audio_args=("-c:a", "flac", "-sample_fmt", "s16")),
}
AUDIO_ONLY_SUFFIXES = {".wav", ".flac"}
WEBM_VIDEO_CODECS = {"vp8", "vp9", "av1"}
TEXT_SUBTITLE_CODECS = {"subrip", "ass", "ssa", "webvtt", "mov_text", "text"}


def mux_audio(
    video: Path,
    audio: Path,
    output: Path,
    *,
    original_gain_db: float | None,
    tags: Mapping[str, str],
    on_warning: WarningCallback | None = None,
) -> None:
    """Write a film, or its sound alone if ``output`` ends in ``.wav`` or ``.flac``.

    Pictures, their times, rotation, cover, subtitles, chapters and tags of the film stay as
    they are as far as the container takes them. The film keeps its length whatever the length
    of the sound. The same inputs give the same bytes.

    Args:
        video: the film.
        audio: WAV or FLAC, mono or stereo, sample 0 at the first shown frame.
        output: written in place: wrap it in ``replacing``.
        original_gain_db: gain of the film's own sound under ours; ``None`` leaves it out.
        tags: for the whole file; ``comment`` is the one that every container keeps.
        on_warning: told of subtitles that the container does not take.

    Raises:
        UsageError: no container of that name.
        InputError: the pictures do not fit in that container.
        OutputError: no room.
    """
    suffix = output.suffix.lower()
    form = _container_format(output)
    start_s = float(find_start_time_s(video))
    with open_container(video) as container:
        _check_webm_codec(require_video_stream(container, video), suffix)
        under = _audio_map_args(container, audio, original_gain_db)
        film = (
            []
            if suffix in AUDIO_ONLY_SUFFIXES
            else _video_copy_args(container, form, on_warning)
        )
    run_ffmpeg(
        [
            # Times as they are in the file, less that of the first shown frame.
            *("-copyts", "-fflags", "+genpts", "-itsoffset", f"{-start_s:.6f}"),
            *input_args(video),
            *input_args(audio),
            *under,
            *film,
            *(*form.audio_args, "-ar", str(AUDIO_RATE_HZ)),
            *("-map_metadata", "0" if film else "-1"),
            *(
                part
                for key, tag in _metadata_tags(tags, film).items()
                for part in ("-metadata", f"{key}={tag}")
            ),
            *("-fflags", "+bitexact", "-flags:a", "+bitexact", "-dn"),
            *("-f", form.muxer, output_url(output)),
        ]
    )


def check_container(video: Path, output: Path) -> None:
    """Refuse, before any long work, a container that cannot hold a film's pictures.

    The first frame is tried for real: only ffmpeg knows what its containers take.

    Raises:
        UsageError: no container of that name.
        InputError: the pictures do not fit in it.
    """
    form = _container_format(output)
    if output.suffix.lower() in AUDIO_ONLY_SUFFIXES:
        return
    with open_container(video) as container:
        pictures = require_video_stream(container, video)
        _check_webm_codec(pictures, output.suffix.lower())
        chosen = ["-map", f"0:{pictures.index}", "-c", "copy", "-frames:v", "1"]
    run_ffmpeg([*input_args(video), *chosen, "-f", form.muxer, os.devnull])


def _container_format(output: Path) -> ContainerFormat:
    suffix = output.suffix.lower()
    if suffix not in CONTAINER_FORMATS:
        raise UsageError(
            f"{printable_path(output)}: no container {suffix or 'without a suffix'}",
            hint="end the name in " + ", ".join(CONTAINER_FORMATS),
        )
    return CONTAINER_FORMATS[suffix]


def _check_webm_codec(video_stream: av.VideoStream, suffix: str) -> None:
    if suffix == ".webm" and codec_name(video_stream) not in WEBM_VIDEO_CODECS:
        raise InputError(
            f"WebM does not hold {codec_name(video_stream)} video",
            hint="write to a name that ends in .mkv",
        )


def _metadata_tags(tags: Mapping[str, str], video_args: list[str]) -> dict[str, str]:
    """Ours, and the names of the old container's brand taken out."""
    brand = ("major_brand", "minor_version", "compatible_brands")
    return (dict.fromkeys(brand, "") if video_args else {}) | dict(tags)


def _audio_map_args(
    container: av.container.InputContainer, audio: Path, original_gain_db: float | None
) -> list[str]:
    """Arguments that choose our sound, or ours over the film's own."""
    own = next((s for s in container.streams.audio if s.codec_context is not None), None)
    if original_gain_db is None or own is None:
        return ["-map", "1:a:0"]
    n_ours = soundfile.info(audio).channels
    stereo = max(n_ours, own.channels) > 1
    shape = f"aformat=sample_fmts=fltp:sample_rates={AUDIO_RATE_HZ}:channel_layouts=" + (
        "stereo" if stereo else "mono"
    )
    chain = [
        # async with first_pts cuts what comes before second 0 and fills what is missing.
        f"[0:{own.index}]aresample={AUDIO_RATE_HZ}:async=1:first_pts=0,"
        f"{_mono_to_stereo_filter(own.channels, stereo)}{shape},volume={original_gain_db:.6f}dB[own]",
        f"[1:a:0]{_mono_to_stereo_filter(n_ours, stereo)}{shape}[ours]",
        "[ours][own]amix=inputs=2:duration=first:normalize=0,"
        + ",".join(true_peak_limiter_filters(MIX_CEILING_DBTP, rate_hz=AUDIO_RATE_HZ))
        + f",{shape}[mix]",
    ]
    return ["-filter_complex", ";".join(chain), "-map", "[mix]"]


def _mono_to_stereo_filter(n_channels: int, stereo: bool) -> str:
    """Mono to both sides as loud as it is: ffmpeg by itself takes 3 dB off."""
    return "pan=stereo|c0=c0|c1=c0," if stereo and n_channels == 1 else ""


def _video_copy_args(
    container: av.container.InputContainer,
    container_format: ContainerFormat,
    on_warning: WarningCallback | None,
) -> list[str]:
    """Arguments that copy the pictures and what goes with them."""
    picture = next(s for s in container.streams.video if not _is_cover(s))
    chosen = ["-map", f"0:{picture.index}", "-c:v", "copy", "-copyinkf:v"]
    if container_format.muxer in {"mp4", "mov"}:
        chosen += ["-movflags", "+faststart"]
        if codec_name(picture) == "hevc":
            chosen += ["-tag:v:0", "hvc1"]  # QuickTime plays no other
    covers = (
        [s for s in container.streams.video if _is_cover(s)]
        if container_format.supports_cover
        else []
    )
    for n, cover in enumerate(covers, start=1):
        chosen += ["-map", f"0:{cover.index}", f"-disposition:v:{n}", "attached_pic"]
    n_kept = 0
    for subtitle in container.streams.subtitles:
        codec = codec_name(subtitle)
        if codec in container_format.copied_subtitle_codecs:
            action = "copy"
        elif codec in TEXT_SUBTITLE_CODECS and container_format.text_subtitle_codec is not None:
            action = container_format.text_subtitle_codec
        else:
            if on_warning is not None:
                on_warning(
                    f"{container_format.muxer} takes no {codec} subtitles: they are left out"
                )
            continue
        chosen += ["-map", f"0:{subtitle.index}", f"-c:s:{n_kept}", action]
        n_kept += 1
    return chosen


def _is_cover(stream: av.VideoStream) -> bool:
    return bool(stream.disposition & av.stream.Disposition.attached_pic)
