"""Rules that cut a raw video into clips, and the settings of the preparation.

activity -> trim -> segments of 25 and 50 s

LORIS, Sec. 4.1: sport loses 5 s at both ends; dance gives 25 s clips, sport 25 and 50 s.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Literal

from loris_cli.audio.accents import OnsetDetector
from loris_cli.config import POSE_FPS
from loris_cli.dataset.source_names import Activity

SeparatorName = Literal["torch", "spleeter", "none"]
PoseEstimatorName = Literal["blazepose", "mmpose", "file", "none"]


@dataclass(frozen=True)
class LengthRule:
    """Clips of one length."""

    subset: str
    duration_s: float
    max_clips: int | None = None
    """Of one source, as in the paper's lists; None is as many as fit."""


@dataclass(frozen=True)
class CuttingRules:
    """How videos of an activity are cut."""

    trim_s: float
    lengths: tuple[LengthRule, ...]


CUTTING_RULES: dict[Activity, CuttingRules] = {
    "dance": CuttingRules(0.0, (LengthRule("da25", 25.0, max_clips=1),)),
    "floor": CuttingRules(
        5.0, (LengthRule("fe25", 25.0, max_clips=3), LengthRule("fe50", 50.0, max_clips=1))
    ),
    "skate": CuttingRules(5.0, (LengthRule("fs25", 25.0), LengthRule("fs50", 50.0))),
}
ACTIVITY_OF_SUBSET = {
    rule.subset: activity for activity, rules in CUTTING_RULES.items() for rule in rules.lengths
}


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A segment of a video that becomes a clip."""

    subset: str
    index: int
    start_s: float
    duration_s: float

    @property
    def stop_s(self) -> float:
        """End of the segment."""
        return self.start_s + self.duration_s


@dataclass(frozen=True, kw_only=True)
class PrepSettings:
    """Settings of a clip; equal settings and equal videos give equal bytes."""

    activity: Activity | None = None
    """None is by the video's name."""
    genre: str | None = None
    """Of dances whose names do not hold one."""
    trim_s: float | None = None
    """None is that of the cutting rules."""
    separator: SeparatorName = "torch"
    accompaniment_rate_hz: int = 22_050
    """Rate that limits the bandwidth of the accompaniment; the paper's is 16 kHz."""
    pose_estimator: PoseEstimatorName = "blazepose"
    visual_encoder: str = ""
    """Encoder of visual features, one of `manifest.VISUAL_ENCODERS`; empty without features."""
    visual_weights_sha256: str = ""
    reject_unfit: bool = True
    synthetic: bool = False
    """The videos are rendered, not filmed."""
    partition: str = ""
    """Of all clips; empty where the manifest assigns it."""
    pose_network: str = ""
    """Of mmpose: name of its configuration."""
    pose_weights_sha256: str = ""
    """Of mmpose's weights."""
    onset_detector: OnsetDetector = "librosa"

    def digest(self) -> str:
        """Return a hash of the settings, 16 hex digits."""
        return hashlib.sha256(json.dumps(asdict(self)).encode()).hexdigest()[:16]


def cut_segments(
    activity: Activity, duration_s: float, *, trim_s: float | None = None
) -> list[Segment]:
    """Return the segments of a video that become clips.

    Args:
        activity: selects the cutting rules.
        duration_s: of the video.
        trim_s: left out at both ends; None is that of the rules.

    Returns:
        segments of each length one after the other, from the start, on the clock of the poses;
        none where the video is too short.
    """
    rules = CUTTING_RULES[activity]
    trim_s = rules.trim_s if trim_s is None else trim_s
    start_s = round(trim_s * POSE_FPS) / POSE_FPS
    clips = []
    for rule in rules.lengths:
        subset, length_s = rule.subset, rule.duration_s
        # A container's clock rounds: half a pose frame short is long enough.
        n_clips = int((duration_s - trim_s - start_s + 0.5 / POSE_FPS) // length_s)
        for k in range(n_clips if rule.max_clips is None else min(n_clips, rule.max_clips)):
            clip_s = start_s + k * length_s
            clips.append(Segment(subset=subset, index=k, start_s=clip_s, duration_s=length_s))
    return clips
