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
from loris_cli.system.atomic_files import printable

from .containers import codec_of, main_video, opened, start_of
from .ffmpeg import limiter, reading, run, writing

Warn = Callable[[str], None]

RATE_HZ = 22_050
MIX_CEILING_DBTP = -1.0  # EBU R128: room for what a lossy encoder adds


@dataclass(frozen=True, kw_only=True)
class Format:
    """What goes into a container, by its suffix.

    Args:
        muxer: ffmpeg's name for it.
        sound: arguments that encode the sound.
        text: codec for subtitles that are text; ``None``: it takes none.
        copied: subtitle codecs that it takes as they are.
        cover: it takes a cover picture.
    """

    muxer: str
    sound: tuple[str, ...]
    text: str | None = None
    copied: tuple[str, ...] = ()
    cover: bool = False


AAC = ("-c:a", "aac", "-b:a", "128k")
MP4 = Format(
    muxer="mp4", sound=AAC, text="mov_text", copied=("mov_text", "dvd_subtitle"), cover=True
)
MATROSKA_SUBTITLES = ("subrip", "ass", "ssa", "webvtt", "hdmv_pgs_subtitle", "dvd_subtitle")
FORMATS = {
    ".mp4": MP4,
    ".m4v": MP4,
    ".mov": Format(muxer="mov", sound=AAC, text="mov_text", copied=("mov_text",)),
    ".mkv": Format(muxer="matroska", sound=AAC, text="subrip", copied=MATROSKA_SUBTITLES),
    ".webm": Format(
        muxer="webm",
        sound=("-c:a", "libvorbis", "-q:a", "5"),
        text="webvtt",
        copied=("webvtt",),
    ),
    ".wav": Format(muxer="wav", sound=("-c:a", "pcm_s16le")),
    ".flac": Format(muxer="flac", sound=("-c:a", "flac", "-sample_fmt", "s16")),
}
SOUND_ONLY = {".wav", ".flac"}
WEBM_CODECS = {"vp8", "vp9", "av1"}
TEXT_SUBTITLES = {"subrip", "ass", "ssa", "webvtt", "mov_text", "text"}


def mux(
    video: Path,
    sound: Path,
    out: Path,
    *,
    mix_db: float | None,
    tags: Mapping[str, str],
    on_warning: Warn | None = None,
) -> None:
    """Write a film, or its sound alone if ``out`` ends in ``.wav`` or ``.flac``.

    Pictures, their times, rotation, cover, subtitles, chapters and tags of the film stay as
    they are as far as the container takes them. The film keeps its length whatever the length
    of the sound. The same inputs give the same bytes.

    Args:
        video: the film.
        sound: WAV or FLAC, mono or stereo, sample 0 at the first shown frame.
        out: written in place: wrap it in ``replacing``.
        mix_db: gain of the film's own sound under ours; ``None`` leaves it out.
        tags: for the whole file; ``comment`` is the one that every container keeps.
        on_warning: told of subtitles that the container does not take.

    Raises:
        UsageError: no container of that name.
        InputError: the pictures do not fit in that container.
        OutputError: no room.
    """
    suffix = out.suffix.lower()
    form = _format_of(out)
    start_s = float(start_of(video))
    with opened(video) as container:
        _check_webm(main_video(container, video), suffix)
        under = _mixing(container, sound, mix_db)
        film = [] if suffix in SOUND_ONLY else _film(container, form, on_warning)
    run(
        [
            # Times as they are in the file, less that of the first shown frame.
            *("-copyts", "-fflags", "+genpts", "-itsoffset", f"{-start_s:.6f}"),
            *reading(video),
            *reading(sound),
            *under,
            *film,
            *(*form.sound, "-ar", str(RATE_HZ)),
            *("-map_metadata", "0" if film else "-1"),
            *(
                part
                for key, tag in _tags(tags, film).items()
                for part in ("-metadata", f"{key}={tag}")
            ),
            *("-fflags", "+bitexact", "-flags:a", "+bitexact", "-dn"),
            *("-f", form.muxer, writing(out)),
        ]
    )


