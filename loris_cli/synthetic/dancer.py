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
from loris_cli.synthetic.body_model import joints_of
from loris_cli.synthetic.motion import SHORTEST_INTERVAL_S, striking
from loris_cli.synthetic.render import portrait

Array = NDArray[np.float64]

LOOSEST_S = 0.04
"""Standard deviation of the loosest dancers' timing."""
EARLIEST_S, LATEST_S = 1.0, 0.6
"""No strike nearer to the start and to the end: a burst needs its time."""
LONG_S = 0.9
"""An interval that has room for a strike of double time."""
SIZE = (480, 360)
NOISE_PX = (0.5, 2.0)
"""Of a joint, standard deviation; the estimator's own error was 2.1 px at 320x240, most of it
steady from frame to frame, 1.35 px of it not (`pose.blazepose`)."""
SLIPS, SLIP_PX = 0.004, 12.0
"""Share of joints that are lost for a frame, and how far they then are."""


@dataclass(frozen=True, kw_only=True)
class Dance:
    """What a body made of a piece."""

    poses: Poses
    strikes_s: Array
    """When it struck, ``(strikes,)``."""
    looseness: float
    """How far it strays from the accents, 0 (not at all) to 1 (`LOOSEST_S`)."""


def dance(
    seed: int, accents_s: Array, strengths: Array, *, duration_s: float, energy: Array
) -> Dance:
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
    times_s, sizes = _intended(rng, accents_s, strengths)
    times_s = times_s + rng.normal(0, looseness * LOOSEST_S, len(times_s))
    n_extra = rng.poisson(0.1 * len(times_s))
    times_s = np.concatenate([times_s, rng.uniform(0, duration_s, n_extra)])
    sizes = np.concatenate([sizes, rng.uniform(0.2, 0.6, n_extra)])
    order = np.argsort(times_s)
    strikes: list[int] = []
    for k in order:
        soonest = times_s[strikes[-1]] + SHORTEST_INTERVAL_S if strikes else EARLIEST_S
        if soonest <= times_s[k] <= duration_s - LATEST_S:
            strikes.append(int(k))
    level = np.interp(times_s[strikes], np.arange(len(energy)) / POSE_FPS, energy)
    motion = striking(
        times_s[strikes],
        np.clip(sizes[strikes] * (0.6 + 0.5 * level), 0, 1),
        duration_s=duration_s,
        rng=rng,
    )
    camera = portrait(int(rng.integers(2**32)))
    moments_s = np.arange(int(duration_s * POSE_FPS)) / POSE_FPS
    joints = np.stack(
        [
            camera.project(joints_of(motion.pose_at(float(time_s))), SIZE)[:, :2]
            for time_s in moments_s
        ]
    )
    return Dance(poses=_seen(rng, joints), strikes_s=times_s[strikes], looseness=looseness)


def _intended(
    rng: np.random.Generator, accents_s: Array, strengths: Array
) -> tuple[Array, Array]:
    """Which strikes a dancer means to make, and how large."""
    feel = rng.choice(["as it is", "half time", "double time"], p=[0.8, 0.1, 0.1])
    if feel == "half time":
        accents_s, strengths = accents_s[::2], strengths[::2]
    if feel == "double time":
        wide = np.flatnonzero(np.diff(accents_s) > LONG_S)
        between = (accents_s[wide] + accents_s[wide + 1]) / 2
        accents_s = np.concatenate([accents_s, between])
        strengths = np.concatenate([strengths, 0.7 * strengths[wide]])
    kept = rng.random(len(accents_s)) >= rng.uniform(0.0, 0.2)
    return accents_s[kept], strengths[kept]


def _seen(rng: np.random.Generator, joints: Array) -> Poses:
    """Joints as an estimator gives them: unsteady, and now and then far off."""
    n_frames = len(joints)
    noise = rng.uniform(*NOISE_PX)
    found = joints + rng.normal(0, noise, joints.shape)
    slipped = rng.random(joints.shape[:2]) < SLIPS
    found[slipped] += rng.normal(0, SLIP_PX, (int(slipped.sum()), 2))
    scores = np.where(slipped, rng.uniform(0.3, 0.7, slipped.shape), 0.9)
    return Poses(
        keypoints=np.concatenate([found, scores[..., None]], axis=-1).astype(np.float32),
        times_s=np.arange(n_frames) / POSE_FPS,
        fps=POSE_FPS,
        size=SIZE,
        interpolated=np.zeros(n_frames, dtype=bool),
        cuts=np.zeros(0, dtype=np.int64),
    )
