"""Soundtrack of one analyzed video: generation, loudness normalization, and muxing.

    analysis -> features -> generator -> loudness -> output file

The generator is any `MusicGenerator`.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from loris_cli.audio.loudness import Loudness, apply_gain, measure_loudness, normalize_loudness
from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.errors import OutputError
from loris_cli.models.generator_interface import MusicGenerator, VideoFeatures
from loris_cli.soundtrack.clip_features import build_features
from loris_cli.soundtrack.inpainting import region_weights
from loris_cli.soundtrack.mix import mix_original_audio
from loris_cli.soundtrack.video_analysis import VideoAnalysis
from loris_cli.system.atomic_files import atomic_write, temporary_folder
from loris_cli.system.progress import Advance, NullReporter, Reporter
from loris_cli.video.audio_track import read_audio
from loris_cli.video.mux import mux_audio

TARGET_LUFS = -14.0
TRUE_PEAK_CEILING_DBTP = -1.0
SPLICE_FADE_S = 0.02
"""Fade between original and regenerated audio, inside the regenerated range."""
COPY_BLOCK_SAMPLES = 1 << 16


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """Options for writing the output file."""

    mix_db: float | None = None
    """Gain in dB of the video's original audio in the mix; None omits it."""
    audio_track: int | None = None
    """Number of the original audio track in the mix, from 1; None is the default track."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """Metadata tags of the file."""
    overwrite: bool = False
    """Overwrite an existing file."""


DEFAULT_OUTPUT = OutputOptions()


@dataclass(frozen=True, kw_only=True)
class SoundtrackResult:
    """Properties of a generated soundtrack."""

    genre: str
    """Style given by the user, or chosen from the rhythm and the seed."""
    loudness: Loudness


def make_soundtrack(
    analysis: VideoAnalysis,
    out: Path,
    *,
    generator: MusicGenerator,
    seed: int,
    genre: str | None = None,
    regenerate_s: tuple[float, float] | None = None,
    options: OutputOptions = DEFAULT_OUTPUT,
    reporter: Reporter | None = None,
) -> SoundtrackResult:
    """Generate the soundtrack of a video and write it to a file.

    Args:
        analysis: from `analyze_video`.
        out: output video (``.mp4``, ``.mov``, ``.mkv``, ``.webm``) or audio file (``.wav``,
            ``.flac``); written atomically.
        generator: music generator.
        seed: seed of the take.
        genre: style, one of `config.GENRES`; None selects one that suits the rhythm.
        regenerate_s: time range that the generator has regenerated; the samples outside it are
            already at their final level and are written unchanged. None is the entire audio.
        options: options for writing ``out``.
        reporter: receives progress and warnings.

    Raises:
        OutputError: the output cannot be written.
    """
    reporter = reporter or NullReporter()
    features = build_features(analysis, genre=genre, seed=seed)
    with (
        atomic_write(out, overwrite=options.overwrite) as temporary,
        temporary_folder(out.parent) as work,
    ):
        raw, leveled = work / "raw.wav", work / "leveled.wav"
        with reporter.stage("music", features.duration_s) as advance, _audio_write_errors(out):
            n_samples = generate_wav(generator, features, raw, seed=seed, advance=advance)
        if n_samples != round(features.duration_s * SAMPLE_RATE_HZ):
            raise AssertionError(f"the generator returned {n_samples} samples")
        with reporter.stage("mux"), _audio_write_errors(out):
            loudness = _level_audio(raw, leveled, regenerate_s)
            video, audio = analysis.info.path, leveled
            if options.mix_db is not None:
                mixed = mix_original_audio(
                    video,
                    leveled,
                    work / "mixed.wav",
                    gain_db=options.mix_db,
                    audio_track=options.audio_track,
                    target_lufs=TARGET_LUFS,
                    ceiling_dbtp=TRUE_PEAK_CEILING_DBTP,
                    on_warning=reporter.warn,
                )
                if mixed is not None:
                    audio, loudness = work / "mixed.wav", mixed
            mux_audio(video, audio, temporary, tags=options.tags, on_warning=reporter.warn)
    return SoundtrackResult(genre=features.genre or "", loudness=loudness)


@contextmanager
def _audio_write_errors(out: Path) -> Iterator[None]:
    """Raise `OutputError` for write errors; libsndfile does not report a full disk as such."""
    try:
        yield
    except soundfile.LibsndfileError as error:
        raise OutputError(
            f"cannot write the audio of {out}: {error.error_string}",
            hint="free disk space, or write to another disk with -o",
        ) from error


def generate_wav(
    generator: MusicGenerator,
    features: VideoFeatures,
    out: Path,
    *,
    seed: int,
    advance: Advance,
) -> int:
    """Write the blocks of a generator to a float WAV file as they are generated.

    Returns:
        number of samples written.
    """
    done_s = 0.0

    def progress(done: int, total: int) -> None:
        nonlocal done_s
        now_s = features.duration_s * done / total
        advance(now_s - done_s)
        done_s = now_s

    blocks = generator.generate(features, seed=seed, progress=progress)
    first = next(blocks)
    with _open_wav_writer(out, n_channels=len(first)) as file:
        file.write(first.T)
        for block in blocks:
            file.write(block.T)
        return int(file.frames)


def _open_wav_writer(path: Path, *, n_channels: int) -> soundfile.SoundFile:
    return soundfile.SoundFile(path, "w", SAMPLE_RATE_HZ, n_channels, "FLOAT", format="WAV")


def _level_audio(raw: Path, out: Path, regenerate_s: tuple[float, float] | None) -> Loudness:
    """Normalize the loudness; for inpainting, only limit the peaks of the region."""
    ceiling = TRUE_PEAK_CEILING_DBTP
    if regenerate_s is None:
        return normalize_loudness(raw, out, target_lufs=TARGET_LUFS, ceiling_dbtp=ceiling)
    limited = out.with_name("limited.wav")
    apply_gain(raw, limited, gain_db=0.0, ceiling_dbtp=ceiling)
    _splice_regenerated(raw, limited, out, regenerate_s=regenerate_s)
    return measure_loudness(out)


def _splice_regenerated(
    original: Path, regenerated: Path, out: Path, *, regenerate_s: tuple[float, float]
) -> None:
    """Write the second file inside a time range, and the first, unchanged, elsewhere."""
    start = 0
    with (
        soundfile.SoundFile(original) as old_file,
        soundfile.SoundFile(regenerated) as new_file,
        _open_wav_writer(out, n_channels=old_file.channels) as file,
    ):
        while start < old_file.frames:
            old, new = (
                source.read(COPY_BLOCK_SAMPLES, dtype="float32", always_2d=True)
                for source in (old_file, new_file)
            )
            weight = region_weights(start, len(old), *regenerate_s, SPLICE_FADE_S)[:, None]
            file.write(np.where(weight > 0, old + weight * (new - old), old))
            start += len(old)


def read_mono_audio(path: Path) -> NDArray[Any] | None:
    """Read the audio of a file as mono at 22,050 Hz.

    Returns:
        ``(samples,)``, full scale 1; None if the file has no audio.
    """
    audio = read_audio(path, rate_hz=SAMPLE_RATE_HZ)
    return None if audio is None else audio.mean(axis=0)
