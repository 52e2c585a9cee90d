"""Simulated dance to a piece of music, as observed by a pose estimator.

    accents -> intended impacts -> motion -> ground-truth joints -> noise -> poses

The simulation includes early and late movements, missed accents, movements without an accent,
dancing in half time or double time, and continuous movement between the impacts. The extent of
each varies between dancers.
"""

from dataclasses import dataclass

import numpy as np

from loris_cli.array_types import Array
from loris_cli.composition.arrangement import interp_energy
from loris_cli.config import POSE_FPS
from loris_cli.pose.keypoints import Poses
from loris_cli.synthetic.body_model import pose_to_coco_joints
from loris_cli.synthetic.motion import MIN_IMPACT_INTERVAL_S, build_impact_motion
from loris_cli.synthetic.render import sample_static_camera

MAX_TIMING_JITTER_S = 0.06
"""Standard deviation of the impact times at a jitter of 1."""
TIMING_JITTERS = (0.15, 0.3, 0.6, 1.0)
"""Timing jitters of dancers, with equal probabilities."""
MAX_MISSED_FRACTION, MAX_EXTRA_FRACTION = 0.3, 0.3
"""Maximum fractions of accents without an impact, and of further impacts without an accent."""
START_MARGIN_S, END_MARGIN_S = 1.0, 0.6
"""Minimum distances of impacts from the start and the end, because a burst takes time."""
DOUBLE_TIME_MIN_GAP_S = 0.9
"""Minimum interval between accents that is divided in double time."""
FRAME_SIZE_PX = (480, 360)
KEYPOINT_NOISE_RANGE_PX = (0.5, 2.0)
"""Range of the standard deviation of keypoint noise. The measured error of BlazePose is 2.1 px
at 320x240, most of it constant over time; the frame-to-frame error is 1.35 px
(`pose.blazepose`)."""
OUTLIER_RATE, OUTLIER_STD_PX = 0.004, 12.0
"""Fraction of misplaced joints, and standard deviation of their error."""


@dataclass(frozen=True, kw_only=True)
class DancePerformance:
    """Poses and impacts of a simulated dance."""

    poses: Poses
    impacts_s: Array
    """Impact times, ``(impacts,)``."""
    timing_jitter: float
    """Timing jitter relative to the accents, 0 (none) to 1 (`MAX_TIMING_JITTER_S`)."""


def simulate_dance(
    seed: int, accents_s: Array, strengths: Array, *, duration_s: float, energy: Array
) -> DancePerformance:
    """Simulate a dance to the accents of a piece.

    Args:
        seed: seed of the dancer.
        accents_s: accent times, ``(accents,)``, increasing.
        strengths: ``(accents,)``, 0..1.
        duration_s: duration of the piece.
        energy: energy at 16 Hz, ``(frames,)``, 0..1; impacts are larger at higher energy.
    """
    rng = np.random.default_rng([seed, 3])
    jitter = float(rng.choice(TIMING_JITTERS))
    times_s, sizes = _sample_intended_impacts(rng, accents_s, strengths)
    times_s = times_s + rng.normal(0, jitter * MAX_TIMING_JITTER_S, len(times_s))
    n_extra = rng.poisson(rng.uniform(0, MAX_EXTRA_FRACTION) * len(times_s))
    times_s = np.concatenate([times_s, rng.uniform(0, duration_s, n_extra)])
    sizes = np.concatenate([sizes, rng.uniform(0.2, 0.6, n_extra)])
    selected: list[int] = []
    earliest_s = START_MARGIN_S
    for k in np.argsort(times_s):
        if earliest_s <= times_s[k] <= duration_s - END_MARGIN_S:
            selected.append(int(k))
            earliest_s = times_s[k] + MIN_IMPACT_INTERVAL_S
    impacts_s = times_s[selected]
    sizes = np.clip(sizes[selected] * (0.6 + 0.5 * interp_energy(energy, impacts_s)), 0, 1)
    motion = build_impact_motion(
        impacts_s, sizes, duration_s=duration_s, rng=rng, looseness=rng.random()
    )
    camera = sample_static_camera(int(rng.integers(2**32)))
    frames_s = (np.arange(int(duration_s * POSE_FPS)) / POSE_FPS).tolist()
    joints = np.stack([pose_to_coco_joints(motion.pose_at(time_s)) for time_s in frames_s])
    pixels = np.stack([camera.project(points, FRAME_SIZE_PX)[:, :2] for points in joints])
    poses = _add_estimator_noise(rng, pixels)
    return DancePerformance(poses=poses, impacts_s=impacts_s, timing_jitter=jitter)


def _sample_intended_impacts(
    rng: np.random.Generator, accents_s: Array, strengths: Array
) -> tuple[Array, Array]:
    """Sample the times and sizes of the impacts that a dancer intends."""
    feel = rng.choice(["normal", "half time", "double time"], p=[0.8, 0.1, 0.1])
    if feel == "half time":
        accents_s, strengths = accents_s[::2], strengths[::2]
    if feel == "double time":
        wide = np.flatnonzero(np.diff(accents_s) > DOUBLE_TIME_MIN_GAP_S)
        between = (accents_s[wide] + accents_s[wide + 1]) / 2
        accents_s = np.concatenate([accents_s, between])
        strengths = np.concatenate([strengths, 0.7 * strengths[wide]])
    danced = rng.random(len(accents_s)) >= rng.uniform(0.0, MAX_MISSED_FRACTION)
    return accents_s[danced], strengths[danced]


def _add_estimator_noise(rng: np.random.Generator, joints: Array) -> Poses:
    """Add noise and outliers to joints, to simulate the errors of a pose estimator."""
    n_frames = len(joints)
    noise_std = rng.uniform(*KEYPOINT_NOISE_RANGE_PX)
    noisy = joints + rng.normal(0, noise_std, joints.shape)
    is_outlier = rng.random(joints.shape[:2]) < OUTLIER_RATE
    noisy[is_outlier] += rng.normal(0, OUTLIER_STD_PX, (int(is_outlier.sum()), 2))
    scores = np.where(is_outlier, rng.uniform(0.3, 0.7, is_outlier.shape), 0.9)
    return Poses(
        keypoints=np.concatenate([noisy, scores[..., None]], axis=-1).astype(np.float32),
        times_s=np.arange(n_frames) / POSE_FPS,
        fps=POSE_FPS,
        size=FRAME_SIZE_PX,
        interpolated=np.zeros(n_frames, dtype=bool),
        cuts=np.zeros(0, dtype=np.int64),
    )
