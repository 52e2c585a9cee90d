"""Audio, poses and visual features of a time span of a source, and their cuts into segments."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from loris_cli.array_types import Float32Array
from loris_cli.config import POSE_FPS, SAMPLE_RATE_HZ
from loris_cli.dataset.clip_cutting import Segment
from loris_cli.pose.keypoints import Poses, slice_poses
from loris_cli.soundtrack.visual_features import VISUAL_FPS


@dataclass(frozen=True, kw_only=True)
class ClipMedia:
    """All that is extracted from a time span of a source."""

    mix: Float32Array
    """The original audio, mono at 22,050 Hz, ``(samples,)``."""
    accompaniment: Float32Array
    """The audio without voices, as long."""
    poses: Poses | None = None
    """None where no pose estimator ran."""
    persons_per_frame: tuple[int, ...] | None = None
    """Number of persons in each pose frame; None where they were not counted."""
    visual: Mapping[str, Float32Array] = field(default_factory=dict)
    """Visual features, ``(rows, width)``, two rows a second, by encoder."""
    frame_size_px: tuple[int, int] = (0, 0)
    """Width and height of the source's frames; zeros where unknown."""
    gaps_s: Sequence[tuple[float, float]] = ()
    """Times without frames, start and end, on the clock of the source."""

    @property
    def person_share(self) -> float | None:
        """Share of frames with a detected person; None where no pose estimator ran."""
        return None if self.poses is None else round(self.poses.detected_fraction, 4)

    def slice_segment(self, segment: Segment, origin_s: float) -> "ClipMedia":
        """Return the media of a segment; the first sample here is at ``origin_s``."""

        def frames(rate_hz: float) -> slice:
            start = round((segment.start_s - origin_s) * rate_hz)
            return slice(start, start + round(segment.duration_s * rate_hz))

        samples, pose = frames(SAMPLE_RATE_HZ), frames(POSE_FPS)
        persons = self.persons_per_frame
        return replace(
            self,
            mix=self.mix[samples],
            accompaniment=self.accompaniment[samples],
            poses=self.poses and slice_poses(self.poses, pose.start, pose.stop),
            persons_per_frame=persons and persons[pose],
            visual={name: rows[frames(VISUAL_FPS)] for name, rows in self.visual.items()},
        )
