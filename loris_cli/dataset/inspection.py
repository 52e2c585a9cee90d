"""Integrity check and statistics of a data set."""

import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from loris_cli.config import POSE_FPS, SAMPLE_RATE_HZ
from loris_cli.dataset.clip_cutting import ACTIVITY_OF_SUBSET
from loris_cli.dataset.manifest import PARTITIONS, RHYTHM_ARRAYS, Clip, read_manifest_rows
from loris_cli.dataset.records import hash_file
from loris_cli.errors import InputError
from loris_cli.pose.keypoints import read_poses
from loris_cli.soundtrack.visual_features import read_visual_npz

PAPER_CLIP_COUNTS = {"da25": 1881, "fe25": 1950, "fe50": 660, "fs25": 8585, "fs50": 4147}
"""Number of clips per subset, from LORIS, Sec. 4.1."""
ACTIVITY_TITLES = {"dance": "dance", "floor": "floor exercise", "skate": "figure skating"}


def find_problems(data_dir: Path) -> Iterator[str]:
    """Find missing, damaged and inconsistent files of a data set.

    Every file is read. Its SHA-256 is compared with the manifest if recorded there, and its
    content is checked.

    Yields:
        one line per problem.

    Raises:
        InputError: the manifest cannot be read.
    """
    for clip, row in read_manifest_rows(data_dir):
        hashes = row.get("files", {})
        for name in sorted({*clip.file_paths, *hashes}):
            path, file = data_dir / name, hashes.get(name, {})
            if not path.is_file():
                yield f"{clip.id}: {name} is missing"
            elif name in hashes and hash_file(path) != (file.get("sha256"), file.get("bytes")):
                yield f"{clip.id}: {name} does not match its SHA-256 or size"
        for name in clip.file_paths:
            if (data_dir / name).is_file():
                try:
                    _check_content(data_dir / name, name, clip)
                except InputError as error:
                    yield f"{clip.id}: {error}"


def _check_content(path: Path, name: str, clip: Clip) -> None:
    """Raise ``InputError`` if the content of a file is damaged or does not match its clip."""
    if name == clip.audio:
        _check_audio(path, name, clip.duration_s)
    elif name == clip.rhythm:
        _check_rhythm(path, name)
    elif name == clip.poses:
        n_frames = read_poses(path).n_frames
        if n_frames != round(clip.duration_s * POSE_FPS):
            raise InputError(f"{name}: wrong number of frames: {n_frames}")
    else:
        read_visual_npz(path, duration_s=clip.duration_s)


def _check_audio(path: Path, name: str, duration_s: float) -> None:
    try:
        info = soundfile.info(path)
    except soundfile.LibsndfileError as error:
        raise InputError(f"{name} is not an audio file") from error
    if (info.samplerate, info.channels) != (SAMPLE_RATE_HZ, 1):
        raise InputError(f"{name} is not mono at {SAMPLE_RATE_HZ} Hz")
    if info.frames != round(duration_s * SAMPLE_RATE_HZ):
        raise InputError(
            f"{name}: duration is {info.duration:.2f} s, expected {duration_s:g} s"
        )


def _check_rhythm(path: Path, name: str) -> None:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as npz:
            arrays = dict(npz)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"cannot read {name}: {error}") from error
    if missing := [array for array in RHYTHM_ARRAYS if array not in arrays]:
        raise InputError(f"{name} has no array {missing[0]}")
    if any(not np.isfinite(values).all() for values in arrays.values()):
        raise InputError(f"{name} contains NaN or infinite values")


@dataclass(frozen=True, kw_only=True)
class SubsetStats:
    """Statistics of a subset."""

    subset: str
    activity: str
    median_duration_s: float
    """Median duration of the clips."""
    n_clips: int
    clips_per_partition: dict[str, int]
    total_hours: float
    n_sources: int
    n_with_poses: int
    n_synthetic: int
    n_genres: int
    n_paper_clips: int | None
    """Number of clips in the paper's data set; None for a subset that the paper lacks."""


def compute_subset_stats(data_dir: Path) -> list[SubsetStats]:
    """Compute the statistics of each subset: first those of the paper, then others by name.

    Raises:
        InputError: the manifest cannot be read.
    """
    rows = read_manifest_rows(data_dir)
    order = {subset: k for k, subset in enumerate(ACTIVITY_OF_SUBSET)}
    subsets = {clip.subset for clip, _ in rows}
    stats = []
    for subset in sorted(subsets, key=lambda name: (order.get(name, len(order)), name)):
        inside = [(clip, row) for clip, row in rows if clip.subset == subset]
        clips = [clip for clip, _ in inside]
        partitions = Counter(clip.partition for clip in clips)
        stats.append(
            SubsetStats(
                subset=subset,
                activity=ACTIVITY_TITLES.get(ACTIVITY_OF_SUBSET.get(subset, ""), "music"),
                median_duration_s=float(np.median([clip.duration_s for clip in clips])),
                n_clips=len(clips),
                clips_per_partition={name: partitions[name] for name in PARTITIONS},
                total_hours=sum(clip.duration_s for clip in clips) / 3600,
                n_sources=len({row.get("source_sha256", clip.source) for clip, row in inside}),
                n_with_poses=sum(bool(clip.poses) for clip in clips),
                n_synthetic=sum(clip.synthetic for clip in clips),
                n_genres=len({clip.genre for clip in clips if clip.genre}),
                n_paper_clips=PAPER_CLIP_COUNTS.get(subset),
            )
        )
    return stats
