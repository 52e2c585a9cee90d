"""Clips of an evaluation: from a data set subset, two folders, or two files.

manifest | two folders | two files -> clips with a reference, a visual rhythm and a source
"""

import shlex
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from loris_cli.dataset.manifest import (
    MANIFEST_FILE,
    POSE_RHYTHM_ARRAYS,
    SYNTHETIC_SOURCE,
    Clip,
    read_manifest,
)
from loris_cli.errors import InputError
from loris_cli.evaluation.runner.audio_sources import RecordedAudio
from loris_cli.evaluation.runner.paper_tables import PAPER_SUBSETS, load_published_tables
from loris_cli.system.atomic_files import printable_path
from loris_cli.system.input_paths import VIDEO_SUFFIXES

AUDIO_SUFFIXES = frozenset(".wav .flac .ogg .mp3 .aiff .aif .m4a .aac .opus".split())
MEDIA_SUFFIXES = AUDIO_SUFFIXES | VIDEO_SUFFIXES
"""Suffixes of the files that are read from a folder."""
SYNTHETIC_SUBSET = "synthetic"
"""Subset of synthetic music on which the built-in model is trained and tested."""
OFFICIAL_PARTITION = "official"
"""Partition name of the test clips of the authors' release."""
REQUIRED_ARRAYS = ("accents_s", "strengths", "energy")
"""Arrays of the rhythm file that generators require (docs/formats.md)."""

NO_POSES = (
    "has no poses, so the rhythm of its video is unknown; --rhythm-from-reference uses that of"
    " the reference audio, and marks the scores"
)

FilePair = tuple[str, Path, Path]
"""Common stem, generated file and reference file."""


@dataclass(frozen=True, kw_only=True)
class EvalClip:
    """A clip to score."""

    id: str
    groups: tuple[str, ...]
    """Song, dancer, source and video. Clips that share a group are resampled together and are
    never paired for the bound ``mismatched``."""
    reference: RecordedAudio | None
    """Reference audio; None for a video without audio."""
    visual_peaks_s: tuple[float, ...] | None = None
    """Times of the visual rhythm in ascending seconds; None if unknown."""
    video: Path | None = None
    """Video file, if available."""
    is_synthetic: bool = False
    """True for a synthetic clip, False for a recording."""
    rhythm_from_reference: bool = False
    """Whether systems receive the rhythm of the reference audio, because there are no poses."""
    manifest_clip: Clip | None = None
    """Manifest row; None for a clip that is not from a data set."""


@dataclass(frozen=True, kw_only=True)
class SkippedClip:
    """A clip that is not scored, with the reason."""

    clip_id: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class SubsetStatus:
    """Number of clips in a subset of the data set."""

    name: str
    partition_counts: tuple[int, int, int]
    """Number of clips in train, val and test."""
    n_published_test_clips: int | None
    """Number of test clips in the authors' release; None for a subset that it lacks."""
    n_missing_test_clips: int
    """Number of test clips with missing files."""


def list_subsets(data_dir: Path) -> list[SubsetStatus]:
    """List all subsets, including empty ones; the subsets of the paper come first."""
    clips = read_manifest(data_dir) if (data_dir / MANIFEST_FILE).exists() else []
    known = [*PAPER_SUBSETS, SYNTHETIC_SUBSET]
    published = load_published_tables()["test_clips"]
    statuses = []
    for name in [*known, *sorted({clip.subset for clip in clips} - {*known})]:
        members = [clip for clip in clips if clip.subset == name]
        counts = Counter(clip.partition for clip in members)
        tests = [(clip.audio, clip.rhythm) for clip in members if clip.partition == "test"]
        n_missing = sum(not all((data_dir / name).is_file() for name in pair) for pair in tests)
        status = SubsetStatus(
            name=name,
            partition_counts=(counts["train"], counts["val"], counts["test"]),
            n_published_test_clips=published.get(name),
            n_missing_test_clips=n_missing,
        )
        statuses.append(status)
    return statuses


def format_setup_command(subset: str, data_dir: Path) -> str:
    """Return the command that creates a subset, with synthetic clips for those of the paper."""
    folder = shlex.quote(printable_path(data_dir))
    if subset == SYNTHETIC_SUBSET:
        return f"loris dataset synthesize {folder} --music"
    return f"loris dataset synthesize {folder}"


