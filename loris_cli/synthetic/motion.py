"""Motion of a dancer as a function of continuous time, with impacts at known times.

    impacts -> gestures -> control tracks -> pose

An *impact* is a movement in which a limb or the whole body accelerates and stops abruptly. Its
time is the instant of the stop. The speed increases linearly from zero during the preceding
burst of 170 to 250 ms. All other motion (recovery, preparation, swaying) is slow and smooth, so
impacts are the only abrupt decelerations.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.random import Generator

from loris_cli.array_types import Array
from loris_cli.errors import InputError
from loris_cli.synthetic import body_rig
from loris_cli.synthetic.body_model import BodyPose
from loris_cli.synthetic.body_rig import REST_CONTROLS, RigControls, mirror_controls


@dataclass(frozen=True)
class Motion:
    """Motion over continuous time.

    Attributes:
        duration_s: duration in seconds.
        controls_at: function that returns the rig controls at a time in seconds.
        impact_times_s: times of the abrupt stops, ``(impacts,)``, increasing.
        impact_strengths: ``(impacts,)``, 0..1; impacts of at least 0.7 are strong.
    """

    duration_s: float
    controls_at: Callable[[float], RigControls]
    impact_times_s: Array = field(default_factory=lambda: np.empty(0))
    impact_strengths: Array = field(default_factory=lambda: np.empty(0))

    def pose_at(self, time_s: float) -> BodyPose:
        """Return the pose at a time in seconds."""
        return body_rig.controls_to_pose(self.controls_at(time_s))


@dataclass(frozen=True)
class Gesture:
    """Control values before and at an impact: control -> (ready, hit).

    The controls in ``secondary_targets`` (tilt, torso, neck) move only if they are free. A
    large gesture moves a hand or a foot by at least 0.7 m; strong impacts use only these.
    """

    limb_targets: Mapping[str, tuple[Array, Array]]
    secondary_targets: Mapping[str, tuple[Array, Array]]
    whole_body: bool = False
    large: bool = False


FEET = ("foot.L", "foot.R")


def _build_gestures(
    *, whole_body: bool = False, large: bool = False, **targets: tuple[list[float], list[float]]
) -> list[Gesture]:
    """Build a gesture, and its mirror image if it is one-sided; ``arm_l`` means ``arm.L``."""
    ready, hit = (
        {name.replace("_l", ".L"): np.array(pair[i]) for name, pair in targets.items()}
        for i in (0, 1)
    )
    left, right = (
        {name: (start[name], end[name]) for name in start}
        for start, end in ((ready, hit), (mirror_controls(ready), mirror_controls(hit)))
    )
    planted = {name: (REST_CONTROLS[name], REST_CONTROLS[name]) for name in FEET}
    if whole_body:  # symmetric
        return [Gesture({**planted, **right, **left}, {}, whole_body=True, large=True)]
    support = planted if "foot.L" in left else {}
    spine = {"tilt", "torso", "neck"}
    return [
        Gesture(
            support | {name: pair for name, pair in side.items() if name not in spine},
            {name: pair for name, pair in side.items() if name in spine},
            large=large,
        )
        for side in (left, right)
    ]


GESTURES = (
    # An arm thrown to the side, up and down, and a punch to the front.
    *_build_gestures(arm_l=([-12, -22, 0, 115], [0, -92, 0, 6]), torso=([0, 0, 6], [0, 4, -8])),
    *_build_gestures(
        large=True, arm_l=([-20, -20, 0, 95], [-20, -155, 0, 8]), torso=([4, 0, 0], [-3, -6, 0])
    ),
    *_build_gestures(
        large=True,
        arm_l=([-30, -120, 0, 30], [-15, -22, 0, 12]),
        torso=([-3, -5, 0], [8, 4, 0]),
    ),
    *_build_gestures(
        arm_l=([15, -25, 0, 120], [-72, -48, 0, 5]), torso=([0, 0, 10], [4, 0, -14])
    ),
    # A stomp and a kick, with the weight on the other foot.
    *_build_gestures(
        foot_l=([0.15, -0.14, 0.26, 4, 12], [0.15, -0.06, 0, 4, 0]),
        pelvis=([-0.08, 0, 0.905], [-0.02, 0, 0.86]),
    ),
    *_build_gestures(
        large=True,
        foot_l=([0.16, 0.20, 0.20, 4, 35], [0.30, -0.52, 0.42, 10, 5]),
        pelvis=([-0.11, 0, 0.90], [-0.11, 0.03, 0.905]),
        torso=([6, 0, 0], [-4, 0, 0]),
    ),
    # Whole body: arms thrown up in a V; a drop into the knees, arms out and down.
    *_build_gestures(
        whole_body=True,
        arm_l=([-40, -25, 0, 110], [-10, -140, 0, 8]),
        pelvis=([0, 0, 0.86], [0, 0, 0.925]),
        torso=([10, 0, 0], [-6, 0, 0]),
    ),
    *_build_gestures(
        whole_body=True,
        arm_l=([-25, -115, 0, 40], [-10, -42, 0, 10]),
        pelvis=([0, 0, 0.915], [0, 0.06, 0.70]),
        torso=([-4, 0, 0], [22, 0, 0]),
        neck=([-6, 0, 0], [8, 0, 0]),
    ),
)

MIN_STRONG_IMPACT = 0.7
# Burst durations at strength 0 and strength 1. Below 170 ms, the largest gestures would exceed
# the maximum speed of a hand (about 11 m/s for a boxer).
BURST_DURATION_RANGE_S = (0.25, 0.17)
# Range of intervals between impacts, and durations of the slow motion of a limb.
MIN_IMPACT_INTERVAL_S, MAX_IMPACT_INTERVAL_S = 0.45, 2.5
HOLD_S, RETURN_S, RELAX_S = 0.12, 0.5, 1.0
# Amplitude and rate of swaying at a looseness of 1, relative to those at 0, which are of breath
# and weight shifts. The shortest periods are then about 0.8 s, as in a groove.
LOOSE_SWAY_SIZE, LOOSE_SWAY_RATE = 3.0, 4.0
# Exponent of position over time within a burst; the speed is greatest just before the stop.
_BURST_POWER = 2.0


class ControlTrack:
    """Keyframes of one control, connected by easing curves or bursts."""

    def __init__(self, rest_value: Array) -> None:
        """Create a track that starts at the rest value at time 0.

        Args:
            rest_value: components of the control in metres or degrees (see `body_rig`),
                ``(components,)``.
        """
        self.rest_value = rest_value
        self.times_s = [0.0]
        self.values = [rest_value]
        self.is_burst = [False]

    def add_keyframe(self, time_s: float, value: Array, *, is_burst: bool = False) -> None:
        """Append a keyframe.

        Args:
            time_s: time of the keyframe, after the previous one.
            value: value of the control, ``(components,)``.
            is_burst: whether the motion from the previous keyframe is a burst.
        """
        self.times_s.append(time_s)
        self.values.append(value)
        self.is_burst.append(is_burst)

    def earliest_burst_s(self) -> float:
        """Return the earliest possible start of the next burst."""
        return self.times_s[-1] + (HOLD_S + RETURN_S if len(self.times_s) > 1 else 0.0)

    def add_impact(self, time_s: float, burst_s: float, ready: Array, hit: Array) -> None:
        """Append a return to rest, a preparation, and an impact at a given time.

        Args:
            time_s: time of the impact.
            burst_s: duration of the burst before it.
            ready: value at the start of the burst, ``(components,)``.
            hit: value at the impact, ``(components,)``.
        """
        ready_s = time_s - burst_s
        self.add_return(ready_s - RETURN_S)
        self.add_keyframe(ready_s, ready)
        self.add_keyframe(time_s, hit, is_burst=True)

    def add_return(self, until_s: float) -> None:
        """Hold the last value briefly, and return slowly to the rest value if time permits."""
        if len(self.times_s) > 1:
            self.add_keyframe(self.times_s[-1] + HOLD_S, self.values[-1])
            if until_s - self.times_s[-1] >= RETURN_S:
                self.add_keyframe(min(until_s, self.times_s[-1] + RELAX_S), self.rest_value)
        if until_s > self.times_s[-1] and self.values[-1] is self.rest_value:
            self.add_keyframe(until_s, self.rest_value)

    def value_at(self, time_s: float) -> Array:
        """Return the value at a time in seconds, ``(components,)``."""
        k = int(np.searchsorted(self.times_s, time_s))
        if k == 0 or k == len(self.times_s):
            return self.values[min(k, len(self.times_s) - 1)]
        u = (time_s - self.times_s[k - 1]) / (self.times_s[k] - self.times_s[k - 1])
        # The quintic has zero speed and acceleration at both ends.
        weight = u**_BURST_POWER if self.is_burst[k] else u**3 * (10 - 15 * u + 6 * u**2)
        return self.values[k - 1] + weight * (self.values[k] - self.values[k - 1])


def sample_impact_motion(
    seed: int, duration_s: float, *, steady_tempo: bool | None = None
) -> Motion:
    """Sample the motion of a swaying dancer with impacts at exactly known times.

    Args:
        seed: seed of impact times, strengths and gestures.
        duration_s: duration in seconds, at least 2.5.
        steady_tempo: whether the impacts follow a steady tempo, with some beats omitted; None
            selects it at random with probability 1/3.

    Returns:
        The motion. The impacts are at least 1 s from the start, at least 0.6 s from the end,
        and 0.45 to 2.5 s apart. An impact of strength 1 has the full size of its gesture, one
        of strength 0 a quarter of it.

    Raises:
        InputError: the duration is less than 2.5 s.
    """
    if duration_s < 2.5:
        raise InputError("impact motion needs at least 2.5 s", hint="use a longer duration")
    rng = np.random.default_rng(seed)
    keeps_tempo = rng.random() < 1 / 3 if steady_tempo is None else steady_tempo
    times_s = _sample_impact_times(rng, duration_s, keeps_tempo)
    strengths = rng.uniform(0.3, 1.0, len(times_s))
    return build_impact_motion(times_s, strengths, duration_s=duration_s, rng=rng)


def build_impact_motion(
    times_s: Array,
    strengths: Array,
    *,
    duration_s: float,
    rng: Generator,
    looseness: float = 0.0,
) -> Motion:
    """Build the motion of a swaying dancer with impacts at given times.

    Args:
        times_s: impact times, at least 1 s from the start and 0.45 s apart, ``(impacts,)``.
        strengths: ``(impacts,)``, 0..1.
        duration_s: duration in seconds.
        rng: random generator for gestures and swaying.
        looseness: amplitude and rate of swaying, 0 (breath, weight shifts) to 1
            (`LOOSE_SWAY_SIZE` times as wide and `LOOSE_SWAY_RATE` times as fast).
    """
    tracks = {name: ControlTrack(value) for name, value in REST_CONTROLS.items()}
    gesture: Gesture | None = None
    gaps_s = np.diff(times_s, append=np.inf)
    weak_s, strong_s = BURST_DURATION_RANGE_S
    for time_s, strength, gap_s in zip(times_s, strengths, gaps_s, strict=True):
        burst_s = weak_s + (strong_s - weak_s) * strength
        start_s = time_s - burst_s
        free = {name for name, t in tracks.items() if t.earliest_burst_s() <= start_s}
        # A foot may leave the floor only after the other foot has returned to it.
        free -= {foot for foot in FEET if tracks[foot].earliest_burst_s() + RETURN_S > start_s}
        choices = [g for g in GESTURES if free.issuperset(g.limb_targets) and g is not gesture]
        # A whole-body gesture leaves no limb free for an impact that follows shortly after.
        if gap_s < HOLD_S + RETURN_S + weak_s:
            choices = [g for g in choices if not g.whole_body]
        if strength >= MIN_STRONG_IMPACT:
            choices = [g for g in choices if g.large]
            choices += [g for g in choices if g.whole_body] * 2  # triple their probability
        gesture = choices[rng.integers(len(choices))]
        size = 0.25 + 0.75 * strength
        for name, (ready, hit) in {**gesture.limb_targets, **gesture.secondary_targets}.items():
            if name not in free:
                continue
            if name.startswith("foot"):  # weaker stomps start lower, but all end on the floor
                tracks[name].add_impact(time_s, burst_s, hit + size * (ready - hit), hit)
            else:
                tracks[name].add_impact(time_s, burst_s, ready, ready + size * (hit - ready))
    for track in tracks.values():
        track.add_return(duration_s + RELAX_S)
    sway = _build_sway(rng, looseness)

    def controls_at(t: float) -> RigControls:
        return {name: track.value_at(t) + sway(name, t) for name, track in tracks.items()}

    return Motion(duration_s, controls_at, times_s, strengths)


def _sample_impact_times(rng: Generator, duration_s: float, steady_tempo: bool) -> Array:
    """Sample increasing times from 1 s after the start to 0.6 s before the end."""
    time_s, period_s = rng.uniform(1.0, 1.5), rng.uniform(0.5, 0.9)
    times_s = []
    while time_s <= duration_s - 0.6:
        times_s.append(time_s)
        spread_s = MAX_IMPACT_INTERVAL_S - MIN_IMPACT_INTERVAL_S
        if steady_tempo:
            time_s += period_s * rng.choice([1, 2], p=[0.75, 0.25])
        else:
            time_s += MIN_IMPACT_INTERVAL_S + spread_s * rng.beta(1.3, 2.4)
    return np.array(times_s)


def _build_sway(rng: Generator, looseness: float) -> Callable[[str, float], Array]:
    """Build sinusoidal swaying, of a few degrees or millimetres at a looseness of 0."""
    size = {"pelvis": 0.012, "tilt": 1.5, "torso": 3.0, "neck": 4.0, "arm.L": 4.0, "arm.R": 4.0}
    rates_hz = {name: rng.uniform(0.12, 0.3, len(REST_CONTROLS[name])) for name in size}
    phases = {name: rng.uniform(0, 2 * np.pi, len(REST_CONTROLS[name])) for name in size}
    size_factor = 1 + looseness * (LOOSE_SWAY_SIZE - 1)
    rate_factor = 1 + looseness * (LOOSE_SWAY_RATE - 1)

    def sway(name: str, time_s: float) -> Array:
        if name not in size:
            return np.zeros(len(REST_CONTROLS[name]))
        wave = np.sin(2 * np.pi * rate_factor * rates_hz[name] * time_s + phases[name])
        return np.asarray(size_factor * size[name] * wave)

    return sway
