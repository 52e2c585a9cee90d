"""Other makers of music as entrants: by rules, and from the train part of the same split.

name -> `loris_cli.baselines`; a library is of other sources than the clip's own
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from loris_cli import __version__
from loris_cli.baselines.drums import Drums
from loris_cli.baselines.groove import Groove
from loris_cli.baselines.retrieval import TEMPI, Library, Retrieval, Song
from loris_cli.dataset.read_clips import read_features, read_sound
from loris_cli.errors import InputError
from loris_cli.evaluation.runner.clips import Case, clips_of_split, group_of
from loris_cli.evaluation.runner.subsets import clips_in
from loris_cli.models.generator_interface import MusicGenerator

SCHEMA = 1
"""Of the methods; a change of what they make raises it, and nothing kept is taken."""
METHODS = MappingProxyType(
    {
        "drums": "a drum on every peak of the visual rhythm",
        "groove": "a steady drum pattern by the rules of CMT, without its network",
        "retrieval": "the sound of the train part whose accents fit the visual rhythm best",
        "stretched": "the same, played up to a tenth faster or slower",
    }
)


@dataclass(frozen=True, kw_only=True)
class ByRule:
    """A method that makes music from the visual rhythm alone."""

    name: str
    make: Callable[[], MusicGenerator]

    @property
    def kind(self) -> Literal["model", "method"]:
        """A method."""
        return "method"

    @property
    def what(self) -> str:
        """The rule in words."""
        return METHODS[self.name]

    @property
    def seeded(self) -> bool:
        """The noise in its drums is drawn."""
        return True

    @property
    def settings(self) -> dict[str, Any]:
        """Its name."""
        return {"method": self.name, "schema": SCHEMA, "version": __version__}

    def music_of(self, case: Case) -> MusicGenerator:
        """The same for all clips."""
        return self.make()

    def evaluations(self, duration_s: float) -> int:
        """There is no network."""
        return 0


@dataclass(frozen=True, kw_only=True)
class FromLibrary:
    """A method that takes music from a library, never that of the clip's own source."""

    name: str
    library: Library
    fingerprint: str
    """Of the library."""

    @property
    def kind(self) -> Literal["model", "method"]:
        """A method."""
        return "method"

    @property
    def what(self) -> str:
        """The rule in words, and how much there is to choose from."""
        n_songs = len({song.name for song, _ in self.library.played})
        return f"{METHODS[self.name]}, of {n_songs}, but for the clip's own source"

    @property
    def seeded(self) -> bool:
        """The best is the best."""
        return False

    @property
    def settings(self) -> dict[str, Any]:
        """Its name and its library."""
        return {
            "method": self.name,
            "library": self.fingerprint,
            "schema": SCHEMA,
            "version": __version__,
        }

    def music_of(self, case: Case) -> MusicGenerator:
        """What may be taken depends on the clip."""
        return Retrieval(library=self.library, but_for=case.group)

    def evaluations(self, duration_s: float) -> int:
        """There is no network."""
        return 0


def method_of(name: str, data: Path, split: str) -> ByRule | FromLibrary:
    """A method by its name.

    Args:
        name: one of `METHODS`.
        data: the data set, whose train part is the library.
        split: the subset.

    Raises:
        InputError: the split has no sounds to choose from.
    """
    if name == "drums":
        return ByRule(name=name, make=Drums)
    if name == "groove":
        return ByRule(name=name, make=Groove)
    songs, fingerprint = library_of(data, split)
    tempi = TEMPI if name == "stretched" else (1.0,)
    return FromLibrary(name=name, library=Library(songs, tempi), fingerprint=fingerprint)


def library_of(data: Path, split: str) -> tuple[list[Song], str]:
    """The sounds of the train part of a split, and a fingerprint of what is known of them.

    Raises:
        InputError: there is none with known accents.
    """
    clips = clips_of_split(clips_in(data, split), split, part="train")
    songs, told = [], []
    for clip in clips:
        if not clip.rhythm:
            continue
        features = read_features(data, clip)
        if not len(features.peaks_s):
            continue
        songs.append(
            Song(
                name=clip.id,
                source=group_of(clip),
                duration_s=features.duration_s,
                accents_s=features.peaks_s,
                strengths=features.strengths,
                read=partial(read_sound, data, clip),
            )
        )
        size = (data / clip.audio).stat().st_size
        told.append([clip.id, size, features.peaks_s.tolist(), features.strengths.tolist()])
    if not songs:
        raise InputError(
            f"the train part of {split!r} has no sound with known accents",
            hint="make the data set by `loris prep`, which hears them",
        )
    return songs, hashlib.sha256(json.dumps(told).encode()).hexdigest()[:12]
