"""Render examples/skate.mp4: 24 s of figure skating by a synthetic skater.

    python examples/make_skate.py [OUTPUT]

The video is rendered entirely from this repository. The skater is the body mesh of
``loris_cli.synthetic``; the choreography is defined by the keyframe tables below, which are
hand-animated without motion capture.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy.interpolate import PchipInterpolator

from loris_cli.array_types import Array
from loris_cli.synthetic.body_rig import MIRROR_SIGNS, REST_CONTROLS, RigControls
from loris_cli.synthetic.motion import Motion
from loris_cli.synthetic.render import render_video
from loris_cli.synthetic.scene import Camera

# Keyframes of a rig control: phase of a cycle (0..1) and value.
Keyframes = Sequence[tuple[float, Sequence[float]]]
Cycle = Mapping[str, Keyframes]
ControlPose = Mapping[str, Sequence[float]]

DURATION_S = 24.0
FPS = 30
SEED = 4
SIZE_PX = (640, 360)

# Travel: time (s), direction (degrees; 0 is towards the camera, 90 is to the right of the
# image), speed (m/s), heading of the skater relative to the direction of travel (degrees).
TRAVEL_KEYFRAMES = np.array(
    [
        (0.0, 62, 2.2, 0),
        (2.5, 84, 2.4, 0),
        (4.8, 110, 2.4, 0),
        (8.4, 282, 2.4, 0),
        (9.9, 278, 2.2, 0),  # take-off
        (10.45, 278, 2.0, 180),  # landing, skating backwards
        (12.0, 268, 1.8, 180),
        (12.5, 268, 1.7, 360),  # three-turn
        (15.2, 312, 1.4, 352),
        (15.55, 312, 1.4, 362),
        (15.8, 312, 0.0, 430),  # hockey stop
        (18.9, 312, 0.0, 430),
        (19.4, 312, 0.0, 400),
        (20.2, 312, 0.0, 768),
        (22.0, 312, 0.0, 2100),
        (22.6, 312, 0.0, 2225),
        (24.0, 312, 0.0, 2225),
    ]
)
START_M = (-6.5, 3.0)

# One double stride, phase 0..1: the left foot glides, pushes out and returns. The right foot
# follows half a cycle later.
STRIDE_S = 1.25
STRIDE: Cycle = {
    "foot.L": [
        (0.0, [0.05, -0.06, 0.0, 4, 0]),
        (0.30, [0.07, 0.04, 0.0, 14, 0]),
        (0.50, [0.34, 0.26, 0.0, 34, 6]),
        (0.60, [0.40, 0.40, 0.10, 34, 42]),
        (0.78, [0.20, 0.34, 0.14, 14, 40]),
        (0.93, [0.09, 0.02, 0.03, 4, 4]),
    ],
    "pelvis": [(0.0, [0.03, 0, 0.86]), (0.25, [0.06, 0, 0.83]), (0.5, [-0.03, 0, 0.86]),
               (0.75, [-0.06, 0, 0.83])],
    "tilt": [(0.0, [14, 0, 0]), (0.25, [16, 5, -6]), (0.5, [14, 0, 0]), (0.75, [16, -5, 6])],
    "torso": [(0.0, [12, 0, 8]), (0.5, [12, 0, -8])],
    "neck": [(0.0, [-18, 0, 0])],
    "arm.L": [(0.05, [38, -30, 0, 22]), (0.55, [-48, -16, 0, 48])],
}  # fmt: skip

# Crossovers on a curve to the left: the right foot crosses over, the left foot pushes under.
CROSSOVER_S = 1.2
CROSSOVER: Cycle = {
    "foot.R": [
        (0.0, [-0.30, 0.12, 0.0, -20, 0]),
        (0.15, [-0.26, 0.10, 0.10, -10, 20]),
        (0.35, [0.14, -0.22, 0.12, 8, 4]),
        (0.5, [0.20, -0.20, 0.0, 10, 0]),
        (0.75, [-0.02, -0.05, 0.0, 0, 0]),
    ],
    "foot.L": [
        (0.0, [0.10, 0.0, 0.0, 8, 0]),
        (0.3, [0.06, 0.12, 0.0, 6, 0]),
        (0.55, [-0.12, 0.36, 0.0, 14, 12]),
        (0.66, [-0.10, 0.42, 0.10, 14, 40]),
        (0.85, [0.20, 0.10, 0.08, 8, 6]),
    ],
    "pelvis": [(0.0, [0.05, 0, 0.85]), (0.3, [0.09, 0, 0.83]), (0.55, [0.04, 0, 0.86]),
               (0.8, [0.08, 0, 0.82])],
    "tilt": [(0.0, [12, 9, 0]), (0.5, [15, 12, 6])],
    "torso": [(0.0, [8, 2, 22]), (0.5, [8, 4, 28])],
    "neck": [(0.0, [-14, -6, 16])],
    "arm.L": [(0.0, [14, -84, 0, 14]), (0.5, [14, -76, 0, 20])],
    "arm.R": [(0.0, [-40, 72, 0, 16]), (0.5, [-40, 82, 0, 10])],
}  # fmt: skip

# Blend weights of the cycles: time (s), weight (0..1).
STRIDE_WEIGHT = [(0.0, 1), (4.6, 1), (5.1, 0), (8.5, 0), (8.8, 0.8), (9.2, 0), (24.0, 0)]
CROSSOVER_WEIGHT = [(0.0, 0), (4.6, 0), (5.1, 1), (8.3, 1), (8.8, 0), (24.0, 0)]

ARMS_OUT: ControlPose = {"arm.L": [0, -82, 0, 8], "arm.R": [0, 82, 0, 8]}
FEET_TOGETHER: ControlPose = {"foot.L": [0.07, 0.0, 0, 6, 0], "foot.R": [-0.07, 0.0, 0, -6, 0]}
SPIN_POSE: ControlPose = {
    "pelvis": [-0.02, 0, 0.92],
    "foot.R": [-0.03, 0.0, 0, -4, 0],
    "foot.L": [0.03, -0.16, 0.12, 0, 50],
    "neck": [-6, 0, 0],
}

# Poses: time (s) and the controls that differ from the rest pose. Two keyframes in short
# succession form an accent.
POSE_KEYFRAMES: list[tuple[float, ControlPose]] = [
    (0.0, {}),
    (9.0, {"pelvis": [0, 0, 0.86], "tilt": [8, 0, 0], **ARMS_OUT, **FEET_TOGETHER}),
    # jump: knees bent, take-off from the left foot, right knee up, landing on the right foot
    (9.65, {"pelvis": [0.03, 0, 0.74], "tilt": [18, 0, 0], "torso": [10, 0, 0],
            "arm.L": [50, -35, 0, 15], "arm.R": [50, 35, 0, 15],
            "foot.L": [0.05, -0.02, 0, 4, 0], "foot.R": [-0.12, 0.42, 0.10, -8, 45]}),
    (9.92, {"pelvis": [0.0, 0, 0.93], "torso": [-6, 0, 0],
            "arm.L": [-80, -50, 0, 30], "arm.R": [-80, 50, 0, 30],
            "foot.L": [0.05, 0.06, 0, 4, 30], "foot.R": [-0.10, -0.34, 0.34, -8, 30]}),
    (10.2, {"pelvis": [0.0, 0, 0.93], "arm.L": [-60, -20, 0, 90], "arm.R": [-60, 20, 0, 90],
            "foot.L": [0.10, 0.14, 0.04, 4, 50], "foot.R": [-0.06, -0.10, 0.05, -8, 45]}),
    (10.42, {"pelvis": [-0.02, 0, 0.92], "arm.L": [-30, -50, 0, 50], "arm.R": [-30, 50, 0, 50],
             "foot.L": [0.12, 0.20, 0.16, 4, 50], "foot.R": [-0.05, -0.02, 0, -4, 16]}),
    (10.56, {"pelvis": [-0.03, 0, 0.73], "tilt": [16, 0, 0], "torso": [8, 0, 0], **ARMS_OUT,
             "foot.L": [0.22, 0.48, 0.22, 16, 70], "foot.R": [-0.04, -0.05, 0, -4, 0]}),
    (11.5, {"pelvis": [-0.02, 0, 0.89], "tilt": [14, 0, 0], "torso": [-10, 0, 0],
            "neck": [-12, 0, 0], "arm.L": [0, -96, 0, 4], "arm.R": [0, 96, 0, 4],
            "foot.L": [0.20, 0.66, 0.34, 14, 95], "foot.R": [-0.04, 0, 0, -4, 0]}),
    (12.2, {"pelvis": [0, 0, 0.86], **ARMS_OUT, **FEET_TOGETHER}),
    (12.8, {"pelvis": [0, 0, 0.87], "arm.L": [-20, -60, 0, 40], "arm.R": [-20, 60, 0, 40],
            **FEET_TOGETHER}),
    # spiral
    (13.6, {"pelvis": [-0.02, 0.08, 0.87], "tilt": [48, 0, 0], "torso": [-18, 0, 0],
            "neck": [-34, 0, 0], "arm.L": [-28, -88, 0, 4], "arm.R": [-28, 88, 0, 4],
            "foot.R": [-0.03, 0, 0, -4, 0], "foot.L": [0.14, 0.86, 0.62, 10, 125]}),
    (14.7, {"pelvis": [-0.02, 0.10, 0.87], "tilt": [56, 0, 0], "torso": [-22, 0, 0],
            "neck": [-38, 0, 0], "arm.L": [-34, -96, 0, 4], "arm.R": [-34, 96, 0, 4],
            "foot.R": [-0.03, 0, 0, -4, 0], "foot.L": [0.14, 0.88, 0.80, 10, 135]}),
    (15.35, {"pelvis": [0, 0.02, 0.88], "tilt": [10, 0, 0], "arm.L": [-20, -50, 0, 50],
             "arm.R": [-20, 50, 0, 50], **FEET_TOGETHER}),
    (15.58, {"pelvis": [0, 0.0, 0.89], "arm.L": [-30, -30, 0, 100], "arm.R": [-30, 30, 0, 100],
             **FEET_TOGETHER}),
    # stop, then five accents 0.6 s apart
    (15.8, {"pelvis": [0.07, 0, 0.74], "tilt": [14, 8, 0], "torso": [8, 4, 0],
            "arm.L": [0, -70, 0, 20], "arm.R": [0, 96, 0, 6],
            "foot.L": [0.24, -0.04, 0, 14, 0], "foot.R": [-0.20, 0.04, 0, -14, 0]}),
    (16.22, {"arm.R": [-20, 30, 0, 100]}),
    (16.4, {"arm.R": [-10, 158, 0, 6], "torso": [-6, 6, 0], "neck": [-14, 0, -14]}),
    (16.82, {"arm.R": [-10, 150, 0, 12], "arm.L": [-20, -30, 0, 110]}),
    (17.0, {"arm.R": [-10, 150, 0, 12], "arm.L": [-8, -94, 0, 4], "neck": [0, 0, 24],
            "pelvis": [0.06, 0, 0.88]}),
    (17.42, {"arm.L": [-8, -90, 0, 8], "arm.R": [-20, 120, 0, 60], "pelvis": [0.09, 0, 0.905],
             "foot.R": [-0.16, -0.16, 0.26, -4, 10]}),
    (17.6, {"arm.L": [-8, -60, 0, 20], "arm.R": [-10, 50, 0, 12], "pelvis": [0, 0, 0.82],
            "foot.R": [-0.24, -0.10, 0, -12, 0], "torso": [12, 0, 0]}),
    (18.02, {"arm.L": [-40, -25, 0, 115], "arm.R": [-40, 25, 0, 115], "torso": [8, 0, 0],
             "pelvis": [0, 0, 0.88]}),
    (18.2, {"arm.L": [-10, -142, 0, 6], "arm.R": [-10, 142, 0, 6], "torso": [-10, 0, 0],
            "neck": [-16, 0, 0], "pelvis": [0, 0, 0.925]}),
    (18.62, {"arm.L": [-10, -136, 0, 12], "arm.R": [-10, 136, 0, 12], "torso": [-8, 0, 0],
             "neck": [-12, 0, 0]}),
    (18.8, {"arm.L": [-16, -50, 0, 10], "arm.R": [-16, 50, 0, 10], "torso": [20, 0, 0],
            "pelvis": [0, 0.05, 0.72], "neck": [4, 0, 0]}),
    # spin: arms out for the entry, then closed
    (19.35, {"pelvis": [0, 0, 0.82], "torso": [4, 0, -28], "arm.L": [-60, -50, 0, 20],
             "arm.R": [10, 84, 0, 10]}),
    (19.9, {**SPIN_POSE, **ARMS_OUT, "foot.L": [0.30, -0.10, 0.30, 10, 50]}),
    (20.5, {**SPIN_POSE, "arm.L": [-62, -10, 0, 95], "arm.R": [-62, 10, 0, 95]}),
    (21.3, {**SPIN_POSE, "arm.L": [-30, -150, 0, 40], "arm.R": [-30, 150, 0, 40]}),
    (22.0, {**SPIN_POSE, "arm.L": [-30, -150, 0, 30], "arm.R": [-30, 150, 0, 30]}),
    (22.4, {"pelvis": [0, 0, 0.86], "arm.L": [-50, -30, 0, 80], "arm.R": [-50, 30, 0, 80]}),
    # final pose
    (22.72, {"pelvis": [0, 0, 0.85], "arm.L": [-40, -30, 0, 110], "arm.R": [-40, 30, 0, 110],
             "torso": [10, 0, 0], "neck": [10, 0, 0]}),
    (22.9, {"pelvis": [0.04, 0, 0.88], "tilt": [0, 4, 0], "torso": [-10, -6, 0],
            "neck": [-20, 0, 10], "arm.L": [-6, -150, 0, 6], "arm.R": [0, 84, 0, 6],
            "foot.R": [-0.28, -0.10, 0, -24, 0]}),
    (24.0, {"pelvis": [0.04, 0, 0.87], "tilt": [0, 4, 0], "torso": [-8, -6, 0],
            "neck": [-18, 0, 10], "arm.L": [-6, -146, 0, 10], "arm.R": [0, 80, 0, 10],
            "foot.R": [-0.28, -0.10, 0, -24, 0]}),
]  # fmt: skip

TAKE_OFF_S, LANDING_S, JUMP_HEIGHT_M = 9.93, 10.43, 0.34


def interpolate_keyframes(keyframes: Sequence[tuple[float, object]]) -> PchipInterpolator:
    """Interpolate keyframes (time, value) by a PCHIP spline, which does not overshoot."""
    times, values = zip(*keyframes, strict=True)
    return PchipInterpolator(times, np.array(values, dtype=float), extrapolate=True)


def interpolate_cycle(keyframes: Keyframes) -> PchipInterpolator:
    """Interpolate keyframes at phases 0..1 periodically."""
    return interpolate_keyframes(
        [(turn + phase, value) for turn in (-2, -1, 0, 1, 2) for phase, value in keyframes]
    )


def mirror_half_cycle(keyframes: Keyframes, mirror_signs: Sequence[float]) -> Keyframes:
    """Mirror keyframes to the other side of the body, half a cycle later."""
    mirrored = [
        ((phase + 0.5) % 1, (np.array(v) * mirror_signs).tolist()) for phase, v in keyframes
    ]
    return sorted(mirrored, key=lambda key: key[0])


def build_skating_motion() -> Motion:
    """Build the motion of the choreography."""
    poses = {
        name: interpolate_keyframes(
            [(time_s, pose.get(name, rest)) for time_s, pose in POSE_KEYFRAMES]
        )
        for name, rest in REST_CONTROLS.items()
    }
    other = {
        name[:-2] + ".R": mirror_half_cycle(STRIDE[name], MIRROR_SIGNS[name])
        for name in ("foot.L", "arm.L")
    }
    stride = {name: interpolate_cycle(keys) for name, keys in {**STRIDE, **other}.items()}
    cross = {name: interpolate_cycle(keys) for name, keys in CROSSOVER.items()}
    stride_weight, cross_weight = (
        interpolate_keyframes(STRIDE_WEIGHT),
        interpolate_keyframes(CROSSOVER_WEIGHT),
    )

    grid_s = np.arange(0, DURATION_S + 0.5, 1 / 240)
    direction, speed, offset = PchipInterpolator(
        TRAVEL_KEYFRAMES[:, 0], TRAVEL_KEYFRAMES[:, 1:]
    )(np.minimum(grid_s, DURATION_S)).T
    course = np.radians(direction)
    steps = speed[:, None] * np.column_stack([np.sin(course), -np.cos(course)]) / 240
    position = START_M + np.cumsum(steps, axis=0)

    def controls_at(time_s: float) -> RigControls:
        controls = {name: path(time_s) for name, path in poses.items()}
        for weight, cycle, period_s in (
            (stride_weight(time_s), stride, STRIDE_S),
            (cross_weight(time_s), cross, CROSSOVER_S),
        ):
            for name, path in cycle.items():
                controls[name] = controls[name] + weight * (
                    path(time_s / period_s % 1) - controls[name]
                )
        flight = np.clip((time_s - TAKE_OFF_S) / (LANDING_S - TAKE_OFF_S), 0, 1)
        x, y = (np.interp(time_s, grid_s, position[:, i]) for i in (0, 1))
        heading = np.interp(time_s, grid_s, direction + offset)
        controls["base"] = np.array([x, y, 4 * JUMP_HEIGHT_M * flight * (1 - flight), heading])
        return controls

    return Motion(DURATION_S, controls_at)


def tracking_camera(motion: Motion, time_s: float) -> Camera:
    """Return a fixed camera at the boards that pans and zooms to follow the skater."""
    offsets_s = np.linspace(-0.4, 0.4, 9)
    times = np.clip(time_s + offsets_s, 0, DURATION_S)
    target: Array = np.mean([motion.controls_at(t)["base"][:3] for t in times], axis=0)
    target[2] = 1.02
    position = np.array([1.0, -9.5, 1.75])
    distance_m = float(np.linalg.norm(target - position))
    return Camera(position, target, 2 * np.degrees(np.arctan(1.2 / distance_m)))


def main() -> None:
    """Render the video to the given path, by default next to this file."""
    output = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("skate.mp4")
    motion = build_skating_motion()
    render_video(
        output,
        motion,
        timing=FPS,
        size=SIZE_PX,
        seed=SEED,
        room_name="rink",
        camera=lambda time_s: tracking_camera(motion, time_s),
        crf=24,
    )
    print(f"wrote {output}")


if __name__ == "__main__":
    main()
