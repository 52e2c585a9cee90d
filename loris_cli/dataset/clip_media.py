"""Audio, poses and visual features of a time span of a source, sliced into segments."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from loris_cli.array_types import Float32Array
from loris_cli.config import POSE_FPS, SAMPLE_RATE_HZ
from loris_cli.dataset.clip_cutting import Segment
from loris_cli.pose.keypoints import Poses, slice_poses
from loris_cli.soundtrack.visual_features import VISUAL_FPS


@dataclass(frozen=True, kw_only=True)
class ClipMedia:
    """Audio, poses and visual features extracted from a time span of a source."""

    mix: Float32Array
    """Original audio, mono at 22,050 Hz, ``(samples,)``."""
    accompaniment: Float32Array
    """Audio without voices, same length as ``mix``."""
    poses: Poses | None = None
    """None if no pose estimator was run."""
    persons_per_frame: tuple[int, ...] | None = None
    """Number of persons in each pose frame; None if persons were not counted."""
    visual: Mapping[str, Float32Array] = field(default_factory=dict)
    """Visual features, ``(rows, width)``, 2 rows per second, by encoder."""
    frame_size_px: tuple[int, int] = (0, 0)
    """Width and height of the source frames; zeros if unknown."""
    gaps_s: Sequence[tuple[float, float]] = ()
    """Start and end of spans without frames, in source time."""

    @property
    def person_fraction(self) -> float | None:
        """Fraction of frames with a detected person; None if no pose estimator was run."""
        return None if self.poses is None else round(self.poses.detected_fraction, 4)

    def slice_segment(self, segment: Segment, origin_s: float) -> "ClipMedia":
        """Return the media of a segment.

        Args:
            segment: segment of the source.
            origin_s: source time of the first sample of this object.
        """

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
