"""Cutting rules for raw videos, and preparation settings.

activity -> trim -> segments of 25 and 50 s

LORIS, Sec. 4.1: 5 s are trimmed at both ends of sports videos. Dance videos are cut into clips
of 25 s, sports videos into clips of 25 s and 50 s.
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
    """Rule for the clips of one length."""

    subset: str
    duration_s: float
    max_clips: int | None = None
    """Maximum number of clips per source, as in the released lists; None is unlimited."""


@dataclass(frozen=True)
class CuttingRules:
    """Cutting rules for the videos of one activity."""

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
    """Preparation settings. Equal settings and equal videos give bit-identical clips."""

    activity: Activity | None = None
    """None derives the activity from the file name of the video."""
    genre: str | None = None
    """Genre of dance videos whose file names do not contain it."""
    trim_s: float | None = None
    """Seconds trimmed at both ends; None uses the cutting rules."""
    separator: SeparatorName = "torch"
    accompaniment_rate_hz: int = 22_050
    """Sample rate that limits the bandwidth of the accompaniment; 16 kHz in the paper."""
    pose_estimator: PoseEstimatorName = "blazepose"
    visual_encoder: str = ""
    """Visual feature encoder, one of `manifest.VISUAL_ENCODERS`; empty for no features."""
    visual_weights_sha256: str = ""
    reject_unfit: bool = True
    synthetic: bool = False
    """Whether the videos are rendered rather than filmed."""
    partition: str = ""
    """Partition of all clips; empty to assign partitions when the manifest is built."""
    pose_network: str = ""
    """Name of the mmpose configuration."""
    pose_weights_sha256: str = ""
    """SHA-256 of the mmpose weights."""
    onset_detector: OnsetDetector = "librosa"
    audio_track: int | None = None
    """Number of the audio track, from 1; None is the default track."""

    def digest(self) -> str:
        """Return the first 16 hex digits of the SHA-256 of the settings."""
        return hashlib.sha256(json.dumps(asdict(self)).encode()).hexdigest()[:16]


def cut_segments(
    activity: Activity, duration_s: float, *, trim_s: float | None = None
) -> list[Segment]:
    """Return the segments of a video that become clips.

    Args:
        activity: activity, which selects the cutting rules.
        duration_s: duration of the video.
        trim_s: seconds trimmed at both ends; None uses the cutting rules.

    Returns:
        consecutive segments of each length, the first starting at the pose frame nearest to
        ``trim_s``; empty if the video is too short.
    """
    rules = CUTTING_RULES[activity]
    trim_s = rules.trim_s if trim_s is None else trim_s
    start_s = round(trim_s * POSE_FPS) / POSE_FPS
    clips = []
    for rule in rules.lengths:
        subset, length_s = rule.subset, rule.duration_s
        # Containers round durations, so a video may be short by half a pose frame.
        n_clips = int((duration_s - trim_s - start_s + 0.5 / POSE_FPS) // length_s)
        for k in range(n_clips if rule.max_clips is None else min(n_clips, rule.max_clips)):
            clip_s = start_s + k * length_s
            clips.append(Segment(subset=subset, index=k, start_s=clip_s, duration_s=length_s))
    return clips
