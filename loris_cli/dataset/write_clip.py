"""Write the files of a clip and build its manifest row with quality measures.

accompaniment -> accents, beats, energy; poses -> pose rhythm -> FLAC, npz -> row
"""

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from loris_cli.array_types import Array
from loris_cli.audio.accents import detect_accents
from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.dataset.clip_cutting import PrepSettings, Segment
from loris_cli.dataset.clip_media import ClipMedia
from loris_cli.dataset.filters import list_rejection_reasons, measure_quality
from loris_cli.dataset.manifest import RHYTHM_ARRAYS, Clip
from loris_cli.dataset.records import Record, hash_file
from loris_cli.dataset.source_names import SourceInfo
from loris_cli.errors import OutputError
from loris_cli.pose.keypoints import Poses, write_poses
from loris_cli.rhythm.pose_rhythm import motion_energy
from loris_cli.soundtrack import video_analysis
from loris_cli.soundtrack.clip_features import select_accented_peaks
from loris_cli.system.atomic_files import atomic_write


def write_clip(
    media: ClipMedia,
    *,
    clip_id: str,
    segment: Segment,
    source_name: str,
    source: SourceInfo,
    data_dir: Path,
    settings: PrepSettings,
) -> Record:
    """Write the files of a clip and return its manifest row.

    Args:
        media: audio, poses and visual features of the clip.
        clip_id: id of the clip and stem of its files.
        segment: position of the clip in its source.
        source_name: name of the source.
        source: activity, genre and groups of the source.
        data_dir: data set folder.
        settings: preparation settings.
    """
    accents = detect_accents(media.accompaniment, settings.onset_detector)
    arrays: dict[str, Any] = {name: getattr(accents, name) for name in RHYTHM_ARRAYS}
    writers: dict[str, Callable[[Path], None]] = {}
    poses_path = ""
    if media.poses is not None and media.poses.detected_fraction:
        poses_path = f"poses/{clip_id}.npz"
        writers[poses_path] = partial(write_poses, poses=media.poses)
        arrays |= compute_pose_rhythm_arrays(media.poses)
    visual = {encoder: f"visual/{clip_id}.{encoder}.npz" for encoder in media.visual}
    for encoder, features in media.visual.items():
        writers[visual[encoder]] = partial(np.savez, features=features)
    clip = Clip(
        id=clip_id,
        subset=segment.subset,
        partition=settings.partition,
        duration_s=segment.duration_s,
        genre=source.genre,
        source=source_name,
        audio=f"audio/{clip_id}.flac",
        rhythm=f"rhythm/{clip_id}.npz",
        poses=poses_path,
        visual=visual,
        synthetic=settings.synthetic,
    )
    writers[clip.rhythm] = partial(np.savez, **arrays)
    writers[clip.audio] = partial(write_flac, samples=media.accompaniment)
    measures = measure_quality(media, segment, separated=settings.separator != "none")
    return asdict(clip) | {
        "start_s": segment.start_s,
        "files": {name: write_hashed_file(data_dir / name, writers[name]) for name in writers},
        "frame_size_px": list(media.frame_size_px),
        "pose_source": settings.pose_estimator,
        "separator": settings.separator,
        "visual_weights_sha256": settings.visual_weights_sha256,
        "quality_measures": asdict(measures),
        "rejection_reasons": list_rejection_reasons(measures) if settings.reject_unfit else [],
        "groups": list(source.groups),
    }


def write_hashed_file(path: Path, write: Callable[[Path], None]) -> dict[str, Any]:
    """Write a file atomically and return its ``sha256`` and ``bytes``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path, overwrite=True) as temporary:
        write(temporary)
    sha256, n_bytes = hash_file(path)
    return {"sha256": sha256, "bytes": n_bytes}


def compute_pose_rhythm_arrays(poses: Poses) -> dict[str, Array]:
    """Return the arrays of the rhythm file that are computed from poses.

    Args:
        poses: poses of the clip.

    Returns:
        ``pose_peaks_s``, times in seconds, ``(peaks,)``, ascending; ``pose_peak_strengths``,
        ``(peaks,)``, 0.3..1; ``motion_energy``, ``(frames,)``, 0..1.
    """
    rhythm = video_analysis.compute_pose_rhythm(poses)
    peaks_s, strengths = select_accented_peaks(rhythm.times_s, rhythm.strengths)
    return {
        "pose_peaks_s": peaks_s,
        "pose_peak_strengths": strengths,
        "motion_energy": motion_energy(poses.keypoints, poses.fps, cuts=poses.cuts),
    }


def write_flac(path: Path, samples: NDArray[np.floating]) -> None:
    """Write 16-bit FLAC at 22,050 Hz.

    Args:
        path: output file.
        samples: mono, ``(samples,)``, full scale 1; audio that exceeds it is normalized instead
            of clipped.

    Raises:
        OutputError: the file cannot be written.
    """
    peak = float(np.abs(samples).max(initial=0.0))
    try:
        soundfile.write(path, samples / max(peak, 1.0), SAMPLE_RATE_HZ, format="FLAC")
    except soundfile.LibsndfileError as error:  # raised for a full disk too
        raise OutputError(
            f"cannot write {path}: {error}", hint="free disk space or choose another --data"
        ) from error
