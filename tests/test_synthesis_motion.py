"""Motion of a synthetic dancer: rotations, body model, rig, and impacts at known times."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loris_cli.array_types import Array
from loris_cli.errors import InputError
from loris_cli.pose.keypoints import COCO_17
from loris_cli.synthetic.body_model import (
    HEIGHT_M,
    JOINTS,
    SKELETON,
    BodyPose,
    forward_kinematics,
    load_body,
    regress_coco_joints,
    rotation_matrix,
    skin_vertices,
)
from loris_cli.synthetic.body_rig import REST_CONTROLS, controls_to_pose, mirror_controls
from loris_cli.synthetic.motion import MIN_STRONG_IMPACT, Motion, sample_impact_motion

BODY = load_body()
STEP_S = 0.005


def compute_joint_positions(motion: Motion, times_s: Array) -> Array:
    """Return the joint positions in m, ``(times, joints, 3)``."""
    return np.stack([forward_kinematics(BODY, motion.pose_at(t))[1] for t in times_s])


def name_joint_positions(pose: BodyPose) -> dict[str, Array]:
    """Return the position of each joint in m, by name."""
    return dict(zip(JOINTS, forward_kinematics(BODY, pose)[1], strict=True))


def compute_max_speeds(motion: Motion) -> Array:
    """Return the maximum joint speed in m/s in each interval of ``STEP_S``."""
    displacements = np.diff(
        compute_joint_positions(motion, np.arange(0, motion.duration_s, STEP_S)), axis=0
    )
    speeds: Array = np.linalg.norm(displacements, axis=2).max(axis=1) / STEP_S
    return speeds


def test_rotation_vectors_follow_the_right_hand_rule() -> None:
    quarter_turn = rotation_matrix(np.array([0.0, 0.0, 90.0]))

    np.testing.assert_allclose(quarter_turn @ [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], atol=1e-12)
    np.testing.assert_allclose(rotation_matrix(np.zeros(3)), np.eye(3), atol=1e-12)


def test_skinning_the_modelled_pose_gives_the_mesh() -> None:
    inverses = dict(zip(JOINTS, np.swapaxes(BODY.zero_pose_rotations, 1, 2), strict=True))
    rotations = {
        name: inverses[parent].T @ inverses[name] if parent else inverses[name]
        for name, (parent, _) in SKELETON.items()
    }
    modelled_pose = BodyPose(np.zeros(3), rotations)

    np.testing.assert_allclose(skin_vertices(BODY, modelled_pose), BODY.vertices, atol=1e-6)


def test_mesh_height_is_the_documented_height() -> None:
    assert np.ptp(BODY.vertices[:, 2]) == pytest.approx(HEIGHT_M)


def test_limbs_are_vertical_in_the_zero_pose() -> None:
    joints = name_joint_positions(BodyPose(np.zeros(3)))
    for upper, lower in (
        ("shoulder.L", "elbow.L"),
        ("elbow.R", "wrist.R"),
        ("hip.L", "knee.L"),
    ):
        limb = joints[lower] - joints[upper]
        np.testing.assert_allclose(limb[:2], 0, atol=1e-9)
        assert limb[2] < 0


def test_rotated_arm_is_horizontal_and_keeps_its_length() -> None:
    hanging = name_joint_positions(BodyPose(np.zeros(3)))
    raised = name_joint_positions(
        BodyPose(np.zeros(3), {"shoulder.L": rotation_matrix(np.array([0.0, -90.0, 0.0]))})
    )
    length = np.linalg.norm(hanging["wrist.L"] - hanging["shoulder.L"])
    level = np.array([length, 0.0, 0.0])
    np.testing.assert_allclose(raised["wrist.L"] - raised["shoulder.L"], level, atol=1e-9)
    np.testing.assert_allclose(raised["wrist.R"], hanging["wrist.R"])


def test_root_transform_moves_all_joints() -> None:
    rest = regress_coco_joints(BODY, skin_vertices(BODY, BodyPose(np.zeros(3))))
    rotation = rotation_matrix(np.array([10.0, 20.0, 30.0]))
    position = np.array([1.0, 2.0, 3.0])
    moved = regress_coco_joints(
        BODY, skin_vertices(BODY, BodyPose(position, {"pelvis": rotation}))
    )
    np.testing.assert_allclose(moved, rest @ rotation.T + position, atol=1e-5)


def test_left_and_right_joints_are_symmetric() -> None:
    joints = dict(
        zip(
            COCO_17,
            regress_coco_joints(BODY, skin_vertices(BODY, BodyPose(np.zeros(3)))),
            strict=True,
        )
    )
    for name in ("eye", "shoulder", "wrist", "hip", "ankle"):
        mirror = joints[f"right_{name}"] * [-1, 1, 1]
        np.testing.assert_allclose(joints[f"left_{name}"], mirror, atol=2e-3)
        assert joints[f"left_{name}"][0] > 0.02


def test_feet_stay_in_place_when_the_pelvis_moves() -> None:
    for pelvis in ([0.0, 0.0, 0.9], [0.08, 0.05, 0.7], [-0.1, 0.0, 0.85]):
        joints = name_joint_positions(
            controls_to_pose({**REST_CONTROLS, "pelvis": np.array(pelvis)})
        )
        np.testing.assert_allclose(
            joints["ankle.L"][:2], REST_CONTROLS["foot.L"][:2], atol=1e-6
        )
        np.testing.assert_allclose(
            joints["ankle.R"][:2], REST_CONTROLS["foot.R"][:2], atol=1e-6
        )
        assert joints["ankle.L"][2] == pytest.approx(joints["ankle.R"][2])


def test_leg_is_straight_if_its_foot_target_is_out_of_reach() -> None:
    far = {**REST_CONTROLS, "foot.L": np.array([0.1, -2.0, 0.4, 0.0, 0.0])}
    joints = name_joint_positions(controls_to_pose(far))
    thigh = joints["knee.L"] - joints["hip.L"]
    shin = joints["ankle.L"] - joints["knee.L"]
    cosine = thigh @ shin / np.linalg.norm(thigh) / np.linalg.norm(shin)
    assert cosine > 0.995


def test_mirroring_twice_is_the_identity() -> None:
    controls = sample_impact_motion(5, 4.0).controls_at(2.2)
    mirrored_twice = mirror_controls(mirror_controls(controls))
    for name, value in controls.items():
        np.testing.assert_array_equal(mirrored_twice[name], value)


def test_mirrored_controls_mirror_the_joints() -> None:
    controls = sample_impact_motion(5, 4.0).controls_at(2.2)

    joints = name_joint_positions(controls_to_pose(controls))
    mirrored = name_joint_positions(controls_to_pose(mirror_controls(controls)))

    for name in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle"):
        expected = joints[f"{name}.R"] * [-1, 1, 1]
        np.testing.assert_allclose(mirrored[f"{name}.L"], expected, atol=5e-3)


@pytest.mark.parametrize("seed", [0, 3])
def test_joint_stops_abruptly_at_every_impact_and_only_there(seed: int) -> None:
    motion = sample_impact_motion(seed, 6.0)
    speeds = compute_max_speeds(motion)
    decelerations = -np.diff(speeds) / STEP_S  # at STEP_S, 2 * STEP_S, ...
    is_impact = np.zeros(len(decelerations), dtype=bool)
    for time_s in motion.impact_times_s:
        k = round(time_s / STEP_S)
        before, after = speeds[k - 3 : k - 1].max(), speeds[k + 1 : k + 3].max()
        assert before > 1.5
        assert after < before / 5
        is_impact[k - 4 : k + 3] = True
        assert decelerations[k - 4 : k + 3].max() > 100
    assert decelerations[~is_impact].max() < 40


def test_strong_impacts_are_faster_than_weak_impacts() -> None:
    weak: list[float] = []
    strong: list[float] = []
    for seed in range(8):
        motion = sample_impact_motion(seed, 8.0)
        for time_s, strength in zip(
            motion.impact_times_s, motion.impact_strengths, strict=True
        ):
            before, at = compute_joint_positions(motion, np.array([time_s - STEP_S, time_s]))
            speed = float(np.linalg.norm(at - before, axis=1).max()) / STEP_S
            (strong if strength >= MIN_STRONG_IMPACT else weak).append(speed)
    assert np.median(strong) > 1.5 * np.median(weak)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10**6), duration_s=st.floats(2.5, 40.0))
def test_intervals_between_impacts_are_in_range(seed: int, duration_s: float) -> None:
    motion = sample_impact_motion(seed, duration_s)
    times_s = motion.impact_times_s
    assert len(times_s) >= 1
    assert len(times_s) == len(motion.impact_strengths)
    assert times_s[0] >= 1.0
    assert times_s[-1] <= duration_s - 0.6
    assert np.all(np.diff(times_s) >= 0.45 - 1e-9)
    assert np.all(np.diff(times_s) <= 2.5)
    assert np.all((motion.impact_strengths >= 0) & (motion.impact_strengths <= 1))


def test_impacts_at_a_steady_tempo_are_on_its_beats() -> None:
    intervals_s = np.diff(sample_impact_motion(2, 20.0, steady_tempo=True).impact_times_s)
    beats = intervals_s / intervals_s.min()
    np.testing.assert_allclose(beats, np.rint(beats), atol=1e-6)


def test_feet_touch_the_floor_and_joint_angles_are_anatomical() -> None:
    for seed in range(4):
        motion = sample_impact_motion(seed, 8.0)
        for time_s in np.arange(0, 8, 0.5):
            pose = motion.pose_at(time_s)
            assert 0.0 <= skin_vertices(BODY, pose)[:, 2].min() < 0.03
            for joint, sign in (("elbow", -1), ("knee", 1)):
                for side in (".L", ".R"):
                    _, y, z = pose.rotations[joint + side][:, 1]
                    bend_deg = sign * np.degrees(np.arctan2(z, y))
                    assert -3 <= bend_deg <= 150


def test_seed_determines_the_motion() -> None:
    first, second, other = (sample_impact_motion(seed, 6.0) for seed in (4, 4, 5))
    np.testing.assert_array_equal(first.impact_times_s, second.impact_times_s)
    for name, value in first.controls_at(3.3).items():
        np.testing.assert_array_equal(value, second.controls_at(3.3)[name])
    assert not np.array_equal(first.impact_times_s[:1], other.impact_times_s[:1])


def test_duration_too_short_for_an_impact_is_refused() -> None:
    with pytest.raises(InputError, match=r"2\.5"):
        sample_impact_motion(0, 2.0)
