"""Music for what was seen in a video, put under its picture.

    observation -> features -> generator -> loudness -> the video's own file

A generator is anything with `MusicGenerator.generate`; nothing here knows what is inside.
"""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from loris_cli.audio.loudness import Loudness, apply_gain, measure_loudness, normalize_loudness
from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.errors import OutputError
from loris_cli.models.generator_interface import ClipFeatures, MusicGenerator
from loris_cli.soundtrack.conditioning import choose_genre, seed_from_rhythm, select_accents
from loris_cli.soundtrack.video_analysis import VideoAnalysis
from loris_cli.system.atomic_files import atomic_write, printable_path
from loris_cli.system.progress import NullReporter, Reporter
from loris_cli.video.audio_track import read_audio
from loris_cli.video.mux import mux_audio

Array = NDArray[np.float64]
Samples = NDArray[np.float32]

TARGET_LOUDNESS_LUFS = -14.0
TRUE_PEAK_CEILING_DBTP = -1.0
IMPACT_DETECTION_DELAY_S = 0.0095
"""Strikes that speed up to a dead stop are found 12 ms late in the median, even bursts 5 ms
early (docs/rhythm.md): most of the former is taken off."""
SPLICE_FADE_S = 0.02
"""Fade between what is kept and what is made anew, inside the latter."""
COPY_BLOCK_SAMPLES = 1 << 16  # samples


@dataclass(frozen=True, kw_only=True)
class SoundtrackResult:
    """A soundtrack that was made."""

    out: Path
    seed: int
    genre: str
    """The style that was asked for, or that the body's beat and the seed chose."""
    loudness: Loudness


def build_clip_features(
    analysis: VideoAnalysis, *, genre: str | None, seed: int
) -> ClipFeatures:
    """What a generator is told of what was seen.

    Args:
        analysis: from `observe`.
        genre: style; None is one that suits the body's beat, drawn by the seed.
        seed: of the take.
    """
    duration_s = analysis.info.duration_s
    inside = analysis.rhythm.times_s < duration_s
    peaks_s, strengths = select_accents(
        analysis.rhythm.times_s[inside] - IMPACT_DETECTION_DELAY_S,
        analysis.rhythm.strengths[inside],
    )
    return ClipFeatures(
        duration_s=duration_s,
        peaks_s=peaks_s,
        strengths=strengths,
        energy=analysis.energy,
        genre=genre or choose_genre(peaks_s, seed=seed_from_rhythm(seed, peaks_s)),
        keypoints=None if analysis.poses is None else analysis.poses.keypoints,
        rhythm_method=analysis.rhythm.method,
        visual=analysis.visual,
    )


def make_soundtrack(
    analysis: VideoAnalysis,
    out: Path,
    *,
    generator: MusicGenerator,
    seed: int,
    genre: str | None = None,
    mix_db: float | None = None,
    regenerate_s: tuple[float, float] | None = None,
    overwrite: bool = False,
    tags: Mapping[str, str] | None = None,
    reporter: Reporter | None = None,
) -> SoundtrackResult:
    """Make the music and put it under the picture.

    Args:
        analysis: from `observe`.
        out: a film (``.mp4``, ``.mov``, ``.mkv``, ``.webm``) or sound alone (``.wav``,
            ``.flac``); appears whole or not at all.
        generator: who makes the music.
        seed: of the take.
        genre: style, one of `config.GENRES`; None is one that suits the body's beat.
        mix_db: keep the video's own sound underneath at this gain.
        regenerate_s: from when to when the generator's sound is new; the rest is as loud as it
            should be and reaches ``out`` as it is, sample by sample. None is all of it.
        overwrite: replace ``out`` if it exists.
        tags: metadata that says where the sound is from.
        reporter: whom to tell.

    Raises:
        OutputError: the result cannot be written.
    """
    reporter = reporter or NullReporter()
    features = build_clip_features(analysis, genre=genre, seed=seed)
    with atomic_write(out, overwrite=overwrite) as part, _temporary_folder(out) as room:
        raw, levelled = room / "raw.wav", room / "levelled.wav"
        with reporter.stage("music", features.duration_s) as advance, _audio_write_errors(out):
            n_samples = write_generated_audio(
                generator, features, raw, seed=seed, advance=advance
            )
        if n_samples != round(features.duration_s * SAMPLE_RATE_HZ):
            raise AssertionError("the generator broke its promise of length")
        with reporter.stage("sound and picture"), _audio_write_errors(out):
            if regenerate_s is None:
                heard = normalize_loudness(
                    raw,
                    levelled,
                    target_lufs=TARGET_LOUDNESS_LUFS,
                    ceiling_dbtp=TRUE_PEAK_CEILING_DBTP,
                )
            else:
                apply_gain(
                    raw, room / "held.wav", gain_db=0.0, ceiling_dbtp=TRUE_PEAK_CEILING_DBTP
                )
                _splice_regenerated(raw, room / "held.wav", levelled, regenerate_s=regenerate_s)
                heard = measure_loudness(levelled)
            mux_audio(
                analysis.info.path,
                levelled,
                part,
                original_gain_db=mix_db,
                tags=tags or {},
                on_warning=reporter.warn,
            )
    style = features.genre or ""
    return SoundtrackResult(out=out, seed=seed, genre=style, loudness=heard)


