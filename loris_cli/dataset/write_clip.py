"""One clip's files, what was measured of it, and its row of the manifest.

music -> accents, beats, energy; poses -> the rhythm they show -> FLAC, npz -> row
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from loris_cli.audio.accents import detect_accents
from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.dataset.clip_cutting import PrepSettings, Segment
from loris_cli.dataset.extract_poses import ExtractedPoses
from loris_cli.dataset.filters import list_rejection_reasons, measure_quality
from loris_cli.dataset.manifest import Clip
from loris_cli.dataset.records import Record, hash_file
from loris_cli.errors import OutputError
from loris_cli.pose.keypoints import Poses, write_poses
from loris_cli.rhythm.pose_rhythm import motion_energy, rhythm_from_poses
from loris_cli.soundtrack.clip_features import select_accents
from loris_cli.synthetic.dancer import MAX_TIMING_JITTER_S
from loris_cli.system.atomic_files import atomic_write, printable_path

Array = NDArray[np.float64]

MAX_MATCH_DISTANCE_S = 0.1
"""A peak of the body answers for an accent no further away."""
MIN_MATCHES = 4


def write_clip(
    clip: Clip,
    segment: Segment,
    data_dir: Path,
    *,
    mix: NDArray[np.float32],
    accompaniment: NDArray[np.float32],
    extracted_poses: ExtractedPoses | None,
    visual: Mapping[str, NDArray[np.float32]],
    frame_size_px: tuple[int, int],
    gaps_s: Sequence[tuple[float, float]],
    settings: PrepSettings,
) -> Record:
    """Write one clip's files and give its row, as far as the video knows it.

    Args:
        clip: what it is called and where its files belong; the poses' place is filled in.
        segment: which part of the source it is.
        data_dir: the data set's folder.
        mix: its own sound, mono at 22,050 Hz.
        accompaniment: what is kept of it, as long.
        extracted_poses: its body; None where nobody looked.
        visual: features of its picture, by who made them.
        frame_size_px: width and height of the source's picture, in px; zeros where unknown.
        gaps_s: where the source's frames are missing, from and to.
        settings: how it was made.
    """
    heard = detect_accents(accompaniment, settings.onset_detector)
    arrays: dict[str, Any] = {
        "accents_s": heard.accents_s,
        "strengths": heard.strengths,
        "energy": heard.energy,
        "beats_s": heard.beats_s,
    }
    written: dict[str, Callable[[Path], None]] = {}
    if extracted_poses is not None and extracted_poses.poses.detected_fraction:
        poses = extracted_poses.poses
        clip = replace(clip, poses=f"poses/{clip.id}.npz")
        written[clip.poses] = lambda path: write_poses(path, poses)
        arrays |= _pose_rhythm_arrays(poses, heard.accents_s)
    clip = replace(clip, visual={by: f"visual/{clip.id}.{by}.npz" for by in visual})
    written |= {clip.visual[by]: _features_writer(rows) for by, rows in visual.items()}
    written[clip.rhythm] = lambda path: np.savez(path, **arrays)
    written[clip.audio] = lambda path: _write_flac(path, accompaniment)
    files = {name: write_hashed_file(data_dir / name, write) for name, write in written.items()}
    measures = measure_quality(
        mix=mix,
        accompaniment=accompaniment,
        is_separated=settings.separator != "none",
        persons_per_frame=None
        if extracted_poses is None
        else extracted_poses.persons_per_frame,
        person_share=None
        if extracted_poses is None
        else round(extracted_poses.poses.detected_fraction, 4),
        gaps_s=gaps_s,
        span_s=(segment.start_s, segment.stop_s),
    )
    return asdict(clip) | {
        "start_s": segment.start_s,
        "files": files,
        "size": list(frame_size_px),
        "poses_from": settings.pose_estimator,
        "separator": settings.separator,
        "visual_sha256": settings.visual_weights_sha256,
        "made_up": settings.synthetic,
        "measures": asdict(measures),
        "rejected": list_rejection_reasons(measures) if settings.reject_unfit else [],
    }


def _features_writer(rows: NDArray[np.float32]) -> Callable[[Path], None]:
    return lambda path: np.savez(path, features=rows)


def write_hashed_file(path: Path, write: Callable[[Path], None]) -> dict[str, Any]:
    """Write a file, whole or not at all, and give what is told of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path, overwrite=True) as hidden:
        write(hidden)
    sha256, n_bytes = hash_file(path)
    return {"sha256": sha256, "bytes": n_bytes}


def _pose_rhythm_arrays(poses: Poses, accents_s: Array) -> dict[str, Array]:
    """The rhythm that a body shows, and how near it keeps to the music."""
    rhythm = rhythm_from_poses(
        poses.keypoints, fps=poses.fps, frame_interval_s=poses.frame_interval_s, cuts=poses.cuts
    )
    peaks_s, strengths = select_accents(rhythm.times_s, rhythm.strengths)
    return {
        "seen_peaks_s": peaks_s,
        "seen_strengths": strengths,
        "seen_energy": motion_energy(poses.keypoints, poses.fps, cuts=poses.cuts),
        "looseness": np.array(measure_timing_jitter(peaks_s, accents_s)),
    }


def measure_timing_jitter(pose_peaks_s: Array, accents_s: Array) -> float:
    """How far a body's peaks stray from the accents they meet.

    Args:
        pose_peaks_s: of the body, ``(peaks,)``.
        accents_s: of the music, ``(accents,)``.

    Returns:
        standard deviation of their distances, of 40 ms, 0..1; 1 where few meet.
    """
    if not len(pose_peaks_s) or not len(accents_s):
        return 1.0
    distance_s = accents_s[None, :] - pose_peaks_s[:, None]
    nearest_s = distance_s[np.arange(len(pose_peaks_s)), np.abs(distance_s).argmin(axis=1)]
    met_s = nearest_s[np.abs(nearest_s) <= MAX_MATCH_DISTANCE_S]
    if len(met_s) < MIN_MATCHES:
        return 1.0
    return float(min(met_s.std() / MAX_TIMING_JITTER_S, 1.0))


def _write_flac(path: Path, samples: NDArray[np.float32]) -> None:
    """FLAC of 16 bits; what is beyond full scale is brought down, not cut."""
    peak = float(np.abs(samples).max(initial=0.0))
    try:
        soundfile.write(path, samples / max(peak, 1.0), SAMPLE_RATE_HZ, format="FLAC")
    except soundfile.LibsndfileError as error:  # it does not say that the disk is full
        raise OutputError(
            f"{printable_path(path)} cannot be written: {error}",
            hint="free some space, or make the data set on another disk with --data",
        ) from error
