"""Body rig: maps animation controls to a pose, with inverse kinematics for the legs.

    controls -> feet, pelvis, spine, arms -> BodyPose

Feet are controlled by position instead of angle, so they stay in place when the pelvis moves.
"""

from collections.abc import Mapping

import numpy as np

from loris_cli.array_types import Array
from loris_cli.synthetic import body_model
from loris_cli.synthetic.body_model import DOWN, JOINTS, BodyPose, rotation_matrix

# Controls of the rig, and the factor of each component when left and right are exchanged.
# Positions are in metres, angles in degrees; rotations are rotation vectors.
#   base: x, y, z of the ground point below the body, and heading; other controls are relative
#   pelvis: position; tilt: pelvis rotation; torso, neck: rotation distributed over the joints
#   arm: shoulder rotation, elbow bend (0 is straight)
#   foot: x, y, clearance above the ground; heading; pitch (positive: toes down)
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

# Distances from the ankle joint to the lowest points of the foot, in metres.
_SOLE_M, _TOE_M, _HEEL_M = 0.077, 0.17, 0.06
LEFT_LEG_JOINTS = [JOINTS.index(name) for name in ("hip.L", "knee.L", "ankle.L")]


def mirror_controls(controls: RigControls) -> dict[str, Array]:
    """Return the controls with left and right exchanged."""
    other = {".L": ".R", ".R": ".L"}
    return {
        name[:-2] + other[name[-2:]] if name[-2:] in other else name: value * MIRROR_SIGNS[name]
        for name, value in controls.items()
    }


_LEFT_REST_CONTROLS = {
    "arm.L": np.array([-8.0, -16.0, 0.0, 38.0]),
    "foot.L": np.array([0.13, 0.0, 0.0, 4.0, 0.0]),
}
REST_CONTROLS = {
    "base": np.zeros(4),
    "pelvis": np.array([0.0, 0.0, 0.905]),
    **{name: np.zeros(3) for name in ("tilt", "torso", "neck")},
    **_LEFT_REST_CONTROLS,
    **mirror_controls(_LEFT_REST_CONTROLS),
}


def _solve_leg(hip: Array, ankle: Array, heading: Array) -> tuple[Array, float]:
    """Return the thigh's world rotation and the knee bend (degrees) for an ankle position."""
    leg = body_model.load_body().joint_positions[LEFT_LEG_JOINTS]
    thigh, shin = (float(np.linalg.norm(bone)) for bone in np.diff(leg, axis=0))
    reach = ankle - hip
    # If the target is out of reach, the straight leg points at it.
    length = min(float(np.linalg.norm(reach)), (thigh + shin) * 0.9995)
    unit = reach / np.linalg.norm(reach)
    knee = np.pi - np.arccos((thigh**2 + shin**2 - length**2) / (2 * thigh * shin))
    cosine = (thigh**2 + length**2 - shin**2) / (2 * thigh * length)
    thigh_lead = np.arccos(np.clip(cosine, -1.0, 1.0))
    hip_bend = rotation_matrix([-np.degrees(thigh_lead), 0, 0])
    return body_model.rotation_between(DOWN, unit) @ heading @ hip_bend, np.degrees(knee)


def controls_to_pose(controls: RigControls) -> BodyPose:
    """Compute the pose for rig controls.

    Args:
        controls: value of every control in ``MIRROR_SIGNS``.

    Returns:
        The pose; if a foot is out of reach, the straight leg points at it.
    """
    body = body_model.load_body()
    base = controls["base"]
    heading = rotation_matrix(np.array([0.0, 0.0, base[3]]))
    pelvis = base[:3] + heading @ controls["pelvis"]
    pelvis_rotation = heading @ rotation_matrix(controls["tilt"])
    rotations = {"pelvis": pelvis_rotation}
    for name, joints in (("torso", ("waist", "spine", "chest")), ("neck", ("neck", "head"))):
        rotation = rotation_matrix(controls[name] / len(joints))
        rotations |= dict.fromkeys(joints, rotation)
    for side in (".L", ".R"):
        arm, foot = controls["arm" + side], controls["foot" + side]
        rotations["collar" + side] = rotation_matrix(0.2 * arm[:3])
        rotations["shoulder" + side] = rotation_matrix(0.8 * arm[:3])
        rotations["elbow" + side] = rotation_matrix(np.array([-arm[3], 0.0, 0.0]))

        pitch = np.radians(foot[4])
        lowest = _SOLE_M * np.cos(pitch)
        lowest += _TOE_M * np.sin(pitch) if pitch > 0 else -_HEEL_M * np.sin(pitch)
        ankle = base[:3] + heading @ (foot[:3] + np.array([0.0, 0.0, lowest]))
        toes = heading @ rotation_matrix(np.array([0.0, 0.0, foot[3]]))
        hip = pelvis + pelvis_rotation @ body.joint_positions[JOINTS.index("hip" + side)]
        thigh, knee = _solve_leg(hip, ankle, toes)
        rotations["hip" + side] = pelvis_rotation.T @ thigh
        rotations["knee" + side] = rotation_matrix([knee, 0.0, 0.0])
        shin = thigh @ rotations["knee" + side]
        rotations["ankle" + side] = shin.T @ toes @ rotation_matrix([foot[4], 0.0, 0.0])
    return BodyPose(pelvis, rotations)
