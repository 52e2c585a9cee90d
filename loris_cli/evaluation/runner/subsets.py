"""Which splits there are, what of them is on disk, and how to get the rest."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from loris_cli.dataset.manifest import MANIFEST_FILE, Clip, read_manifest
from loris_cli.errors import InputError
from loris_cli.evaluation.runner.paper_tables import PAPER_SUBSETS, load_published_tables
from loris_cli.system.atomic_files import printable_path

SYNTHETIC_SUBSET = "synthetic"
"""The subset of made-up music that the embedded model is trained and tested on."""


@dataclass(frozen=True, kw_only=True)
class SubsetStatus:
    """A subset of the data set."""

    name: str
    partition_counts: tuple[int, int, int]
    """Clips to train, to validate, to test."""
    n_published_test_clips: int | None
    """Test clips of the authors' release; None of a subset that it lacks."""
    n_missing_test_clips: int
    """Test clips whose files are not there."""


def list_subsets(data_dir: Path) -> list[SubsetStatus]:
    """All splits, those that the paper has first; empty ones too."""
    clips = read_manifest(data_dir) if (data_dir / MANIFEST_FILE).exists() else []
    names = [
        *PAPER_SUBSETS,
        SYNTHETIC_SUBSET,
        *sorted({clip.subset for clip in clips} - {*PAPER_SUBSETS, SYNTHETIC_SUBSET}),
    ]
    found = []
    for name in names:
        inside = [clip for clip in clips if clip.subset == name]
        parts = Counter(clip.partition for clip in inside)
        found.append(
            SubsetStatus(
                name=name,
                partition_counts=(parts["train"], parts["val"], parts["test"]),
                n_published_test_clips=load_published_tables()["test_clips"].get(name),
                n_missing_test_clips=sum(
                    _has_missing_files(data_dir, clip)
                    for clip in inside
                    if clip.partition == "test"
                ),
            )
        )
    return found


def format_setup_commands(subset: str, data_dir: Path) -> str:
    """The commands that bring a split, a line each."""
    place = printable_path(data_dir)
    if subset == SYNTHETIC_SUBSET:
        return f"make it: loris dataset synthesize {place} --music"
    return (
        f"the stand-in, made up on this machine: loris dataset synthesize {place}\n"
        f"the real one, from the authors' release: loris dataset import RELEASE --data {place}"
    )


def read_manifest_with_subset(data_dir: Path, subset: str) -> list[Clip]:
    """The manifest, where it has clips of a split.

    Raises:
        InputError: there is no data set, or it has none; told with how to get it.
    """
    place = printable_path(data_dir)
    if not (data_dir / MANIFEST_FILE).exists():
        raise InputError(
            f"no data set in {place}", hint=format_setup_commands(subset, data_dir)
        )
    clips = read_manifest(data_dir)
    if not any(clip.subset == subset for clip in clips):
        there = ", ".join(sorted({clip.subset for clip in clips})) or "nothing"
        raise InputError(
            f"no split {subset!r} in {place}: it has {there}",
            hint=format_setup_commands(subset, data_dir),
        )
    return clips


def _has_missing_files(data_dir: Path, clip: Clip) -> bool:
    return not ((data_dir / clip.audio).is_file() and (data_dir / clip.rhythm).is_file())
