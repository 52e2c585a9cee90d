"""What a clip of a data set holds: its sound, the truth about it, what a body made of it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from loris_cli.composition.arrangement import Arrangement
from loris_cli.composition.chords import Harmony
from loris_cli.config import POSE_FPS
from loris_cli.dataset.manifest import Clip
from loris_cli.errors import InputError
from loris_cli.models.generator_interface import ClipFeatures
from loris_cli.pose.keypoints import read_poses
from loris_cli.soundtrack.visual_features import read_kept_visual


def read_sound(data: Path, clip: Clip) -> NDArray[np.float32]:
    """A clip's sound, mono at 22,050 Hz, ``(samples,)``."""
    samples, _ = soundfile.read(data / clip.audio, dtype="float32")
    sound: NDArray[np.float32] = samples
    return sound


def read_picture(data: Path, clip: Clip, maker: str) -> NDArray[np.float64]:
    """Features of a clip's picture, ``(rows, width)``, two rows a second.

    Raises:
        InputError: it has none of this maker, or they are damaged.
    """
    if maker not in clip.visual:
        raise InputError(
            f"{clip.id} has no features of the picture by {maker}",
            hint="make them with `loris prep --visual`",
        )
    return read_kept_visual(data / clip.visual[maker], duration_s=clip.duration_s)


def read_features(data: Path, clip: Clip) -> ClipFeatures:
    """The given rhythm of a clip, as a generator is told it: without chords and notes."""
    return replace(read_lesson(data, clip), harmony=None, arrangement=None)


def read_lesson(data: Path, clip: Clip) -> ClipFeatures:
    """The truth about a clip, with its chords and notes if they are known: to learn from.

    Of a clip with no rhythm beside it only the sound is known: it has no peaks here.
    """
    if not clip.rhythm:
        nothing = np.empty(0)
        return ClipFeatures(
            duration_s=clip.duration_s,
            peaks_s=nothing,
            strengths=nothing,
            energy=np.zeros(round(clip.duration_s * POSE_FPS)),
            genre=clip.genre or None,
        )
    with np.load(data / clip.rhythm, allow_pickle=False) as arrays:
        harmony = None
        if "degrees" in arrays:
            harmony = Harmony(
                key=int(arrays["key"]),
                scale=tuple(arrays["scale"].tolist()),
                starts_s=arrays["starts_s"],
                degrees=arrays["degrees"],
                pulses_s=arrays["pulses_s"],
                beats_s=arrays["beats_s"],
            )
        arrangement = None
        if "notes" in arrays:
            arrangement = Arrangement(
                table=arrays["notes"].astype(np.float64),
                programs={int(channel): int(kind) for channel, kind in arrays["programs"]},
            )
        return ClipFeatures(
            duration_s=clip.duration_s,
            peaks_s=arrays["accents_s"],
            strengths=arrays["strengths"],
            energy=arrays["energy"],
            genre=clip.genre or None,
            harmony=harmony,
            arrangement=arrangement,
        )


def read_danced(data: Path, clip: Clip) -> ClipFeatures | None:
    """A clip as the body that dances to it tells of it, or None if there is no body."""
    if not clip.poses:
        return None
    keypoints = read_poses(data / clip.poses).keypoints
    lesson = replace(read_lesson(data, clip), keypoints=keypoints)
    with np.load(data / clip.rhythm, allow_pickle=False) as arrays:
        return replace(
            lesson,
            peaks_s=arrays["seen_peaks_s"],
            strengths=arrays["seen_strengths"],
            energy=arrays["seen_energy"],
            looseness=float(arrays["looseness"]),
        )
