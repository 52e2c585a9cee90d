"""The whole way for one video: look, hear in mind, play, put under the picture.

    video -> poses -> rhythm, energy -> features -> generator -> loudness -> the video's own
    file

A generator is anything with `MusicGenerator.generate`; nothing here knows what is inside.
"""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import soundfile
from numpy.typing import NDArray

from loris_cli.conditioning import ClipFeatures
from loris_cli.config import POSE_FPS, SAMPLE_RATE_HZ
from loris_cli.errors import InputError, OutputError
from loris_cli.files import replacing
from loris_cli.pose.keypoints import Poses
from loris_cli.pose.tracking import estimate_poses
from loris_cli.rhythm.body import motion_energy, rhythm_from_poses
from loris_cli.rhythm.directogram import Compat
from loris_cli.rhythm.file import Rhythm
from loris_cli.rhythm.flow import rhythm_from_flow
from loris_cli.video.frames import frames_at
from loris_cli.video.mux import mux
from loris_cli.video.probe import VideoInfo, probe
from loris_cli.video.sound import read_sound
from loris_cli.waveform import Loudness, normalise

Array = NDArray[np.float64]
Samples = NDArray[np.float32]
Method = Literal["directogram", "flow"]

LOUDNESS_LUFS = -14.0
SHORTEST_S = 1.0
"""A shorter video has no rhythm: two strikes hardly fit into it."""
SEEN_SHARE = 0.1
"""A body seen in fewer of the frames leads nothing: the picture's own movement does."""
POSE_SIDE_PX = 1280
"""Frames are looked at no larger than this; far bodies need more than a network's 224 px."""
POSE_THREADS = 2


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
    loudness: Loudness
    warnings: tuple[str, ...] = field(default=())


def find_poses(info: VideoInfo, *, reporter: Reporter) -> Poses:
    """Poses of the main performer of a video, at 16 fps.

    Raises:
        InputError: the video has no readable pictures.
    """
    n_frames = round(info.duration_s * POSE_FPS)
    with reporter.stage("poses", n_frames) as advance:
        frames = frames_at(
            info.path, POSE_FPS, max_side_px=POSE_SIDE_PX, on_warning=reporter.warn
        )
        poses = estimate_poses(
            frames,
            fps=POSE_FPS,
            size=(info.width, info.height),
            progress=lambda done: advance(1),
            n_threads=POSE_THREADS,
        )
    return replace(poses, interval_s=info.frame_interval_s)


def observe(
    video: Path,
    *,
    method: Method | None = None,
    compat: Compat = "paper",
    poses: Poses | None = None,
    reporter: Reporter | None = None,
) -> Observation:
    """Find out what moves in a video, and when.

    Args:
        video: a video file.
        method: where the rhythm comes from; None is the body, or the picture's flow where
            no body is to be seen.
        compat: reading of the paper for the body's rhythm.
        poses: found before, instead of looking for them.
        reporter: whom to tell.

    Raises:
        InputError: it is no video, too short, or nothing moves in it.
    """
    reporter = reporter or Silent()
    info = probe(video)
    if info.duration_s < SHORTEST_S:
        raise InputError(
            f"{video.name} lasts {info.duration_s:.2g} s, too short to have a rhythm",
            hint=f"give a video of {SHORTEST_S:g} s or more",
        )
    if info.truncated:
        reporter.warn(f"{video.name} ends early; what is there is used")
    if method != "flow":
        poses = poses or find_poses(info, reporter=reporter)
        lead = _led_by_body(info, poses, compat)
        if lead is not None or method == "directogram":
            if lead is None:
                raise InputError(f"no moving body in {video.name}", hint="try --rhythm flow")
            return lead
        reporter.warn(f"no moving body in {video.name}: the picture's own movement leads")
    with reporter.stage("flow", round(info.duration_s * POSE_FPS)) as advance:
        rhythm = rhythm_from_flow(_counted(info, reporter, advance))
    energy = np.interp(
        np.arange(len(rhythm.envelope)), *_smooth(rhythm.times_s * POSE_FPS, rhythm.strengths)
    )
    return Observation(info=info, poses=None, rhythm=rhythm, energy=energy)


