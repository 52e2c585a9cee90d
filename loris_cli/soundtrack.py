"""The whole way for one video: look, hear in mind, play, put under the picture.

    video -> poses -> rhythm, energy -> features -> generator -> loudness -> the video's own
    file

A generator is anything with `MusicGenerator.generate`; nothing here knows what is inside.
"""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import soundfile
from numpy.typing import NDArray

from loris_cli.conditioning import ClipFeatures, accents_of, style_for
from loris_cli.config import POSE_FPS, SAMPLE_RATE_HZ
from loris_cli.errors import InputError, OutputError
from loris_cli.files import printable, replacing
from loris_cli.pose.keypoints import Poses
from loris_cli.pose.tracking import estimate_poses
from loris_cli.rhythm.body import motion_energy, rhythm_from_poses
from loris_cli.rhythm.directogram import Compat
from loris_cli.rhythm.file import Rhythm
from loris_cli.rhythm.flow import rhythm_from_flow
from loris_cli.video.frames import Frame, frames, frames_at
from loris_cli.video.mux import mux
from loris_cli.video.probe import VideoInfo, probe
from loris_cli.video.sound import read_sound
from loris_cli.waveform import Loudness, level, loudness, normalise

Array = NDArray[np.float64]
Samples = NDArray[np.float32]
Method = Literal["directogram", "flow"]

LOUDNESS_LUFS = -14.0
CEILING_DBTP = -1.0
SHORTEST_S = 1.0
"""A shorter video has no rhythm: two strikes hardly fit into it."""
SEEN_SHARE = 0.1
"""A body seen in fewer of the frames leads nothing: the picture's own movement does."""
POSE_SIDE_PX = 1280
"""Frames are looked at no larger than this; far bodies need more than a network's 224 px."""
POSE_THREADS = 2
FLOW_SIDE_PX = 256
IMPACT_LATE_S = 0.0045
"""Stops of even bursts are found 5 ms early, of bursts that speed up to the end 14 ms late, in
the median (docs/rhythm.md): music is made for the middle of the two."""
SAME_LENGTH_S = 1.0
"""Poses of a video may end so much before or after it: containers round, ends are cut."""
JOIN_S = 0.02
"""Fade between what is kept and what is made anew, inside the latter."""
COPY_BLOCK = 1 << 16  # samples


class MusicGenerator(Protocol):
    """What `soundtrack` and `eval` know of a model."""

    def generate(
        self, features: ClipFeatures, *, seed: int, progress: Callable[[int, int], None]
    ) -> Iterator[Samples]:
        """Sound for a clip.

        Args:
            features: of the whole clip.
            seed: the same seed and features give the same bytes.
            progress: told what is done and what there is to do.

        Yields:
            consecutive blocks ``(channels, samples)`` at 22,050 Hz, in all
            ``round(duration_s * 22050)`` samples.
        """


class Reporter(Protocol):
    """Whom the work tells how it goes."""

    def stage(
        self, name: str, total: float | None = None
    ) -> AbstractContextManager[Callable[..., None]]:
        """Announce a stage; the callable it gives takes the amount done since last time."""

    def warn(self, text: str) -> None:
        """Say what the user should know."""


class Silent:
    """A reporter that keeps the warnings to itself."""

    def stage(
        self, name: str, total: float | None = None
    ) -> AbstractContextManager[Callable[..., None]]:
        """Say nothing."""
        return nullcontext(lambda n=1.0: None)

    def warn(self, text: str) -> None:
        """Say nothing."""


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What was seen in a video."""

    info: VideoInfo
    poses: Poses | None
    """None where nobody was seen, or flow was asked for."""
    rhythm: Rhythm
    energy: Array
    """How lively the movement is, ``(frames,)`` at 16 Hz, 0..1."""


@dataclass(frozen=True, kw_only=True)
class Soundtrack:
    """A soundtrack that was made."""

    out: Path
    seed: int
    genre: str
    """The style that was asked for, or that the body's beat and the seed chose."""
    loudness: Loudness


def look(video: str | Path, *, reporter: Reporter | None = None) -> VideoInfo:
    """What a video is, if it can have a rhythm.

    Raises:
        InputError: it is no video, or too short.
    """
    video = Path(video)
    info = probe(video)
    if info.duration_s < SHORTEST_S:
        raise InputError(
            f"{printable(video)} lasts {info.duration_s:.2g} s, too short to have a rhythm",
            hint=f"give a video of {SHORTEST_S:g} s or more",
        )
    if info.truncated:
        (reporter or Silent()).warn(f"{printable(video)} ends early; what is there is used")
    return info


