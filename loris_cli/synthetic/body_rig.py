"""A puppet: a handful of controls in, a posture out, the legs found by inverse kinematics.

    controls -> feet, pelvis, spine, arms -> BodyPose

Feet are placed, not swung, so they stay where they stand whatever the pelvis does.
"""

from collections.abc import Mapping

import numpy as np

from loris_cli.synthetic.body_model import JOINTS, Array, BodyPose, load_body, rotation_matrix

# The controls of the puppet, and the sign each number takes in the mirror (left for right).
# Positions are in metres, angles in degrees; rotations are rotation vectors.
#   base: x, y, z of the ground under the body and its heading; all below is relative to it
#   pelvis: position; tilt: rotation; torso, neck: rotation spread over the spine, the neck
#   arm: rotation of the shoulder, bend of the elbow (0 straight)
#   foot: x, y, clearance over the ground; heading; pitch (toes down positive)
_ROTATION_MIRROR_SIGNS = (1.0, -1.0, -1.0)
MIRROR_SIGNS: dict[str, tuple[float, ...]] = {
    "base": (-1.0, 1.0, 1.0, -1.0),
    "pelvis": (-1.0, 1.0, 1.0),
    "tilt": _ROTATION_MIRROR_SIGNS,
    "torso": _ROTATION_MIRROR_SIGNS,
    "neck": _ROTATION_MIRROR_SIGNS,
    "arm.L": (*_ROTATION_MIRROR_SIGNS, 1.0),
    "arm.R": (*_ROTATION_MIRROR_SIGNS, 1.0),
    "foot.L": (-1.0, 1.0, 1.0, -1.0, 1.0),
    "foot.R": (-1.0, 1.0, 1.0, -1.0, 1.0),
}
RigControls = Mapping[str, Array]

# Lowest points of the foot from the ankle joint, in metres: sole, ball of the toes, heel.
_SOLE_M, _TOE_M, _HEEL_M = 0.077, 0.17, 0.06


def mirror_controls(controls: Mapping[str, Array]) -> dict[str, Array]:
    """The same controls, left and right exchanged."""
    other = {".L": ".R", ".R": ".L"}
    return {
        name[:-2] + other[name[-2:]] if name[-2:] in other else name: value * MIRROR_SIGNS[name]
        for name, value in controls.items()
    }


def _build_rest_controls() -> dict[str, Array]:
    left = {
        "arm.L": np.array([-8.0, -16.0, 0.0, 38.0]),
        "foot.L": np.array([0.13, 0.0, 0.0, 4.0, 0.0]),
    }
    middle = {name: np.zeros(3) for name in ("tilt", "torso", "neck")}
    stance = {"base": np.zeros(4), "pelvis": np.array([0.0, 0.0, 0.905])}
    return {**stance, **middle, **left, **mirror_controls(left)}


REST_CONTROLS = _build_rest_controls()


def _solve_leg(hip: Array, ankle: Array, heading: Array) -> tuple[Array, float]:
    """Rotation of the thigh in the world and bend of the knee (degrees) that reach an ankle."""
    heads = load_body().joint_positions
    of = JOINTS.index
    thigh, shin = (
        float(np.linalg.norm(heads[of(b)] - heads[of(a)]))
        for a, b in (("hip.L", "knee.L"), ("knee.L", "ankle.L"))
    )
    reach = ankle - hip
    # A leg too short for its target points at it, straight.
    length = min(float(np.linalg.norm(reach)), (thigh + shin) * 0.9995)
    unit = reach / np.linalg.norm(reach)
    knee = np.pi - np.arccos((thigh**2 + shin**2 - length**2) / (2 * thigh * shin))
    lead = np.arccos(
        np.clip((thigh**2 + length**2 - shin**2) / (2 * thigh * length), -1.0, 1.0)
    )
    axis = np.cross([0.0, 0.0, -1.0], unit)
    sine = float(np.linalg.norm(axis))
    swing = rotation_matrix(np.degrees(axis / max(sine, 1e-9) * np.arctan2(sine, -unit[2])))
    return swing @ heading @ rotation_matrix(np.array([-np.degrees(lead), 0, 0])), np.degrees(
        knee
    )


def controls_to_pose(controls: RigControls) -> BodyPose:
    """The posture that the controls of the puppet ask for.

    Args:
        controls: a value for every name in ``MIRROR_SIGNS``, with its length and units.

    Returns:
        the posture; a foot out of reach is approached with a straight leg.
    """
    body = load_body()
    base = controls["base"]
    heading = rotation_matrix(np.array([0.0, 0.0, base[3]]))
    pelvis = base[:3] + heading @ controls["pelvis"]
    pelvis_turn = heading @ rotation_matrix(controls["tilt"])
    turns = {"pelvis": pelvis_turn}
    turns |= dict.fromkeys(("waist", "spine", "chest"), rotation_matrix(controls["torso"] / 3))
    turns |= dict.fromkeys(("neck", "head"), rotation_matrix(controls["neck"] / 2))
    for side in (".L", ".R"):
        arm, foot = controls["arm" + side], controls["foot" + side]
        turns["collar" + side] = rotation_matrix(0.2 * arm[:3])
        turns["shoulder" + side] = rotation_matrix(0.8 * arm[:3])
        turns["elbow" + side] = rotation_matrix(np.array([-arm[3], 0.0, 0.0]))

        pitch = np.radians(foot[4])
        lowest = _SOLE_M * np.cos(pitch)
        lowest += _TOE_M * np.sin(pitch) if pitch > 0 else -_HEEL_M * np.sin(pitch)
        ankle = base[:3] + heading @ (foot[:3] + np.array([0.0, 0.0, lowest]))
        toes = heading @ rotation_matrix(np.array([0.0, 0.0, foot[3]]))
        hip = pelvis + pelvis_turn @ body.joint_positions[JOINTS.index("hip" + side)]
        thigh, knee = _solve_leg(hip, ankle, toes)
        turns["hip" + side] = pelvis_turn.T @ thigh
        turns["knee" + side] = rotation_matrix(np.array([knee, 0.0, 0.0]))
        shin = thigh @ turns["knee" + side]
        turns["ankle" + side] = shin.T @ toes @ rotation_matrix(np.array([foot[4], 0.0, 0.0]))
    return BodyPose(pelvis, turns)
