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
from loris_cli.soundtrack.visual_features import read_dataset_visual_features


def read_clip_audio(data_dir: Path, clip: Clip) -> NDArray[np.float32]:
    """A clip's sound, mono at 22,050 Hz, ``(samples,)``."""
    samples, _ = soundfile.read(data_dir / clip.audio, dtype="float32")
    sound: NDArray[np.float32] = samples
    return sound


def read_clip_visual_features(data_dir: Path, clip: Clip, encoder: str) -> NDArray[np.float64]:
    """Features of a clip's picture, ``(rows, width)``, two rows a second.

    Raises:
        InputError: it has none of this maker, or they are damaged.
    """
    if encoder not in clip.visual:
        raise InputError(
            f"{clip.id} has no features of the picture by {encoder}",
            hint="make them with `loris prep --visual`",
        )
    return read_dataset_visual_features(
        data_dir / clip.visual[encoder], duration_s=clip.duration_s
    )


def read_rhythm_features(data_dir: Path, clip: Clip) -> ClipFeatures:
    """The given rhythm of a clip, as a generator is told it: without chords and notes."""
    return replace(read_annotations(data_dir, clip), harmony=None, arrangement=None)


def read_annotations(data_dir: Path, clip: Clip) -> ClipFeatures:
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
    with np.load(data_dir / clip.rhythm, allow_pickle=False) as arrays:
        harmony = None
        if "degrees" in arrays:
            harmony = Harmony(
                tonic=int(arrays["key"]),
                scale=tuple(arrays["scale"].tolist()),
                chord_starts_s=arrays["starts_s"],
                chord_degrees=arrays["degrees"],
                subdivisions_s=arrays["pulses_s"],
                beats_s=arrays["beats_s"],
            )
        arrangement = None
        if "notes" in arrays:
            arrangement = Arrangement(
                note_array=arrays["notes"].astype(np.float64),
                channel_programs={
                    int(channel): int(kind) for channel, kind in arrays["programs"]
                },
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


def read_pose_features(data_dir: Path, clip: Clip) -> ClipFeatures | None:
    """A clip as the body that dances to it tells of it, or None if there is no body."""
    if not clip.poses:
        return None
    keypoints = read_poses(data_dir / clip.poses).keypoints
    lesson = replace(read_annotations(data_dir, clip), keypoints=keypoints)
    with np.load(data_dir / clip.rhythm, allow_pickle=False) as arrays:
        return replace(
            lesson,
            peaks_s=arrays["seen_peaks_s"],
            strengths=arrays["seen_strengths"],
            energy=arrays["seen_energy"],
            timing_jitter=float(arrays["looseness"]),
        )