def find_poses(info: VideoInfo, *, reporter: Reporter) -> Poses:
    """Poses of the main performer of a video, at 16 fps.

    Raises:
        InputError: the video has no readable pictures.
    """
    n_frames = round(info.duration_s * POSE_FPS)
    with reporter.stage("poses", n_frames) as advance:
        shown = frames_at(
            info.path, POSE_FPS, max_side_px=POSE_SIDE_PX, on_warning=reporter.warn
        )
        poses = estimate_poses(
            shown,
            fps=POSE_FPS,
            size=(info.width, info.height),
            progress=lambda done: advance(1),
            n_threads=POSE_THREADS,
        )
    return replace(poses, interval_s=info.frame_interval_s)


def observe(
    video: str | Path | VideoInfo,
    *,
    method: Method | None = None,
    compat: Compat = "paper",
    poses: Poses | None = None,
    reporter: Reporter | None = None,
) -> Observation:
    """Find out what moves in a video, and when.

    Args:
        video: a video file, or what `look` found of it.
        method: where the rhythm comes from; None is the body, or the picture's flow where
            no body is to be seen.
        compat: reading of the paper for the body's rhythm.
        poses: found before, instead of looking for them.
        reporter: whom to tell.

    Raises:
        InputError: it is no video, too short, or nothing moves in it; or the poses are of
            another one.
    """
    reporter = reporter or Silent()
    info = video if isinstance(video, VideoInfo) else look(video, reporter=reporter)
    name = printable(info.path)
    if poses is not None and abs(poses.n_frames / poses.fps - info.duration_s) > SAME_LENGTH_S:
        raise InputError(
            f"the poses last {poses.n_frames / poses.fps:.1f} s and {name}"
            f" {info.duration_s:.1f} s: they are not of one video",
            hint="make them again with `loris pose VIDEO`",
        )
    if method != "flow":
        poses = poses or find_poses(info, reporter=reporter)
        lead = _led_by_body(info, poses, compat)
        if lead is not None:
            return lead
        if method == "directogram":
            raise InputError(f"no moving body in {name}", hint="try --rhythm flow")
        reporter.warn(f"no moving body in {name}: the picture's own movement leads")
    with reporter.stage("flow", info.n_frames) as advance:
        rhythm = rhythm_from_flow(_counted(info, reporter, advance))
    energy = np.interp(
        np.arange(len(rhythm.envelope)), *_smooth(rhythm.times_s * POSE_FPS, rhythm.strengths)
    )
    return Observation(info=info, poses=None, rhythm=rhythm, energy=energy)


def rhythm_of(poses: Poses, *, compat: Compat = "paper") -> Rhythm:
    """The rhythm of a body alone, with no video at hand."""
    return rhythm_from_poses(
        poses.keypoints,
        fps=poses.fps,
        compat=compat,
        interval_s=poses.interval_s,
        cuts=poses.cuts,
    )


def _led_by_body(info: VideoInfo, poses: Poses, compat: Compat) -> Observation | None:
    """The rhythm of the body, or None where there is none to follow."""
    if poses.seen_share < SEEN_SHARE:
        return None
    rhythm = rhythm_of(poses, compat=compat)
    if not len(rhythm.times_s):
        return None
    energy = motion_energy(poses.keypoints, poses.fps, cuts=poses.cuts)
    return Observation(info=info, poses=poses, rhythm=rhythm, energy=energy)


def _counted(
    info: VideoInfo, reporter: Reporter, advance: Callable[..., None]
) -> Iterator[Frame]:
    # Every frame at its own time: one that is held looks like a stop.
    for frame in frames(info.path, max_side_px=FLOW_SIDE_PX, on_warning=reporter.warn):
        yield frame
        advance(1)


def _smooth(frames: Array, strengths: Array) -> tuple[Array, Array]:
    """Knots of a liveliness curve where only peaks are known."""
    if not len(frames):
        return np.zeros(1), np.full(1, 0.5)
    return frames, 0.3 + 0.7 * strengths


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
        genre=genre or style_for(peaks_s, seed=seed),
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
