"""A data set looked at: whole or damaged, what it holds, what a person should look at again."""

import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from loris_cli.config import POSE_FPS, SAMPLE_RATE_HZ
from loris_cli.dataset.build_manifest import is_accepted, read_all_clips, read_decisions
from loris_cli.dataset.clip_cutting import CUT_SUBSETS
from loris_cli.dataset.manifest import Clip, read_manifest, read_manifest_rows
from loris_cli.dataset.records import Record, hash_file
from loris_cli.errors import InputError
from loris_cli.pose.keypoints import read_poses
from loris_cli.soundtrack.visual_features import read_dataset_visual_features

RHYTHM_ARRAYS = ("accents_s", "strengths", "energy", "beats_s")
PAPER_CLIP_COUNTS = {"da25": 1881, "fe25": 1950, "fe50": 660, "fs25": 8585, "fs50": 4147}
"""LORIS, Sec. 4.1."""


def find_problems(data_dir: Path) -> Iterator[str]:
    """What is missing, damaged or out of place in a data set, one line each.

    Every file is read: those with a known sha256 against it, all of them for what they hold.

    Raises:
        InputError: it has no manifest that can be read.
    """
    read_manifest(data_dir)  # ids and paths are as they should be
    for clip, row in read_manifest_rows(data_dir):
        told = row.get("files", {})
        names = {*clip.file_paths, *told}
        there = {name for name in names if (data_dir / name).is_file()}
        yield from (f"{clip.id}: {name} is missing" for name in sorted(names - there))
        for name in sorted(there & set(told)):
            if hash_file(data_dir / name) != (
                told[name].get("sha256"),
                told[name].get("bytes"),
            ):
                yield f"{clip.id}: {name} is damaged or was changed"
        yield from _check_contents(data_dir, clip, there)


def _check_contents(data_dir: Path, clip: Clip, present_files: set[str]) -> Iterator[str]:
    """What is wrong with the content of the files that are there."""
    if clip.audio in present_files:
        yield from _check_audio(data_dir / clip.audio, clip)
    if clip.rhythm in present_files:
        yield from _check_rhythm(data_dir / clip.rhythm, clip)
    for name in sorted(set(clip.visual.values()) & present_files):
        try:
            read_dataset_visual_features(data_dir / name, duration_s=clip.duration_s)
        except InputError as error:
            yield f"{clip.id}: {error}"
    if clip.poses in present_files:
        try:
            poses = read_poses(data_dir / clip.poses)
        except InputError as error:
            yield f"{clip.id}: {error}"
        else:
            if poses.n_frames != round(clip.duration_s * POSE_FPS):
                yield f"{clip.id}: {clip.poses} has {poses.n_frames} frames"


def _check_audio(path: Path, clip: Clip) -> Iterator[str]:
    try:
        told = soundfile.info(path)
    except soundfile.LibsndfileError:
        yield f"{clip.id}: {clip.audio} is no sound file"
        return
    if (told.samplerate, told.channels) != (SAMPLE_RATE_HZ, 1):
        yield f"{clip.id}: {clip.audio} is not mono at {SAMPLE_RATE_HZ} Hz"
    elif told.frames != round(clip.duration_s * SAMPLE_RATE_HZ):
        yield f"{clip.id}: {clip.audio} lasts {told.duration:.2f} s, not {clip.duration_s:g} s"


def _check_rhythm(path: Path, clip: Clip) -> Iterator[str]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            lacking = [name for name in RHYTHM_ARRAYS if name not in arrays]
            if not lacking and any(not np.isfinite(arrays[name]).all() for name in arrays):
                yield f"{clip.id}: {clip.rhythm} holds what is no number"
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        yield f"{clip.id}: {clip.rhythm} cannot be read: {error}"
        return
    if lacking:
        yield f"{clip.id}: {clip.rhythm} has no {lacking[0]}"


@dataclass(frozen=True, kw_only=True)
class SubsetStats:
    """What a subset holds."""

    subset: str
    activity: str
    median_duration_s: float
    """Length of a clip."""
    n_clips: int
    clips_per_partition: dict[str, int]
    total_hours: float
    n_sources: int
    n_with_poses: int
    n_synthetic: int
    n_genres: int


def compute_subset_stats(data_dir: Path) -> list[SubsetStats]:
    """The columns of the paper's table 1 for what is on disk, a subset a row.

    Raises:
        InputError: it has no manifest that can be read.
    """
    rows = read_manifest_rows(data_dir)
    found = []
    for subset in sorted({clip.subset for clip, _ in rows}, key=_subset_order):
        ours = [(clip, row) for clip, row in rows if clip.subset == subset]
        splits = [clip.partition for clip, _ in ours]
        found.append(
            SubsetStats(
                subset=subset,
                activity=_activity_name(subset),
                median_duration_s=float(np.median([clip.duration_s for clip, _ in ours])),
                n_clips=len(ours),
                clips_per_partition={
                    name: splits.count(name) for name in ("train", "val", "test")
                },
                total_hours=sum(clip.duration_s for clip, _ in ours) / 3600,
                n_sources=len({row.get("source_sha256", clip.source) for clip, row in ours}),
                n_with_poses=sum(bool(clip.poses) for clip, _ in ours),
                n_synthetic=sum(_is_synthetic(clip, row) for clip, row in ours),
                n_genres=len({clip.genre for clip, _ in ours if clip.genre}),
            )
        )
    return found


def _is_synthetic(clip: Clip, row: Record) -> bool:
    return bool(row.get("made_up", clip.source == "synthesised"))


def _subset_order(subset: str) -> tuple[int, str]:
    return (CUT_SUBSETS.index(subset) if subset in CUT_SUBSETS else len(CUT_SUBSETS), subset)


def _activity_name(subset: str) -> str:
    contents = {"da": "dance", "fe": "floor exercise", "fs": "figure skating"}
    return contents.get(subset[:2], "music")


@dataclass(frozen=True, kw_only=True)
class ReviewItem:
    """A clip that a person should look at again."""

    id: str
    source: str
    start_s: float
    reasons: tuple[str, ...]
    accepted: bool


def list_review_items(data_dir: Path) -> list[ReviewItem]:
    """Clips that were set aside, or about which a person has decided, with the reasons.

    Raises:
        InputError: a record is damaged.
    """
    decisions = read_decisions(data_dir)
    return [
        ReviewItem(
            id=clip["id"],
            source=clip["source"],
            start_s=clip["start_s"],
            reasons=(*clip["rejected"], *filter(None, [decisions.get(clip["id"])])),
            accepted=is_accepted(clip, decisions),
        )
        for clip in read_all_clips(data_dir)
        if clip["rejected"] or clip["id"] in decisions
    ]
