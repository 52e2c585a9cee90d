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
from loris_cli.baselines.drum_kit import DrumGenerator
from loris_cli.baselines.drums import place_hits_on_peaks
from loris_cli.baselines.groove import place_hits_on_grid
from loris_cli.baselines.retrieval import TEMPO_FACTORS, RetrievalGenerator, Song, SongLibrary
from loris_cli.dataset.read_clips import read_clip_audio, read_rhythm_features
from loris_cli.errors import InputError
from loris_cli.evaluation.runner.clips import EvalClip, get_source_group, select_clips
from loris_cli.evaluation.runner.subsets import read_manifest_with_subset
from loris_cli.models.generator_interface import MusicGenerator

METHOD_SCHEMA = 1
"""Of the methods; a change of what they make raises it, and nothing kept is taken."""
METHOD_DESCRIPTIONS = MappingProxyType(
    {
        "drums": "a drum on every peak of the visual rhythm",
        "groove": "a steady drum pattern by the rules of CMT, without its network",
        "retrieval": "the sound of the train part whose accents fit the visual rhythm best",
        "stretched": "the same, played up to a tenth faster or slower",
    }
)


@dataclass(frozen=True, kw_only=True)
class RuleSystem:
    """A method that makes music from the visual rhythm alone."""

    name: str
    make_generator: Callable[[], MusicGenerator]

    @property
    def category(self) -> Literal["model", "method"]:
        """A method."""
        return "method"

    @property
    def description(self) -> str:
        """The rule in words."""
        return METHOD_DESCRIPTIONS[self.name]

    @property
    def is_stochastic(self) -> bool:
        """The noise in its drums is drawn."""
        return True

    @property
    def generation_settings(self) -> dict[str, Any]:
        """Its name."""
        return {"method": self.name, "schema": METHOD_SCHEMA, "version": __version__}

    def get_generator(self, clip: EvalClip) -> MusicGenerator:
        """The same for all clips."""
        return self.make_generator()

    def count_network_evaluations(self, duration_s: float) -> int:
        """There is no network."""
        return 0


@dataclass(frozen=True, kw_only=True)
class RetrievalSystem:
    """A method that takes music from a library, never that of the clip's own source."""

    name: str
    library: SongLibrary
    library_fingerprint: str
    """Of the library."""

    @property
    def category(self) -> Literal["model", "method"]:
        """A method."""
        return "method"

    @property
    def description(self) -> str:
        """The rule in words, and how much there is to choose from."""
        n_songs = len({song.name for song, _ in self.library.variants})
        return f"{METHOD_DESCRIPTIONS[self.name]}, of {n_songs}, but for the clip's own source"

    @property
    def is_stochastic(self) -> bool:
        """The best is the best."""
        return False

    @property
    def generation_settings(self) -> dict[str, Any]:
        """Its name and its library."""
        return {
            "method": self.name,
            "library": self.library_fingerprint,
            "schema": METHOD_SCHEMA,
            "version": __version__,
        }

    def get_generator(self, clip: EvalClip) -> MusicGenerator:
        """What may be taken depends on the clip."""
        return RetrievalGenerator(library=self.library, excluded_source=clip.source_group)

    def count_network_evaluations(self, duration_s: float) -> int:
        """There is no network."""
        return 0


def build_method_system(name: str, data_dir: Path, subset: str) -> RuleSystem | RetrievalSystem:
    """A method by its name.

    Args:
        name: one of `METHOD_DESCRIPTIONS`.
        data_dir: the data set, whose train part is the library.
        subset: the subset.

    Raises:
        InputError: the split has no sounds to choose from.
    """
    place_hits = {"drums": place_hits_on_peaks, "groove": place_hits_on_grid}.get(name)
    if place_hits:
        return RuleSystem(name=name, make_generator=partial(DrumGenerator, place_hits))
    songs, fingerprint = read_library_songs(data_dir, subset)
    tempi = TEMPO_FACTORS if name == "stretched" else (1.0,)
    return RetrievalSystem(
        name=name, library=SongLibrary(songs, tempi), library_fingerprint=fingerprint
    )


def read_library_songs(data_dir: Path, subset: str) -> tuple[list[Song], str]:
    """The sounds of the train part of a split, and a fingerprint of what is known of them.

    Raises:
        InputError: there is none with known accents.
    """
    clips = select_clips(read_manifest_with_subset(data_dir, subset), subset, partition="train")
    songs, told = [], []
    for clip in clips:
        if not clip.rhythm:
            continue
        features = read_rhythm_features(data_dir, clip)
        if not len(features.peaks_s):
            continue
        songs.append(
            Song(
                name=clip.id,
                source=get_source_group(clip),
                duration_s=features.duration_s,
                accents_s=features.peaks_s,
                strengths=features.strengths,
                read_samples=partial(read_clip_audio, data_dir, clip),
            )
        )
        size = (data_dir / clip.audio).stat().st_size
        told.append([clip.id, size, features.peaks_s.tolist(), features.strengths.tolist()])
    if not songs:
        raise InputError(
            f"the train part of {subset!r} has no sound with known accents",
            hint="make the data set by `loris prep`, which hears them",
        )
    return songs, hashlib.sha256(json.dumps(told).encode()).hexdigest()[:12]