@contextmanager
def _temporary_folder(out: Path) -> Iterator[Path]:
    """A folder for sound on its way, on the disk where the result will be."""
    try:
        room = tempfile.TemporaryDirectory(prefix=".loris-", dir=out.parent)
    except OSError as error:
        raise OutputError(
            f"cannot work in {printable_path(out.parent)}: {error.strerror}",
            hint="write to another folder with -o",
        ) from error
    with room as name:
        yield Path(name)


@contextmanager
def _audio_write_errors(out: Path) -> Iterator[None]:
    """Tell of a full disk as such: libsndfile does not say why it could not write."""
    try:
        yield
    except soundfile.LibsndfileError as error:
        raise OutputError(
            f"the sound of {printable_path(out)} cannot be written: {error.error_string}",
            hint="free some space, or write to another disk with -o",
        ) from error


def write_generated_audio(
    generator: MusicGenerator,
    features: ClipFeatures,
    path: Path,
    *,
    seed: int,
    advance: Callable[..., None],
) -> int:
    """Write a generator's blocks to a float WAV as they come.

    Returns:
        samples written.
    """
    told = 0.0

    def progress(done: int, total: int) -> None:
        nonlocal told
        now = features.duration_s * done / total
        advance(now - told)
        told = now

    blocks = generator.generate(features, seed=seed, progress=progress)
    first = next(blocks)
    with _open_wav_writer(path, n_channels=len(first)) as file:
        file.write(first.T)
        n_samples = int(first.shape[1])
        for block in blocks:
            file.write(block.T)
            n_samples += block.shape[1]
    return n_samples


def _open_wav_writer(path: Path, *, n_channels: int) -> soundfile.SoundFile:
    return soundfile.SoundFile(
        path, "w", SAMPLE_RATE_HZ, channels=n_channels, subtype="FLOAT", format="WAV"
    )


def _splice_regenerated(
    original: Path, regenerated: Path, out: Path, *, regenerate_s: tuple[float, float]
) -> None:
    """The second sound between two moments, the first elsewhere, to the sample."""
    from_s, to_s = regenerate_s
    start = 0
    with (
        soundfile.SoundFile(original) as old,
        soundfile.SoundFile(regenerated) as new,
        _open_wav_writer(out, n_channels=old.channels) as file,
    ):
        while start < old.frames:
            ours = old.read(COPY_BLOCK_SAMPLES, dtype="float32", always_2d=True)
            theirs = new.read(COPY_BLOCK_SAMPLES, dtype="float32", always_2d=True)
            moment_s = (start + np.arange(len(ours))) / SAMPLE_RATE_HZ
            inside = np.minimum(moment_s - from_s, to_s - moment_s) / SPLICE_FADE_S
            share = np.clip(inside, 0, 1).astype(np.float32)[:, None]
            file.write(np.where(share > 0, ours + share * (theirs - ours), ours))
            start += len(ours)


def read_mono_audio(path: Path) -> Samples | None:
    """A video's own sound, mono at 22,050 Hz, or None."""
    sound = read_audio(path, rate_hz=SAMPLE_RATE_HZ)
    return None if sound is None else sound.mean(axis=0)
