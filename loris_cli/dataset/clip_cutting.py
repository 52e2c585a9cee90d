"""What is made of a raw video: which parts of it become clips, and by which means.

kind -> trim -> segments of 25 and 50 s

LORIS, Sec. 4.1: sport loses 5 s at both ends; dance gives 25 s clips, sport 25 and 50 s.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from typing import Literal

from loris_cli.audio.accents import OnsetDetector
from loris_cli.config import POSE_FPS
from loris_cli.dataset.source_names import Activity

SeparatorName = Literal["torch", "spleeter", "none"]
PoseEstimatorName = Literal["embedded", "mmpose", "beside", "none"]


@dataclass(frozen=True, kw_only=True)
class LengthRule:
    """Clips of one length."""

    subset: str
    duration_s: float
    max_clips: int | None = None
    """The paper's lists hold no more of one source; None is as many as fit."""


@dataclass(frozen=True, kw_only=True)
class CuttingRules:
    """How a kind of video is cut."""

    trim_s: float
    length_rules: tuple[LengthRule, ...]


CUTTING_RULES: dict[Activity, CuttingRules] = {
    "dance": CuttingRules(
        trim_s=0.0, length_rules=(LengthRule(subset="da25", duration_s=25.0, max_clips=1),)
    ),
    "floor": CuttingRules(
        trim_s=5.0,
        length_rules=(
            LengthRule(subset="fe25", duration_s=25.0, max_clips=3),
            LengthRule(subset="fe50", duration_s=50.0, max_clips=1),
        ),
    ),
    "skate": CuttingRules(
        trim_s=5.0,
        length_rules=(
            LengthRule(subset="fs25", duration_s=25.0),
            LengthRule(subset="fs50", duration_s=50.0),
        ),
    ),
}

SETTINGS_OUTSIDE_DIGEST = frozenset(
    {"pose_network", "pose_weights", "onsets", "visual", "visual_sha256"}
)
"""Settings that came after the first data sets were made."""

CUT_SUBSETS = tuple(
    cut.subset for recipe in CUTTING_RULES.values() for cut in recipe.length_rules
)


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A part of a video that becomes a clip."""

    subset: str
    index: int
    start_s: float
    duration_s: float

    @property
    def stop_s(self) -> float:
        """Where it ends."""
        return self.start_s + self.duration_s


@dataclass(frozen=True, kw_only=True)
class PrepSettings:
    """What is wanted of every clip; equal settings and equal videos give equal bytes."""

    activity: Activity | None = None
    """None is by the video's name."""
    genre: str | None = None
    """Of dances whose names do not tell."""
    trim_s: float | None = None
    """None is the recipe's."""
    separator: SeparatorName = "torch"
    accompaniment_rate_hz: int = 22_050
    """The paper takes the accompaniment at 16 kHz and brings it up again."""
    pose_estimator: PoseEstimatorName = "embedded"
    visual_encoder: str = ""
    """Who makes features of the picture, one of `visual.WIDTHS`; empty where nobody does."""
    visual_weights_sha256: str = ""
    """Of the weights."""
    reject_unfit: bool = True
    synthetic: bool = False
    """The videos are rendered, not filmed."""
    partition: str = ""
    """Where all clips belong; nothing lets the manifest draw it."""
    pose_network: str = ""
    """Of mmpose: name of its configuration."""
    pose_weights_sha256: str = ""
    """Of mmpose: sha256 of the file."""
    onset_detector: OnsetDetector = "librosa"

    def digest(self) -> str:
        """A fingerprint: other settings, other clips."""
        told = asdict(self)
        for added in fields(self):  # data sets are older than these: they keep their name
            if added.name in SETTINGS_OUTSIDE_DIGEST and told[added.name] == added.default:
                del told[added.name]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]


def cut_segments(
    activity: Activity, duration_s: float, *, trim_s: float | None = None
) -> list[Segment]:
    """The parts of a video that become clips.

    Args:
        activity: which recipe.
        duration_s: of the video.
        trim_s: left out at both ends; None is the recipe's.

    Returns:
        segments of each length one after the other, from the start, on the clock of the poses;
        none where the video is too short.
    """
    recipe = CUTTING_RULES[activity]
    trim_s = recipe.trim_s if trim_s is None else trim_s
    start_s = round(trim_s * POSE_FPS) / POSE_FPS
    return [
        segment
        for cut in recipe.length_rules
        for segment in _cut_at_length(cut, start_s, duration_s - trim_s)
    ]


def _cut_at_length(rule: LengthRule, start_s: float, end_s: float) -> Iterator[Segment]:
    # A container's clock rounds: half a pose frame short is long enough.
    fit = int((end_s - start_s + 0.5 / POSE_FPS) // rule.duration_s)
    for number in range(fit if rule.max_clips is None else min(fit, rule.max_clips)):
        at_s = start_s + number * rule.duration_s
        yield Segment(
            subset=rule.subset, index=number, start_s=at_s, duration_s=rule.duration_s
        )