def read_subset_clips(data_dir: Path, subset: str, *, partition: str = "test") -> list[Clip]:
    """Read the clips of a subset from the manifest.

    Args:
        data_dir: data set folder.
        subset: subset name, such as ``fe50``.
        partition: ``test``, ``val`` or ``train``; ``official`` is the test partition of the
            authors' release.

    Raises:
        InputError: there is no data set, or it has no clips of this subset and partition.
    """
    folder = printable_path(data_dir)
    setup = format_setup_command(subset, data_dir)
    if not (data_dir / MANIFEST_FILE).exists():
        raise InputError(f"no data set in {folder}", hint=setup)
    clips = read_manifest(data_dir)
    subsets = ", ".join(sorted({clip.subset for clip in clips})) or "none"
    if not any(clip.subset == subset for clip in clips):
        raise InputError(
            f"no subset {subset!r} in {folder}, available subsets: {subsets}", hint=setup
        )
    members = [clip for clip in clips if clip.subset == subset]
    if partition == OFFICIAL_PARTITION:
        selected = [clip for clip in members if clip.official_partition == "test"]
        if not selected:
            raise InputError(
                f"the data set has no official test clips of {subset!r}",
                hint="import the released clips and lists: loris dataset import",
            )
        return selected
    selected = [clip for clip in members if clip.partition == partition]
    if not selected:
        others = sorted({clip.subset for clip in clips if clip.partition == partition})
        hint = f"the data set has {', '.join(others) or f'no {partition} clips'}"
        raise InputError(f"the data set has no {partition} clips of {subset!r}", hint=hint)
    return selected


def build_eval_clip(
    data_dir: Path, clip: Clip, *, rhythm_from_reference: bool = False
) -> EvalClip | SkippedClip:
    """Convert a clip of a data set. The audio file is probed but not decoded.

    Args:
        data_dir: data set folder.
        clip: manifest row of the clip.
        rhythm_from_reference: for a clip without poses, use the rhythm of the reference audio.

    Returns:
        the clip; a `SkippedClip` if a file is missing or damaged, or there are no poses.
    """
    if not clip.poses and not rhythm_from_reference:
        return SkippedClip(clip_id=clip.id, reason=NO_POSES)

    def skip(name: str, problem: str) -> SkippedClip:
        return SkippedClip(clip_id=clip.id, reason=f"{printable_path(name)} {problem}")

    if clip.poses and not (data_dir / clip.poses).is_file():
        return skip(clip.poses, "is missing")
    try:
        soundfile.info(data_dir / clip.audio)
        with np.load(data_dir / clip.rhythm, allow_pickle=False) as arrays:
            required = (*REQUIRED_ARRAYS, *(POSE_RHYTHM_ARRAYS if clip.poses else ()))
            missing = [name for name in required if name not in arrays]
            if missing:
                return skip(clip.rhythm, f"has no array {', '.join(missing)}")
            damaged = [name for name in required if not np.isfinite(arrays[name]).all()]
            if damaged:
                return skip(clip.rhythm, f"contains NaN or infinite {', '.join(damaged)}")
            # The pose rhythm takes precedence, as for a video.
            peaks_s = np.asarray(arrays["pose_peaks_s" if clip.poses else "accents_s"])
            visual_peaks_s = tuple(peaks_s.astype(np.float64).tolist())
    except soundfile.LibsndfileError:
        return skip(clip.audio, "cannot be read")
    except (OSError, ValueError, TypeError, KeyError):
        return skip(clip.rhythm, "cannot be read")
    return EvalClip(
        id=clip.id,
        groups=clip.all_groups,
        reference=RecordedAudio(path=data_dir / clip.audio),
        visual_peaks_s=visual_peaks_s,
        is_synthetic=clip.synthetic or clip.source == SYNTHETIC_SOURCE,
        rhythm_from_reference=not clip.poses,
        manifest_clip=clip,
    )


def pair_files(generated: Path, reference: Path) -> tuple[list[FilePair], list[SkippedClip]]:
    """Pair the files of two folders by stem, or pair two files regardless of their names.

    The prefixes of the authors' script are removed: ``generated_3`` and ``gt_3`` both have the
    stem ``3``.

    Returns:
        stem, generated file and reference file of each pair, sorted by stem; unpaired files.

    Raises:
        InputError: one path is a folder and the other a file, the folders have no stem in
            common, or two files of one folder have the same stem.
    """
    names = (printable_path(generated), printable_path(reference))
    if generated.is_dir() != reference.is_dir():
        problem = f"{names[0]} and {names[1]} are a folder and a file"
        raise InputError(problem, hint="pass two folders or two files")
    if not generated.is_dir():
        return [(generated.stem, generated, reference)], []
    generated_files = _index_by_stem(generated, "generated_")
    reference_files = _index_by_stem(reference, "gt_")
    both = sorted(set(generated_files) & set(reference_files))
    if not both:
        hint = "give each generated file the name of its reference, e.g. a.wav and a.wav"
        raise InputError(f"{names[0]} and {names[1]} have no file names in common", hint=hint)
    unpaired = [
        *((stem, "has no reference") for stem in sorted({*generated_files} - {*both})),
        *((stem, "has no generated file") for stem in sorted({*reference_files} - {*both})),
    ]
    pairs = [(stem, generated_files[stem], reference_files[stem]) for stem in both]
    return pairs, [SkippedClip(clip_id=stem, reason=reason) for stem, reason in unpaired]


def _index_by_stem(folder: Path, prefix: str) -> dict[str, Path]:
    paths: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in MEDIA_SUFFIXES or path.name.startswith("."):
            continue
        stem = path.stem.removesuffix(".loris").removeprefix(prefix)
        if stem in paths:
            raise InputError(f"{paths[stem]} and {path} have the same stem", hint="remove one")
        paths[stem] = path
    return paths
