"""Read the files of a clip: audio, visual features, annotations, pose features."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from loris_cli.array_types import Array, Float32Array
from loris_cli.composition.arrangement import Arrangement
from loris_cli.composition.chords import Harmony
from loris_cli.composition.production import PRODUCTION_CHANNELS
from loris_cli.config import POSE_FPS
from loris_cli.dataset.manifest import Clip
from loris_cli.errors import InputError
from loris_cli.models.generator_interface import ClipFeatures, VideoFeatures
from loris_cli.pose.keypoints import read_poses
from loris_cli.soundtrack.visual_features import read_visual_npz

HARMONY_ARRAYS = ("chord_starts_s", "chord_degrees", "subdivisions_s", "beats_s")
"""Arrays of a rhythm file with chords that have the same names as fields of `Harmony`."""


def read_clip_audio(data_dir: Path, clip: Clip) -> Float32Array:
    """Return the audio of a clip, mono at 22,050 Hz, ``(samples,)``."""
    samples: Float32Array = soundfile.read(data_dir / clip.audio, dtype="float32")[0]
    return samples


def read_clip_visual_features(data_dir: Path, clip: Clip, encoder: str) -> Array:
    """Return the visual features of a clip, ``(rows, width)``, 2 rows per second.

    Raises:
        InputError: the clip has no features of this encoder, or they are damaged.
    """
    if encoder not in clip.visual:
        raise InputError(
            f"{clip.id} has no {encoder} features", hint="use `loris prep --visual-features`"
        )
    return read_visual_npz(data_dir / clip.visual[encoder], duration_s=clip.duration_s)


def read_rhythm_features(data_dir: Path, clip: Clip) -> VideoFeatures:
    """Return the rhythm of a clip's audio in place of a visual rhythm."""
    return read_annotations(data_dir, clip).without_score()


def read_video_features(data_dir: Path, clip: Clip) -> VideoFeatures | None:
    """Return the features of a clip as extracted from its video; None without poses."""
    features = read_pose_features(data_dir, clip)
    return features and features.without_score()


def read_annotations(data_dir: Path, clip: Clip) -> ClipFeatures:
    """Return the rhythm of a clip's audio, with chords and notes if available.

    For a clip without a rhythm file the peaks are empty and the energy is zero.

    Raises:
        InputError: the recorded production is damaged.
    """
    if not clip.rhythm:
        return ClipFeatures(
            duration_s=clip.duration_s,
            peaks_s=np.empty(0),
            strengths=np.empty(0),
            energy=np.zeros(round(clip.duration_s * POSE_FPS)),
            genre=clip.genre or None,
        )
    with np.load(data_dir / clip.rhythm, allow_pickle=False) as arrays:
        harmony = None
        if "chord_degrees" in arrays:
            tonic, scale = int(arrays["tonic"]), tuple(arrays["scale"].tolist())
            sequences = {name: arrays[name] for name in HARMONY_ARRAYS}
            harmony = Harmony(tonic=tonic, scale=scale, **sequences)
        arrangement = None
        if "notes" in arrays:
            notes = arrays["notes"].astype(np.float64)
            programs = dict(arrays["channel_programs"].tolist())
            arrangement = Arrangement(note_array=notes, channel_programs=programs)
        return ClipFeatures(
            duration_s=clip.duration_s,
            peaks_s=arrays["accents_s"],
            strengths=arrays["strengths"],
            energy=arrays["energy"],
            genre=clip.genre or None,
            harmony=harmony,
            arrangement=arrangement,
            production=_read_production(arrays, clip),
        )


def _read_production(arrays: Mapping[str, Any], clip: Clip) -> Float32Array | None:
    """Return the production of a clip; None if it is not recorded."""
    if "production" not in arrays:
        return None
    production: Float32Array = arrays["production"]
    is_vector = production.dtype.kind == "f" and production.shape == (PRODUCTION_CHANNELS,)
    if not is_vector or not np.isfinite(production).all():
        raise InputError(
            f"{clip.rhythm} has an invalid production",
            hint="synthesize the data set again (loris dataset synthesize)",
        )
    return production


def read_pose_features(data_dir: Path, clip: Clip) -> ClipFeatures | None:
    """Return the rhythm of a clip's poses, with chords and notes; None without poses."""
    if not clip.poses:
        return None
    with np.load(data_dir / clip.rhythm, allow_pickle=False) as arrays:
        return replace(
            read_annotations(data_dir, clip),
            keypoints=read_poses(data_dir / clip.poses).keypoints,
            peaks_s=arrays["pose_peaks_s"],
            strengths=arrays["pose_peak_strengths"],
            energy=arrays["motion_energy"],
        )