def check_fits(video: Path, out: Path) -> None:
    """Refuse, before any long work, a container that cannot hold a film's pictures.

    The first frame is tried for real: only ffmpeg knows what its containers take.

    Raises:
        UsageError: no container of that name.
        InputError: the pictures do not fit in it.
    """
    form = _format_of(out)
    if out.suffix.lower() in SOUND_ONLY:
        return
    with opened(video) as container:
        pictures = main_video(container, video)
        _check_webm(pictures, out.suffix.lower())
        chosen = ["-map", f"0:{pictures.index}", "-c", "copy", "-frames:v", "1"]
    run([*reading(video), *chosen, "-f", form.muxer, os.devnull])


def _format_of(out: Path) -> Format:
    suffix = out.suffix.lower()
    if suffix not in FORMATS:
        raise UsageError(
            f"{printable(out)}: no container {suffix or 'without a suffix'}",
            hint="end the name in " + ", ".join(FORMATS),
        )
    return FORMATS[suffix]


def _check_webm(pictures: av.VideoStream, suffix: str) -> None:
    if suffix == ".webm" and codec_of(pictures) not in WEBM_CODECS:
        raise InputError(
            f"WebM does not hold {codec_of(pictures)} video",
            hint="write to a name that ends in .mkv",
        )


def _tags(tags: Mapping[str, str], film: list[str]) -> dict[str, str]:
    """Ours, and the names of the old container's brand taken out."""
    brand = ("major_brand", "minor_version", "compatible_brands")
    return (dict.fromkeys(brand, "") if film else {}) | dict(tags)


def _mixing(
    container: av.container.InputContainer, sound: Path, mix_db: float | None
) -> list[str]:
    """Arguments that choose our sound, or ours over the film's own."""
    own = next((s for s in container.streams.audio if s.codec_context is not None), None)
    if mix_db is None or own is None:
        return ["-map", "1:a:0"]
    n_ours = soundfile.info(sound).channels
    stereo = max(n_ours, own.channels) > 1
    shape = f"aformat=sample_fmts=fltp:sample_rates={RATE_HZ}:channel_layouts=" + (
        "stereo" if stereo else "mono"
    )
    chain = [
        # async with first_pts cuts what comes before second 0 and fills what is missing.
        f"[0:{own.index}]aresample={RATE_HZ}:async=1:first_pts=0,"
        f"{_spread(own.channels, stereo)}{shape},volume={mix_db:.6f}dB[own]",
        f"[1:a:0]{_spread(n_ours, stereo)}{shape}[ours]",
        "[ours][own]amix=inputs=2:duration=first:normalize=0,"
        + ",".join(limiter(MIX_CEILING_DBTP, rate_hz=RATE_HZ))
        + f",{shape}[mix]",
    ]
    return ["-filter_complex", ";".join(chain), "-map", "[mix]"]


def _spread(n_channels: int, stereo: bool) -> str:
    """Mono to both sides as loud as it is: ffmpeg by itself takes 3 dB off."""
    return "pan=stereo|c0=c0|c1=c0," if stereo and n_channels == 1 else ""


def _film(
    container: av.container.InputContainer, form: Format, on_warning: Warn | None
) -> list[str]:
    """Arguments that copy the pictures and what goes with them."""
    picture = next(s for s in container.streams.video if not _is_cover(s))
    chosen = ["-map", f"0:{picture.index}", "-c:v", "copy", "-copyinkf:v"]
    if form.muxer in {"mp4", "mov"}:
        chosen += ["-movflags", "+faststart"]
        if codec_of(picture) == "hevc":
            chosen += ["-tag:v:0", "hvc1"]  # QuickTime plays no other
    covers = [s for s in container.streams.video if _is_cover(s)] if form.cover else []
    for n, cover in enumerate(covers, start=1):
        chosen += ["-map", f"0:{cover.index}", f"-disposition:v:{n}", "attached_pic"]
    n_kept = 0
    for subtitle in container.streams.subtitles:
        codec = codec_of(subtitle)
        if codec in form.copied:
            action = "copy"
        elif codec in TEXT_SUBTITLES and form.text is not None:
            action = form.text
        else:
            if on_warning is not None:
                on_warning(f"{form.muxer} takes no {codec} subtitles: they are left out")
            continue
        chosen += ["-map", f"0:{subtitle.index}", f"-c:s:{n_kept}", action]
        n_kept += 1
    return chosen


def _is_cover(stream: av.VideoStream) -> bool:
    return bool(stream.disposition & av.stream.Disposition.attached_pic)