def _led_by_body(info: VideoInfo, poses: Poses, compat: Compat) -> Observation | None:
    """The rhythm of the body, or None where there is none to follow."""
    if poses.seen_share < SEEN_SHARE:
        return None
    rhythm = rhythm_from_poses(
        poses.keypoints,
        fps=poses.fps,
        compat=compat,
        interval_s=poses.interval_s,
        cuts=poses.cuts,
    )
    if not len(rhythm.times_s):
        return None
    energy = motion_energy(poses.keypoints, poses.fps, cuts=poses.cuts)
    return Observation(info=info, poses=poses, rhythm=rhythm, energy=energy)


def _counted(
    info: VideoInfo, reporter: Reporter, advance: Callable[..., None]
) -> Iterator[object]:
    for frame in frames_at(info.path, POSE_FPS, max_side_px=256, on_warning=reporter.warn):
        yield frame
        advance(1)


def _smooth(frames: Array, strengths: Array) -> tuple[Array, Array]:
    """Knots of a liveliness curve where only peaks are known."""
    if not len(frames):
        return np.zeros(1), np.full(1, 0.5)
    return frames, 0.3 + 0.7 * strengths


def features_of(seen: Observation, *, genre: str | None) -> ClipFeatures:
    """What a generator is told of what was seen."""
    duration_s = seen.info.duration_s
    inside = seen.rhythm.times_s < duration_s
    return ClipFeatures(
        duration_s=duration_s,
        peaks_s=seen.rhythm.times_s[inside],
        strengths=seen.rhythm.strengths[inside],
        energy=seen.energy,
        genre=genre,
    )


def make_soundtrack(
    seen: Observation,
    out: Path,
    *,
    generator: MusicGenerator,
    seed: int,
    genre: str | None = None,
    mix_db: float | None = None,
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
        genre: style, one of `config.GENRES`.
        mix_db: keep the video's own sound underneath at this gain.
        overwrite: replace ``out`` if it exists.
        tags: metadata that says where the sound is from.
        reporter: whom to tell.

    Raises:
        OutputError: the result cannot be written.
    """
    reporter = reporter or Silent()
    features = features_of(seen, genre=genre)
    with replacing(out, overwrite=overwrite) as part, _workroom(out) as room:
        raw, levelled = room / "raw.wav", room / "levelled.wav"
        with reporter.stage("music", features.duration_s) as advance:
            n_samples = play(generator, features, raw, seed=seed, advance=advance)
        if n_samples != round(features.duration_s * SAMPLE_RATE_HZ):
            raise AssertionError("the generator broke its promise of length")
        with reporter.stage("sound and picture"):
            loudness = normalise(raw, levelled, target_lufs=LOUDNESS_LUFS)
            mux(
                seen.info.path,
                levelled,
                part,
                mix_db=mix_db,
                tags=tags or {},
                on_warning=reporter.warn,
            )
    return Soundtrack(out=out, seed=seed, loudness=loudness)


def _workroom(out: Path) -> AbstractContextManager[Path]:
    """A folder for sound on its way, on the disk where the result will be."""

    class Room(tempfile.TemporaryDirectory[str]):
        def __enter__(self) -> Path:  # type: ignore[override]
            return Path(super().__enter__())

    try:
        return Room(prefix=".loris-", dir=out.parent or Path())  # type: ignore[return-value]
    except OSError as error:
        raise OutputError(f"cannot work in {out.parent}: {error.strerror}") from error


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

    n_samples = 0
    blocks = generator.generate(features, seed=seed, progress=progress)
    first = next(blocks)
    with soundfile.SoundFile(
        path, "w", SAMPLE_RATE_HZ, channels=first.shape[0], subtype="FLOAT", format="WAV"
    ) as file:
        while first is not None:
            file.write(first.T)
            n_samples += first.shape[1]
            first = next(blocks, None)  # type: ignore[arg-type]
    return n_samples


def own_sound(video: Path) -> Samples | None:
    """A video's own sound, mono at 22,050 Hz, or None."""
    sound = read_sound(video, rate_hz=SAMPLE_RATE_HZ)
    return None if sound is None else sound.mean(axis=0)
