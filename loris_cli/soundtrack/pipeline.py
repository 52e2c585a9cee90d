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

from loris_cli.audio.loudness import Loudness, level, loudness, normalise
from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.errors import OutputError
from loris_cli.models.generator_interface import ClipFeatures, MusicGenerator
from loris_cli.soundtrack.conditioning import accents_of, own_seed, style_for
from loris_cli.soundtrack.video_analysis import Observation
from loris_cli.system.atomic_files import printable, replacing
from loris_cli.system.progress import Reporter, Silent
from loris_cli.video.audio_track import read_sound
from loris_cli.video.mux import mux

Array = NDArray[np.float64]
Samples = NDArray[np.float32]

LOUDNESS_LUFS = -14.0
CEILING_DBTP = -1.0
IMPACT_LATE_S = 0.0095
"""Strikes that speed up to a dead stop are found 12 ms late in the median, even bursts 5 ms
early (docs/rhythm.md): most of the former is taken off."""
JOIN_S = 0.02
"""Fade between what is kept and what is made anew, inside the latter."""
COPY_BLOCK = 1 << 16  # samples


@dataclass(frozen=True, kw_only=True)
class Soundtrack:
    """A soundtrack that was made."""

    out: Path
    seed: int
    genre: str
    """The style that was asked for, or that the body's beat and the seed chose."""
    loudness: Loudness


def features_of(seen: Observation, *, genre: str | None, seed: int) -> ClipFeatures:
    """What a generator is told of what was seen.

    Args:
        seen: from `observe`.
        genre: style; None is one that suits the body's beat, drawn by the seed.
        seed: of the take.
    """
    duration_s = seen.info.duration_s
    inside = seen.rhythm.times_s < duration_s
    peaks_s, strengths = accents_of(
        seen.rhythm.times_s[inside] - IMPACT_LATE_S, seen.rhythm.strengths[inside]
    )
    return ClipFeatures(
        duration_s=duration_s,
        peaks_s=peaks_s,
        strengths=strengths,
        energy=seen.energy,
        genre=genre or style_for(peaks_s, seed=own_seed(seed, peaks_s)),
        keypoints=None if seen.poses is None else seen.poses.keypoints,
        method=seen.rhythm.method,
        visual=seen.visual,
    )


def make_soundtrack(
    seen: Observation,
    out: Path,
    *,
    generator: MusicGenerator,
    seed: int,
    genre: str | None = None,
    mix_db: float | None = None,
    anew_s: tuple[float, float] | None = None,
    overwrite: bool = False,
    tags: Mapping[str, str] | None = None,
    reporter: Reporter | None = None,
) -> Soundtrack:
    """Make the music and put it under the picture.

    Args:
        seen: from `observe`.
        out: a film (``.mp4``, ``.mov``, ``.mkv``, ``.webm``) or sound alone (``.wav``,
            ``.flac``); appears whole or not at all.
        generator: who makes the music.
        seed: of the take.
        genre: style, one of `config.GENRES`; None is one that suits the body's beat.
        mix_db: keep the video's own sound underneath at this gain.
        anew_s: from when to when the generator's sound is new; the rest is as loud as it
            should be and reaches ``out`` as it is, sample by sample. None is all of it.
        overwrite: replace ``out`` if it exists.
        tags: metadata that says where the sound is from.
        reporter: whom to tell.

    Raises:
        OutputError: the result cannot be written.
    """
    reporter = reporter or Silent()
    features = features_of(seen, genre=genre, seed=seed)
    with replacing(out, overwrite=overwrite) as part, _workroom(out) as room:
        raw, levelled = room / "raw.wav", room / "levelled.wav"
        with reporter.stage("music", features.duration_s) as advance, _room_for_sound(out):
            n_samples = play(generator, features, raw, seed=seed, advance=advance)
        if n_samples != round(features.duration_s * SAMPLE_RATE_HZ):
            raise AssertionError("the generator broke its promise of length")
        with reporter.stage("sound and picture"), _room_for_sound(out):
            if anew_s is None:
                heard = normalise(
                    raw, levelled, target_lufs=LOUDNESS_LUFS, ceiling_dbtp=CEILING_DBTP
                )
            else:
                level(raw, room / "held.wav", gain_db=0.0, ceiling_dbtp=CEILING_DBTP)
                _splice(raw, room / "held.wav", levelled, anew_s=anew_s)
                heard = loudness(levelled)
            mux(
                seen.info.path,
                levelled,
                part,
                mix_db=mix_db,
                tags=tags or {},
                on_warning=reporter.warn,
            )
    style = features.genre or ""
    return Soundtrack(out=out, seed=seed, genre=style, loudness=heard)


@contextmanager
def _workroom(out: Path) -> Iterator[Path]:
    """A folder for sound on its way, on the disk where the result will be."""
    try:
        room = tempfile.TemporaryDirectory(prefix=".loris-", dir=out.parent)
    except OSError as error:
        raise OutputError(
            f"cannot work in {printable(out.parent)}: {error.strerror}",
            hint="write to another folder with -o",
        ) from error
    with room as name:
        yield Path(name)


@contextmanager
def _room_for_sound(out: Path) -> Iterator[None]:
    """Tell of a full disk as such: libsndfile does not say why it could not write."""
    try:
        yield
    except soundfile.LibsndfileError as error:
        raise OutputError(
            f"the sound of {printable(out)} cannot be written: {error.error_string}",
            hint="free some space, or write to another disk with -o",
        ) from error


def play(
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
    with _wav(path, n_channels=len(first)) as file:
        file.write(first.T)
        n_samples = int(first.shape[1])
        for block in blocks:
            file.write(block.T)
            n_samples += block.shape[1]
    return n_samples


def _wav(path: Path, *, n_channels: int) -> soundfile.SoundFile:
    return soundfile.SoundFile(
        path, "w", SAMPLE_RATE_HZ, channels=n_channels, subtype="FLOAT", format="WAV"
    )


def _splice(kept: Path, anew: Path, out: Path, *, anew_s: tuple[float, float]) -> None:
    """The second sound between two moments, the first elsewhere, to the sample."""
    from_s, to_s = anew_s
    start = 0
    with (
        soundfile.SoundFile(kept) as old,
        soundfile.SoundFile(anew) as new,
        _wav(out, n_channels=old.channels) as file,
    ):
        while start < old.frames:
            ours = old.read(COPY_BLOCK, dtype="float32", always_2d=True)
            theirs = new.read(COPY_BLOCK, dtype="float32", always_2d=True)
            moment_s = (start + np.arange(len(ours))) / SAMPLE_RATE_HZ
            inside = np.minimum(moment_s - from_s, to_s - moment_s) / JOIN_S
            share = np.clip(inside, 0, 1).astype(np.float32)[:, None]
            file.write(np.where(share > 0, ours + share * (theirs - ours), ours))
            start += len(ours)


def own_sound(video: Path) -> Samples | None:
    """A video's own sound, mono at 22,050 Hz, or None."""
    sound = read_sound(video, rate_hz=SAMPLE_RATE_HZ)
    return None if sound is None else sound.mean(axis=0)
