"""Which splits there are, what of them is on disk, and how to get the rest."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from loris_cli.dataset.manifest import NAME, Clip, read_manifest
from loris_cli.errors import InputError
from loris_cli.evaluation.runner.paper_tables import SUBSETS, published
from loris_cli.system.atomic_files import printable

MADE = "synthetic"
"""The subset of made-up music that the embedded model is trained and tested on."""


@dataclass(frozen=True, kw_only=True)
class Split:
    """A subset of the data set."""

    name: str
    counts: tuple[int, int, int]
    """Clips to train, to validate, to test."""
    n_published: int | None
    """Test clips of the authors' release; None of a subset that it lacks."""
    n_missing: int
    """Test clips whose files are not there."""


def splits_of(data: Path) -> list[Split]:
    """All splits, those that the paper has first; empty ones too."""
    clips = read_manifest(data) if (data / NAME).exists() else []
    names = [*SUBSETS, MADE, *sorted({clip.subset for clip in clips} - {*SUBSETS, MADE})]
    found = []
    for name in names:
        inside = [clip for clip in clips if clip.subset == name]
        parts = Counter(clip.split for clip in inside)
        found.append(
            Split(
                name=name,
                counts=(parts["train"], parts["val"], parts["test"]),
                n_published=published()["test_clips"].get(name),
                n_missing=sum(_lacks(data, clip) for clip in inside if clip.split == "test"),
            )
        )
    return found


def how_to_get(name: str, data: Path) -> str:
    """The commands that bring a split, a line each."""
    place = printable(data)
    if name == MADE:
        return f"make it: python -m loris_cli.dataset.synthetic_music {place}"
    return (
        f"the stand-in, made up on this machine: loris prep --synthetic {place}\n"
        f"the real one, from the authors' release: loris prep --import RELEASE --data {place}"
    )


def clips_in(data: Path, name: str) -> list[Clip]:
    """The manifest, where it has clips of a split.

    Raises:
        InputError: there is no data set, or it has none; told with how to get it.
    """
    place = printable(data)
    if not (data / NAME).exists():
        raise InputError(f"no data set in {place}", hint=how_to_get(name, data))
    clips = read_manifest(data)
    if not any(clip.subset == name for clip in clips):
        there = ", ".join(sorted({clip.subset for clip in clips})) or "nothing"
        raise InputError(
            f"no split {name!r} in {place}: it has {there}", hint=how_to_get(name, data)
        )
    return clips


def _lacks(data: Path, clip: Clip) -> bool:
    return not ((data / clip.audio).is_file() and (data / clip.rhythm).is_file())
