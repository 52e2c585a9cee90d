"""A body that dances to made-up music: near its accents, as loosely as it says."""

import numpy as np

from loris_cli.rhythm.pose_rhythm import rhythm_from_poses
from loris_cli.synthetic.body_model import (
    load_body,
    pose_to_coco_joints,
    regress_coco_joints,
    skin_vertices,
)
from loris_cli.synthetic.dancer import MAX_TIMING_JITTER_S, DancePerformance, simulate_dance
from loris_cli.synthetic.motion import MIN_IMPACT_INTERVAL_S, sample_impact_motion

ACCENTS_S = np.arange(1.5, 23.0, 0.9)
CALM = np.full(24 * 16, 0.5)


def simulate(seed: int) -> DancePerformance:
    return simulate_dance(
        seed, ACCENTS_S, np.ones(len(ACCENTS_S)), duration_s=24.0, energy=CALM
    )


def test_joints_without_skin_are_those_of_the_skin() -> None:
    pose, body = sample_impact_motion(0, 4.0).pose_at(1.7), load_body()
    np.testing.assert_allclose(
        pose_to_coco_joints(pose),
        regress_coco_joints(body, skin_vertices(body, pose)),
        atol=1e-9,
    )


def test_dancers_stray_from_the_accents_as_far_as_they_say() -> None:
    errors_by_jitter: dict[float, list[float]] = {}
    for seed in range(12):
        dance = simulate(seed)
        assert (np.diff(dance.impacts_s) >= MIN_IMPACT_INTERVAL_S).all()
        off_s = np.abs(dance.impacts_s[:, None] - ACCENTS_S).min(axis=1)
        errors_by_jitter.setdefault(dance.timing_jitter, []).extend(off_s)

    assert set(errors_by_jitter) == {0.25, 0.5, 1.0}
    for jitter, off_s in errors_by_jitter.items():
        # of the absolute normal: the median is 0.67 standard deviations; some are extras
        assert 0.4 < np.median(off_s) / (0.674 * jitter * MAX_TIMING_JITTER_S) < 1.9


def test_the_rhythm_of_the_body_is_found_in_its_poses() -> None:
    dance = simulate(3)
    rhythm = rhythm_from_poses(dance.poses.keypoints, fps=dance.poses.fps)

    off_s = np.abs(rhythm.times_s[None] - dance.impacts_s[:, None]).min(axis=1)
    assert np.mean(off_s < 0.07) >= 0.8
    assert dance.poses.keypoints.shape == (384, 17, 3)


def test_the_same_seed_dances_the_same() -> None:
    one, again = simulate(5), simulate(5)
    np.testing.assert_array_equal(one.poses.keypoints, again.poses.keypoints)
    np.testing.assert_array_equal(one.impacts_s, again.impacts_s)
    assert not np.array_equal(one.impacts_s, simulate(6).impacts_s)
