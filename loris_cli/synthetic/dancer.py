"""A body that dances to a piece, as a pose estimator would see it.

    accents -> what the body makes of them -> motion -> true joints -> noise -> poses

Bodies are no clocks. They come early and late, leave accents out, move where there is none,
take every second one or put one between. How far they stray is drawn for each dancer and
told, so that a model can learn how much to trust its peaks.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loris_cli.config import POSE_FPS
from loris_cli.pose.keypoints import Poses
from loris_cli.synthetic.body_model import pose_to_coco_joints
from loris_cli.synthetic.motion import MIN_IMPACT_INTERVAL_S, build_impact_motion
from loris_cli.synthetic.render import sample_static_camera

Array = NDArray[np.float64]

MAX_TIMING_JITTER_S = 0.04
"""Standard deviation of the loosest dancers' timing."""
START_MARGIN_S, END_MARGIN_S = 1.0, 0.6
"""No strike nearer to the start and to the end: a burst needs its time."""
DOUBLE_TIME_MIN_GAP_S = 0.9
"""An interval that has room for a strike of double time."""
FRAME_SIZE_PX = (480, 360)
KEYPOINT_NOISE_RANGE_PX = (0.5, 2.0)
"""Of a joint, standard deviation; the estimator's own error was 2.1 px at 320x240, most of it
steady from frame to frame, 1.35 px of it not (`pose.blazepose`)."""
OUTLIER_RATE, OUTLIER_STD_PX = 0.004, 12.0
"""Share of joints that are lost for a frame, and how far they then are."""


@dataclass(frozen=True, kw_only=True)
class DancePerformance:
    """What a body made of a piece."""

    poses: Poses
    impacts_s: Array
    """When it struck, ``(strikes,)``."""
    timing_jitter: float
    """How far it strays from the accents, 0 (not at all) to 1 (`MAX_TIMING_JITTER_S`)."""


def simulate_dance(
    seed: int, accents_s: Array, strengths: Array, *, duration_s: float, energy: Array
) -> DancePerformance:
    """Dance to the accents of a piece.

    Args:
        seed: of the dancer.
        accents_s: ``(accents,)``, rising.
        strengths: ``(accents,)``, 0..1.
        duration_s: length of the piece.
        energy: how much goes on in it, at 16 Hz, 0..1: strikes are larger where there is more.
    """
    rng = np.random.default_rng([seed, 3])
    looseness = float(rng.choice([0.25, 0.5, 1.0]))
    times_s, sizes = _sample_intended_impacts(rng, accents_s, strengths)
    times_s = times_s + rng.normal(0, looseness * MAX_TIMING_JITTER_S, len(times_s))
    n_extra = rng.poisson(0.1 * len(times_s))
    times_s = np.concatenate([times_s, rng.uniform(0, duration_s, n_extra)])
    sizes = np.concatenate([sizes, rng.uniform(0.2, 0.6, n_extra)])
    order = np.argsort(times_s)
    strikes: list[int] = []
    for k in order:
        soonest = times_s[strikes[-1]] + MIN_IMPACT_INTERVAL_S if strikes else START_MARGIN_S
        if soonest <= times_s[k] <= duration_s - END_MARGIN_S:
            strikes.append(int(k))
    level = np.interp(times_s[strikes], np.arange(len(energy)) / POSE_FPS, energy)
    motion = build_impact_motion(
        times_s[strikes],
        np.clip(sizes[strikes] * (0.6 + 0.5 * level), 0, 1),
        duration_s=duration_s,
        rng=rng,
    )
    camera = sample_static_camera(int(rng.integers(2**32)))
    moments_s = np.arange(int(duration_s * POSE_FPS)) / POSE_FPS
    joints = np.stack(
        [
            camera.project(pose_to_coco_joints(motion.pose_at(float(time_s))), FRAME_SIZE_PX)[
                :, :2
            ]
            for time_s in moments_s
        ]
    )
    return DancePerformance(
        poses=_add_estimator_noise(rng, joints),
        impacts_s=times_s[strikes],
        timing_jitter=looseness,
    )


def _sample_intended_impacts(
    rng: np.random.Generator, accents_s: Array, strengths: Array
) -> tuple[Array, Array]:
    """Which strikes a dancer means to make, and how large."""
    feel = rng.choice(["as it is", "half time", "double time"], p=[0.8, 0.1, 0.1])
    if feel == "half time":
        accents_s, strengths = accents_s[::2], strengths[::2]
    if feel == "double time":
        wide = np.flatnonzero(np.diff(accents_s) > DOUBLE_TIME_MIN_GAP_S)
        between = (accents_s[wide] + accents_s[wide + 1]) / 2
        accents_s = np.concatenate([accents_s, between])
        strengths = np.concatenate([strengths, 0.7 * strengths[wide]])
    kept = rng.random(len(accents_s)) >= rng.uniform(0.0, 0.2)
    return accents_s[kept], strengths[kept]


def _add_estimator_noise(rng: np.random.Generator, joints: Array) -> Poses:
    """Joints as an estimator gives them: unsteady, and now and then far off."""
    n_frames = len(joints)
    noise = rng.uniform(*KEYPOINT_NOISE_RANGE_PX)
    found = joints + rng.normal(0, noise, joints.shape)
    slipped = rng.random(joints.shape[:2]) < OUTLIER_RATE
    found[slipped] += rng.normal(0, OUTLIER_STD_PX, (int(slipped.sum()), 2))
    scores = np.where(slipped, rng.uniform(0.3, 0.7, slipped.shape), 0.9)
    return Poses(
        keypoints=np.concatenate([found, scores[..., None]], axis=-1).astype(np.float32),
        times_s=np.arange(n_frames) / POSE_FPS,
        fps=POSE_FPS,
        size=FRAME_SIZE_PX,
        interpolated=np.zeros(n_frames, dtype=bool),
        cuts=np.zeros(0, dtype=np.int64),
    )
