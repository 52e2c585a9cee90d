"""What is made of a raw video: which parts of it become clips, and by which means.

kind -> trim -> segments of 25 and 50 s

LORIS, Sec. 4.1: sport loses 5 s at both ends; dance gives 25 s clips, sport 25 and 50 s.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from typing import Literal

from loris_cli.audio.accents import Ear
from loris_cli.config import POSE_FPS
from loris_cli.dataset.source_names import Kind

Separation = Literal["torch", "spleeter", "none"]
PoseSource = Literal["embedded", "mmpose", "beside", "none"]


@dataclass(frozen=True, kw_only=True)
class Cut:
    """Clips of one length."""

    subset: str
    seconds: float
    most: int | None = None
    """The paper's lists hold no more of one source; None is as many as fit."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a kind of video is cut."""

    trim_s: float
    cuts: tuple[Cut, ...]


RECIPES: dict[Kind, Recipe] = {
    "dance": Recipe(trim_s=0.0, cuts=(Cut(subset="da25", seconds=25.0, most=1),)),
    "floor": Recipe(
        trim_s=5.0,
        cuts=(
            Cut(subset="fe25", seconds=25.0, most=3),
            Cut(subset="fe50", seconds=50.0, most=1),
        ),
    ),
    "skate": Recipe(
        trim_s=5.0,
        cuts=(Cut(subset="fs25", seconds=25.0), Cut(subset="fs50", seconds=50.0)),
    ),
}

ADDED = frozenset({"pose_network", "pose_weights", "onsets", "visual", "visual_sha256"})
"""Settings that came after the first data sets were made."""

SUBSETS = tuple(cut.subset for recipe in RECIPES.values() for cut in recipe.cuts)


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A part of a video that becomes a clip."""

    subset: str
    number: int
    start_s: float
    seconds: float

    @property
    def stop_s(self) -> float:
        """Where it ends."""
        return self.start_s + self.seconds


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is wanted of every clip; equal settings and equal videos give equal bytes."""

    kind: Kind | None = None
    """None is by the video's name."""
    genre: str | None = None
    """Of dances whose names do not tell."""
    trim_s: float | None = None
    """None is the recipe's."""
    separator: Separation = "torch"
    accompaniment_hz: int = 22_050
    """The paper takes the accompaniment at 16 kHz and brings it up again."""
    poses: PoseSource = "embedded"
    visual: str = ""
    """Who makes features of the picture, one of `visual.WIDTHS`; empty where nobody does."""
    visual_sha256: str = ""
    """Of the weights."""
    filters: bool = True
    made_up: bool = False
    """The videos are rendered, not filmed."""
    split: str = ""
    """Where all clips belong; nothing lets the manifest draw it."""
    pose_network: str = ""
    """Of mmpose: name of its configuration."""
    pose_weights: str = ""
    """Of mmpose: sha256 of the file."""
    onsets: Ear = "librosa"

    def digest(self) -> str:
        """A fingerprint: other settings, other clips."""
        told = asdict(self)
        for added in fields(self):  # data sets are older than these: they keep their name
            if added.name in ADDED and told[added.name] == added.default:
                del told[added.name]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]


def segments(kind: Kind, duration_s: float, *, trim_s: float | None = None) -> list[Segment]:
    """The parts of a video that become clips.

    Args:
        kind: which recipe.
        duration_s: of the video.
        trim_s: left out at both ends; None is the recipe's.

    Returns:
        segments of each length one after the other, from the start, on the clock of the poses;
        none where the video is too short.
    """
    recipe = RECIPES[kind]
    trim_s = recipe.trim_s if trim_s is None else trim_s
    start_s = round(trim_s * POSE_FPS) / POSE_FPS
    return [
        segment for cut in recipe.cuts for segment in _cut(cut, start_s, duration_s - trim_s)
    ]


def _cut(cut: Cut, start_s: float, end_s: float) -> Iterator[Segment]:
    # A container's clock rounds: half a pose frame short is long enough.
    fit = int((end_s - start_s + 0.5 / POSE_FPS) // cut.seconds)
    for number in range(fit if cut.most is None else min(fit, cut.most)):
        at_s = start_s + number * cut.seconds
        yield Segment(subset=cut.subset, number=number, start_s=at_s, seconds=cut.seconds)
