"""Builders of the records and files that many tests share, with defaults for every field."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import ArrayLike

from loris_cli.array_types import Array, Float32Array
from loris_cli.config import POSE_FPS, SAMPLE_RATE_HZ
from loris_cli.dataset.manifest import Clip
from loris_cli.models.generator_interface import ClipFeatures
from loris_cli.pose.keypoints import Poses


def make_clip(clip_id: str = "a", **fields: Any) -> Clip:
    """Row of a manifest: a training clip of 6 s with audio and rhythm, named after its id."""
    defaults: dict[str, Any] = {
        "subset": "clicks",
        "partition": "train",
        "duration_s": 6.0,
        "genre": "pop",
        "source": f"source-{clip_id}",
        "audio": f"audio/{clip_id}.flac",
        "rhythm": f"rhythm/{clip_id}.npz",
    }
    return Clip(id=clip_id, **{**defaults, **fields})


def write_clip(
    folder: Path,
    clip: Clip,
    audio: Array | Float32Array,
    accents_s: Array,
    *,
    energy: ArrayLike = 0.5,
    **arrays: ArrayLike,
) -> None:
    """Write the audio and the rhythm of a clip below the folder of its data set.

    Args:
        folder: folder of the data set.
        clip: row of its manifest.
        audio: samples, ``(samples,)`` at 22,050 Hz.
        accents_s: times of the accents, all of strength 1.
        energy: motion energy, 0..1: one value, or one for each of the clip's frames at 16 Hz.
        arrays: more arrays of the rhythm file.
    """
    for path in clip.file_paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(folder / clip.audio, audio, SAMPLE_RATE_HZ)
    if clip.rhythm:
        n_frames = round(clip.duration_s * POSE_FPS)
        rhythm: dict[str, Any] = {
            "accents_s": accents_s,
            "strengths": np.ones(len(accents_s)),
            "energy": np.broadcast_to(energy, n_frames),
            "beats_s": np.empty(0),
            **arrays,
        }
        np.savez(folder / clip.rhythm, **rhythm)


def make_features(
    duration_s: float, peaks_s: ArrayLike | None = None, **fields: Any
) -> ClipFeatures:
    """Features of a clip: a peak of strength 1 every half second, energy 0.5."""
    peaks = np.arange(0.5, duration_s, 0.5) if peaks_s is None else np.asarray(peaks_s)
    defaults: dict[str, Any] = {
        "strengths": np.ones(len(peaks)),
        "energy": np.full(max(round(duration_s * POSE_FPS), 1), 0.5),
    }
    return ClipFeatures(duration_s=duration_s, peaks_s=peaks, **{**defaults, **fields})


def make_poses(
    keypoints: ArrayLike,
    *,
    size: tuple[int, int] = (160, 120),
    interpolated: ArrayLike = False,
    cuts: Sequence[int] = (),
    frame_interval_s: float | None = None,
    source_times_s: ArrayLike | None = None,
) -> Poses:
    """Poses at 16 fps of keypoints ``(frames, 17, 2 or 3)``; scores are 0.9 if absent."""
    points = np.asarray(keypoints, np.float32)
    if points.shape[2] == 2:
        scores = np.full((*points.shape[:2], 1), 0.9, np.float32)
        points = np.concatenate([points, scores], axis=2)
    n_frames = len(points)
    return Poses(
        keypoints=points,
        times_s=np.arange(n_frames) / POSE_FPS,
        fps=float(POSE_FPS),
        size=size,
        interpolated=np.array(np.broadcast_to(interpolated, n_frames), dtype=bool),
        cuts=np.array(cuts, np.int64),
        frame_interval_s=frame_interval_s,
        source_times_s=None if source_times_s is None else np.asarray(source_times_s),
    )
