"""Synthetic dancer: impacts near the accents with known jitter, and a rhythm in its poses."""

import numpy as np
import pytest

from loris_cli.rhythm.pose_rhythm import rhythm_from_poses
from loris_cli.synthetic.body_model import (
    load_body,
    pose_to_coco_joints,
    regress_coco_joints,
    skin_vertices,
)
from loris_cli.synthetic.dancer import (
    MAX_TIMING_JITTER_S,
    TIMING_JITTERS,
    DancePerformance,
    simulate_dance,
)
from loris_cli.synthetic.motion import MIN_IMPACT_INTERVAL_S, sample_impact_motion

DURATION_S = 12.0
ACCENTS_S = np.arange(1.5, DURATION_S - 1, 0.9)


def simulate_on_accents(seed: int) -> DancePerformance:
    energy = np.full(round(DURATION_S * 16), 0.5)
    return simulate_dance(
        seed, ACCENTS_S, np.ones(len(ACCENTS_S)), duration_s=DURATION_S, energy=energy
    )


def test_joints_from_the_skeleton_equal_joints_regressed_from_the_mesh() -> None:
    pose, body = sample_impact_motion(0, 4.0).pose_at(1.7), load_body()
    np.testing.assert_allclose(
        pose_to_coco_joints(pose),
        regress_coco_joints(body, skin_vertices(body, pose)),
        atol=1e-9,
    )


@pytest.mark.slow
def test_impacts_deviate_from_the_accents_by_the_reported_jitter() -> None:
    errors_by_jitter: dict[float, list[float]] = {}
    for seed in range(12):
        dance = simulate_on_accents(seed)
        assert (np.diff(dance.impacts_s) >= MIN_IMPACT_INTERVAL_S).all()
        errors_s = np.abs(dance.impacts_s[:, None] - ACCENTS_S).min(axis=1)
        errors_by_jitter.setdefault(dance.timing_jitter, []).extend(errors_s)

    assert set(errors_by_jitter) == set(TIMING_JITTERS)
    for jitter, errors_s in errors_by_jitter.items():
        # The median of an absolute normal variable is 0.674 standard deviations. The wide range
        # allows for impacts between the accents.
        assert 0.4 < np.median(errors_s) / (0.674 * jitter * MAX_TIMING_JITTER_S) < 1.9


def test_rhythm_of_the_poses_has_the_impacts_of_the_dance() -> None:
    dance = simulate_on_accents(3)
    rhythm = rhythm_from_poses(dance.poses.keypoints, fps=dance.poses.fps)

    errors_s = np.abs(rhythm.times_s[None] - dance.impacts_s[:, None]).min(axis=1)
    assert np.mean(errors_s < 0.07) >= 0.8
    assert dance.poses.keypoints.shape == (round(DURATION_S * 16), 17, 3)


@pytest.mark.slow
def test_dance_depends_on_the_seed_alone() -> None:
    first, repeated, other = (simulate_on_accents(seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first.poses.keypoints, repeated.poses.keypoints)
    np.testing.assert_array_equal(first.impacts_s, repeated.impacts_s)
    assert not np.array_equal(first.impacts_s, other.impacts_s)
