"""Rhythm from poses: known values, impacts at known times, invariants, and the file format."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loris_cli.array_types import Array
from loris_cli.errors import InputError, OutputError
from loris_cli.rhythm import trajectories
from loris_cli.rhythm.directogram import (
    directogram,
    frame_displacements,
    normalize_by_max,
    onset_envelope,
)
from loris_cli.rhythm.impact_timing import interpolate_peaks, locate_impacts
from loris_cli.rhythm.peak_picking import PeakPickingParams, pick_peaks, pick_peaks_official
from loris_cli.rhythm.pose_rhythm import frame_timestamps, motion_energy, rhythm_from_poses
from loris_cli.rhythm.rhythm_file import read_rhythm, write_rhythm
from loris_cli.rhythm.trajectories import estimate_noise_std, resample_positions

pytestmark = pytest.mark.numpy1

FPS = 16.0

# --- synthetic keypoints --------------------------------------------------------------------

# COCO-17 joints of a standing person in px, from the front, about 190 px high.
STANDING_JOINTS = np.array(
    [
        (160, 38), (156, 33), (164, 33), (151, 36), (169, 36), (140, 65), (180, 65),
        (128, 98), (192, 98), (124, 130), (196, 130), (147, 122), (173, 122), (145, 168),
        (175, 168), (144, 214), (176, 214),
    ],
    dtype=np.float64,
)  # fmt: skip
LIMBS = {"left arm": (5, 7, 9), "right arm": (6, 8, 10), "left leg": (11, 13, 15)}
SWINGS = {"left arm": (1.6, 2.2), "right arm": (-1.6, -2.2), "left leg": (1.0, 1.3)}
UPPER_JOINTS = [*range(13)]


def rotate(vector: Array, angles: Array) -> Array:
    """Rotate a vector by each angle in radians, ``(angles, 2)``."""
    cos, sin = np.cos(angles), np.sin(angles)
    x, y = vector
    return np.stack([x * cos - y * sin, x * sin + y * cos], axis=-1)


def compute_swing(
    times_s: Array, impact_s: float, burst_s: float, power: float, rebound: float
) -> Array:
    """Displacement, 1 at the impact: a burst to an abrupt stop, a rebound, a slow recovery."""
    burst = ((times_s - impact_s + burst_s) / burst_s).clip(0, 1) ** power
    fast = rebound * (1 - (1 - ((times_s - impact_s) / 0.12).clip(0, 1)) ** 2)
    recovery = ((times_s - impact_s - 0.12) / 0.5).clip(0, 1)
    slow = (1 - rebound) * recovery**3 * (10 - 15 * recovery + 6 * recovery**2)
    return np.where(times_s <= impact_s, burst, 1 - fast - slow)


def make_impact_keypoints(
    seed: int,
    *,
    noise_px: float = 0.0,
    duration_s: float = 25.0,
    video_fps: float | None = None,
    times_s: Array | None = None,
) -> tuple[Array, Array]:
    """Return keypoints at 16 fps, and the times of the abrupt stops."""
    rng = np.random.default_rng(seed)
    if times_s is None:
        times_s = np.arange(round(duration_s * FPS)) / FPS
    if video_fps is not None:  # time of the video frame displayed at that moment
        times_s = np.floor(times_s * video_fps + 1e-6) / video_fps
    impacts_s = 1 + np.cumsum(rng.uniform(0.85, 1.4, int(duration_s)))
    impacts_s = impacts_s[impacts_s < duration_s - 0.8]
    angles = {name: np.zeros((2, len(times_s))) for name in LIMBS}
    crouch = np.zeros(len(times_s))
    for impact_s in impacts_s:
        burst_s, power = rng.uniform(0.12, 0.25), rng.choice([1.0, 1.5, 2.0, 2.5])
        rebound = rng.choice([0.0, rng.uniform(0.3, 0.6)])
        offset = compute_swing(times_s, float(impact_s), burst_s, power, rebound)
        offset = offset * rng.uniform(0.5, 1)
        moving_limb = rng.choice([*LIMBS, "both arms", "whole body"])
        if moving_limb == "whole body":
            crouch += 30 * offset
        for limb in ["left arm", "right arm"] if moving_limb == "both arms" else [moving_limb]:
            if limb in LIMBS:
                angles[limb] += np.outer(SWINGS[limb], offset)
    positions = np.repeat(STANDING_JOINTS[None], len(times_s), axis=0)
    for limb, (root, middle, end) in LIMBS.items():
        upper, lower = (
            STANDING_JOINTS[middle] - STANDING_JOINTS[root],
            STANDING_JOINTS[end] - STANDING_JOINTS[middle],
        )
        positions[:, middle] = positions[:, root] + rotate(upper, angles[limb][0])
        positions[:, end] = positions[:, middle] + rotate(lower, angles[limb][1])
    positions[:, UPPER_JOINTS, 1] += crouch[:, None]
    positions[:, :, 0] += 5 * np.sin(2 * np.pi * 0.3 * times_s)[:, None]
    return add_detection_noise(positions, rng, noise_px), impacts_s


def add_detection_noise(
    positions: Array, rng: np.random.Generator, noise_px: float, outlier_fraction: float = 0.01
) -> Array:
    """Return keypoints of score 1 with white noise, and outliers of 10 px."""
    positions = positions + noise_px * rng.normal(size=positions.shape)
    if noise_px:
        is_outlier = rng.random(positions.shape[:2]) < outlier_fraction
        angles = rng.uniform(0, 2 * np.pi, is_outlier.sum())
        positions[is_outlier] += 10 * np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    return np.concatenate([positions, np.ones((*positions.shape[:2], 1))], axis=-1)


def make_static_keypoints(n_frames: int) -> Array:
    """Keypoints of score 1 of a standing person."""
    joints = np.column_stack([STANDING_JOINTS, np.ones(17)])
    return np.tile(joints, (n_frames, 1, 1))


def make_gliding_keypoints(
    period_s: float, *, noise_px: float = 0.0, duration_s: float = 40.0
) -> Array:
    """Keypoints of a person swaying by 25 px in a wave, without any abrupt stop."""
    times_s = np.arange(round(duration_s * FPS)) / FPS
    phases = 2 * np.pi * times_s[:, None] / period_s + np.arange(17) * np.pi / 32
    positions = np.repeat(STANDING_JOINTS[None], len(times_s), axis=0)
    positions[:, :, 0] += 25 * np.sin(phases)
    return add_detection_noise(positions, np.random.default_rng(0), noise_px)


def compute_offsets_s(peaks_s: Array, impacts_s: Array) -> Array:
    """Return the offset of the nearest peak from each impact, ``(impacts,)``."""
    nearest = np.abs(peaks_s[None] - impacts_s[:, None]).argmin(axis=1)
    return np.asarray(peaks_s[nearest] - impacts_s)


# --- known values ---------------------------------------------------------------------------

DISPLACEMENTS = np.array([[(3, 4), (-1, 0), (0, 2), (-3, -4), (1, -1)]], dtype=np.float64)
ROOT2 = 2**0.5


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"compat": "official"}, [3, 0, 0, 10, 0, ROOT2, 0, 0, 0, 0]),
        ({}, [1, 0, 10, 0, 0, 2, 0, ROOT2, 0, 0]),
        ({"angle_range_deg": 360.0}, [0, 5, 2, 0, 0, 1, 5, 0, ROOT2, 0]),
    ],
    ids=["official", "180 degrees", "360 degrees"],
)
def test_directogram_of_five_displacements(
    options: dict[str, Any], expected: list[float]
) -> None:
    np.testing.assert_allclose(directogram(DISPLACEMENTS, **options)[0], expected, rtol=1e-6)


@pytest.mark.parametrize("compat", ["paper", "official"])
def test_displacement_just_below_zero_degrees_has_a_bin(compat: Any) -> None:
    displacements = np.array([[(1.0, -1e-9)]])
    assert directogram(displacements, compat=compat).sum() == pytest.approx(1.0)


ENVELOPE = np.array(
    [
        0, 0.1, 0.5, 0.2, 0.1, 0.05, 0.9, 0.3, 0.3, 0.1, 0, 0, 0.4, 0.4, 0.1, 0,
        0.2, 1, 0.1, 0, 0.05, 0, 0.3, 0.1,
    ]
)  # fmt: skip


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        (PeakPickingParams(), [2, 6, 12, 17, 22]),
        (PeakPickingParams(wait=0), [2, 6, 12, 13, 17, 22]),
        (PeakPickingParams(delta=0.2, delta_is_relative=False), [2, 6, 12, 17]),
    ],
    ids=["default", "no wait", "absolute delta"],
)
def test_paper_peaks_of_a_known_envelope(
    params: PeakPickingParams, expected: list[int]
) -> None:
    assert pick_peaks(ENVELOPE, params).tolist() == expected


def test_official_peaks_of_a_known_envelope() -> None:
    assert pick_peaks_official(ENVELOPE).tolist() == [6, 17]


OFFICIAL_ENVELOPE = [
    0.63907, 0.70478, 0.40965, 0.46183, 0.50918, 0.57275, 0.93481, 0.66068, 0.63843, 0.45471,
    0.60004, 0.57566, 0.45513, 0.55084, 0.29136, 0.52616, 0.67944, 0.4971, 0.6145, 0.42518,
    0.58276, 0.67391, 0.71479, 0.54181, 0.61583, 0.55845, 0.45267, 0.36832, 0.60949, 0.50724,
    0.56102, 0.44948, 0.44611, 0.60905, 0.50517, 0.38679, 0.85022, 0.27199, 0.42378, 0.44211,
    0.66838, 0.65574, 1.0, 0.49956, 0.57636, 0.49831, 0.42354, 0.48046, 0.83548, 0.59776,
    0.39303, 0.4858, 0.57119, 0.63446, 0.57067, 0.3819, 0.65499, 0.63266,
]  # fmt: skip


def test_official_rhythm_matches_the_released_code() -> None:
    j, t = np.arange(17), np.arange(60)[:, None]
    x = 100 + 10 * j + 20 * np.sin(2 * np.pi * t / (9 + j))
    y = 200 + 5 * j + 15 * np.cos(2 * np.pi * t / (7 + j))
    keypoints = np.stack([x, y, np.ones_like(x)], axis=-1).astype(np.float32).astype(np.float64)

    rhythm = rhythm_from_poses(keypoints, compat="official")

    assert rhythm.envelope[:2].tolist() == [0, 0]
    np.testing.assert_allclose(rhythm.envelope[2:], OFFICIAL_ENVELOPE, atol=1e-5)
    peaks = [8, 16, 22, 24, 28, 36, 42, 48]  # in the envelope without its first two zeros
    np.testing.assert_allclose(rhythm.times_s, (np.array(peaks) + 2) / FPS)


# --- impacts --------------------------------------------------------------------------------


@given(fraction=st.floats(0, 1), rebound=st.floats(0, 1))
def test_time_of_a_stop_between_frames_is_exact(fraction: float, rebound: float) -> None:
    # 10 px per frame from frame 4 to frame 8 + fraction, then a stop or a rebound.
    frames, stop = np.arange(20.0), 8 + fraction
    x = 10 * (frames.clip(4, stop) - 4) - 10 * rebound * (frames - stop).clip(0, 3)
    displacements = frame_displacements(np.stack([x, np.zeros(20)], axis=-1)[:, None])

    impacts, drops, is_local_max = locate_impacts(np.array([5]), displacements, displacements)

    assert impacts[0] == pytest.approx(stop, abs=1e-6)
    assert drops[0] == pytest.approx(10 * (1 + rebound), rel=1e-6)
    assert is_local_max[0]


@given(shift=st.floats(0, 1))
def test_time_of_a_smooth_turn_is_within_a_tenth_of_a_frame(shift: float) -> None:
    x = 50 * np.sin(2 * np.pi * (np.arange(40) - 10 - shift) / 16 + np.pi / 2)
    displacements = frame_displacements(np.stack([x, np.zeros(40)], axis=-1)[:, None])

    impacts, _, _ = locate_impacts(np.array([9]), displacements, displacements)

    assert impacts[0] == pytest.approx(10 + shift, abs=0.11)


def test_onset_is_the_vertex_of_a_parabola() -> None:
    envelope: Array = 9 - (np.arange(9, dtype=np.float64) - 4.3) ** 2
    assert interpolate_peaks(np.array([4]), envelope)[0] == pytest.approx(4.3)


@pytest.mark.parametrize(
    ("noise_px", "min_recall", "min_exact_recall"), [(0, 0.95, 0.95), (2, 0.93, 0.85)]
)
def test_peaks_are_at_the_impacts(
    noise_px: float, min_recall: float, min_exact_recall: float
) -> None:
    offsets_s: list[float] = []
    exact_offsets_s: list[float] = []
    for seed in range(6):
        keypoints, impacts_s = make_impact_keypoints(seed, noise_px=noise_px)
        for offsets, paper_exact in ((offsets_s, False), (exact_offsets_s, True)):
            peaks_s = rhythm_from_poses(keypoints, paper_exact=paper_exact).times_s
            offsets.extend(compute_offsets_s(peaks_s, impacts_s))

    assert abs(np.median(offsets_s)) < 0.012
    assert np.mean(np.abs(offsets_s) < 0.05) >= min_recall
    assert np.mean(np.abs(exact_offsets_s) < 0.05) >= min_exact_recall


def test_onset_placement_is_before_the_impact() -> None:
    keypoints, impacts_s = make_impact_keypoints(1)

    rhythm = rhythm_from_poses(keypoints, peak_placement="onset")

    assert np.median(compute_offsets_s(rhythm.times_s, impacts_s)) < -0.02


def test_peaks_of_slow_recovery_are_weak() -> None:
    keypoints, impacts_s = make_impact_keypoints(2, noise_px=1)

    rhythm = rhythm_from_poses(keypoints)

    distance_s = np.abs(rhythm.times_s[:, None] - impacts_s).min(axis=1)
    strong = rhythm.strengths[distance_s < 0.07]
    weak = np.append(rhythm.strengths[distance_s > 0.15], 0.0)
    assert np.median(strong) > 3 * np.median(weak)


@pytest.mark.parametrize("video_fps", [15.0, 25.0, 30.0])
def test_age_of_sampled_frames_is_compensated(video_fps: float) -> None:
    offsets_s: list[float] = []
    for seed in range(4):
        keypoints, impacts_s = make_impact_keypoints(seed, noise_px=1, video_fps=video_fps)
        source_times_s = frame_timestamps(len(keypoints), 1 / video_fps)
        rhythm = rhythm_from_poses(keypoints, source_times_s=source_times_s)
        offsets_s.extend(compute_offsets_s(rhythm.times_s, impacts_s))

    assert abs(np.median(offsets_s)) < 0.012
    assert np.mean(np.abs(offsets_s) < 0.05) > 0.92


@pytest.mark.parametrize("video_fps", [25.0, 30.0, 60.0])
def test_dropped_frames_do_not_double_the_spread_of_impact_errors(video_fps: float) -> None:
    rng = np.random.default_rng(0)
    spread_s = []
    for dropped_fraction in (0.0, 0.3):
        offsets_s: list[float] = []
        for seed in range(6):
            frame_times_s = np.arange(round(25 * video_fps)) / video_fps
            is_shown = rng.random(len(frame_times_s)) >= dropped_fraction
            is_shown[0] = True
            shown_s = frame_times_s[is_shown]
            ticks_s = np.arange(400) / FPS
            source_s = shown_s[np.searchsorted(shown_s, ticks_s + 1e-6, side="right") - 1]
            keypoints, impacts_s = make_impact_keypoints(seed, noise_px=1, times_s=source_s)
            rhythm = rhythm_from_poses(keypoints, source_times_s=source_s)
            offsets_s.extend(compute_offsets_s(rhythm.times_s, impacts_s))
        assert abs(np.median(offsets_s)) < 0.012
        spread_s.append(float(np.quantile(np.abs(offsets_s), 0.75)))
    assert spread_s[1] < 1.5 * spread_s[0]


def test_peaks_do_not_depend_on_the_length_of_the_blocks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keypoints, _ = make_impact_keypoints(0, noise_px=1)
    whole = rhythm_from_poses(keypoints)
    monkeypatch.setattr(trajectories, "BLOCK_FRAMES", 50)
    monkeypatch.setattr(trajectories, "BLOCK_POINTS", 3)
    in_blocks = rhythm_from_poses(keypoints)
    np.testing.assert_allclose(in_blocks.times_s, whole.times_s, rtol=0, atol=1e-12)
    np.testing.assert_allclose(in_blocks.strengths, whole.strengths, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(in_blocks.envelope, whole.envelope)


def test_constant_motion_at_25_fps_has_no_spurious_peaks() -> None:
    frame_times_s = np.floor(np.arange(320) / FPS * 25 + 1e-6) / 25
    keypoints = make_static_keypoints(320)
    keypoints[:, :, 0] += 200 * frame_times_s[:, None]

    assert len(rhythm_from_poses(keypoints, source_times_s=frame_times_s).times_s) == 0
    assert len(rhythm_from_poses(keypoints, paper_exact=True).times_s) > 20


def test_resampling_preserves_constant_velocity() -> None:
    input_times_s = np.array([0, 0.04, 0.04, 0.12, 0.2])
    velocity = np.array([100.0, -50.0])

    positions = resample_positions(
        input_times_s[:, None, None] * velocity, input_times_s, n_frames=4, fps=16
    )

    np.testing.assert_allclose(
        positions[:, 0], np.outer(np.arange(4) / 16, velocity), atol=1e-9
    )


def test_rhythm_of_a_repeated_clip_is_periodic() -> None:
    keypoints, _ = make_impact_keypoints(0, noise_px=1, duration_s=20)

    rhythm = rhythm_from_poses(np.tile(keypoints, (4, 1, 1)))

    second, third = (np.floor(rhythm.times_s / 20) == k for k in (1, 2))
    assert second.sum() > 10
    np.testing.assert_allclose(rhythm.times_s[third] - 20, rhythm.times_s[second], atol=1e-9)
    np.testing.assert_allclose(rhythm.strengths[third], rhythm.strengths[second], atol=1e-9)


# --- motion without impacts -----------------------------------------------------------------


@pytest.mark.parametrize("period_s", [2.0, 3.0])
def test_gliding_motion_has_peaks_at_its_turns(period_s: float) -> None:
    keypoints = make_gliding_keypoints(period_s, noise_px=0.5)

    fast = rhythm_from_poses(keypoints, fill_gaps=False)
    rhythm = rhythm_from_poses(keypoints)

    assert len(fast.times_s) < 0.4 * len(rhythm.times_s)
    assert len(rhythm.times_s) == pytest.approx(2 * 40 / period_s, rel=0.15)
    assert np.median(np.diff(rhythm.times_s)) == pytest.approx(period_s / 2, abs=0.03)


def test_peaks_of_slow_motion_have_at_most_half_strength() -> None:
    strengths = rhythm_from_poses(make_gliding_keypoints(3.0)).strengths

    assert 0 < strengths.max() <= 0.5


def test_paper_rule_finds_no_peaks_in_gliding_motion() -> None:
    # App. E: the envelope never exceeds its local mean.
    assert len(rhythm_from_poses(make_gliding_keypoints(3.0), paper_exact=True).times_s) == 0


def test_gap_filling_does_not_change_the_impacts() -> None:
    impacts, impacts_s = make_impact_keypoints(3)
    glide = make_gliding_keypoints(3.0, duration_s=20)
    keypoints = np.concatenate([impacts, glide + impacts[-1] - glide[0] * [1, 1, 0]])
    keypoints[..., 2] = 1

    fast = rhythm_from_poses(keypoints, fill_gaps=False)
    rhythm = rhythm_from_poses(keypoints)

    last_s = impacts_s[-1]
    np.testing.assert_array_equal(
        rhythm.times_s[rhythm.times_s < last_s], fast.times_s[fast.times_s < last_s]
    )
    assert (rhythm.times_s > 27).sum() >= 10 > 3 >= (fast.times_s > 27).sum()


@pytest.mark.parametrize("noise_px", [0.0, 0.3, 1.0, 2.0, 3.0])
def test_person_at_rest_has_no_peaks(noise_px: float) -> None:
    positions = np.repeat(STANDING_JOINTS[None], 480, axis=0)
    for seed in range(3):
        rng = np.random.default_rng(seed)
        keypoints = add_detection_noise(positions, rng, noise_px, outlier_fraction=0.002)
        assert len(rhythm_from_poses(keypoints).times_s) == 0


@pytest.mark.parametrize("compat", ["paper", "official"])
@pytest.mark.parametrize("n_frames", [0, 1, 2, 3, 5, 40])
def test_poses_without_a_person_have_no_peaks(compat: Any, n_frames: int) -> None:
    for keypoints in (np.zeros((n_frames, 17, 3)), np.full((n_frames, 17, 3), np.nan)):
        rhythm = rhythm_from_poses(keypoints, compat=compat)
        assert len(rhythm.times_s) == len(rhythm.strengths) == 0
        np.testing.assert_array_equal(rhythm.envelope, np.zeros(n_frames))
        np.testing.assert_array_equal(motion_energy(keypoints), np.zeros(n_frames))


def test_cuts_are_not_impacts() -> None:
    far, near = make_static_keypoints(60), make_static_keypoints(60)
    far[30:, :, 0] += 400  # farther than a person can move: detected as a cut
    near[30:, :, 0] += 60  # motion, unless marked as a cut

    assert len(rhythm_from_poses(far).times_s) == 0
    assert len(rhythm_from_poses(near).times_s) == 1
    assert len(rhythm_from_poses(near, cuts=[30]).times_s) == 0


def test_missing_joints_are_interpolated() -> None:
    keypoints, impacts_s = make_impact_keypoints(0)
    is_missing = np.random.default_rng(0).random(keypoints.shape[:2]) < 0.02
    keypoints[is_missing] = np.nan

    rhythm = rhythm_from_poses(keypoints)

    assert np.isfinite(rhythm.envelope).all()
    assert np.mean(np.abs(compute_offsets_s(rhythm.times_s, impacts_s)) < 0.07) > 0.8


def test_joint_with_score_zero_has_no_effect() -> None:
    keypoints, _ = make_impact_keypoints(0)
    keypoints[:, 16, 2] = 0
    noisy = keypoints.copy()
    noisy[:, 16, :2] += np.random.default_rng(0).uniform(-80, 80, (len(noisy), 2))

    np.testing.assert_allclose(
        rhythm_from_poses(noisy).envelope, rhythm_from_poses(keypoints).envelope
    )


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n_frames=st.integers(0, 60), scale_px=st.floats(0, 1e4))
@pytest.mark.parametrize(
    "options",
    [{}, {"compat": "official"}, {"peak_placement": "onset"}],
    ids=["default", "official", "onset"],
)
def test_rhythm_of_random_keypoints_is_valid(
    options: dict[str, Any], seed: int, n_frames: int, scale_px: float
) -> None:
    keypoints = np.random.default_rng(seed).normal(size=(n_frames, 17, 3)) * scale_px

    rhythm = rhythm_from_poses(keypoints, **options)

    assert (np.diff(rhythm.times_s) > 0).all()
    assert ((rhythm.times_s >= 0) & (rhythm.times_s <= rhythm.duration_s)).all()
    assert ((rhythm.strengths >= 0) & (rhythm.strengths <= 1)).all()
    assert rhythm.envelope.shape == (n_frames,)
    assert not rhythm.envelope[:2].any()
    assert ((rhythm.envelope >= 0) & (rhythm.envelope <= 1)).all()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n_bins=st.integers(2, 36))
def test_sum_of_the_directogram_is_the_total_speed(seed: int, n_bins: int) -> None:
    displacements = np.random.default_rng(seed).normal(size=(12, 17, 2))
    speed = np.linalg.norm(displacements, axis=-1).sum(axis=-1)

    np.testing.assert_allclose(directogram(displacements, n_bins=n_bins).sum(axis=-1), speed)


def test_single_step_has_a_single_onset() -> None:
    positions = np.zeros((12, 17, 2))
    positions[5:, :, 0] = 3.0

    envelope = normalize_by_max(onset_envelope(directogram(frame_displacements(positions))))

    assert np.flatnonzero(envelope).tolist() == [5]


def test_rhythm_is_invariant_to_the_person_size() -> None:
    keypoints, _ = make_impact_keypoints(4, noise_px=1)

    small, large = (rhythm_from_poses(keypoints * [scale, scale, 1]) for scale in (1, 4))

    np.testing.assert_allclose(small.times_s, large.times_s)
    np.testing.assert_allclose(small.strengths, large.strengths)


def test_estimated_noise_is_the_standard_deviation_at_rest() -> None:
    noise = np.random.default_rng(0).normal(size=(2000, 17, 2)) * 2.5

    np.testing.assert_allclose(estimate_noise_std(noise), 2.5, rtol=0.06)


@pytest.mark.parametrize("shape", [(4, 17, 2), (4, 17), (17, 3)], ids=str)
def test_keypoints_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=re.escape(str(shape))):
        rhythm_from_poses(np.zeros(shape))


# --- motion energy ---------------------------------------------------------------------------


def test_energy_is_high_during_motion_and_low_at_rest() -> None:
    moving, _ = make_impact_keypoints(0, noise_px=0.5)
    resting = np.repeat(moving[-1:], 200, axis=0)

    energy = motion_energy(np.concatenate([resting, moving]))

    assert energy.shape == (200 + len(moving),)
    assert energy[:190].max() < 0.02
    assert np.quantile(energy[210:], 0.9) > 0.4
    assert energy.max() == 1


def test_energy_is_invariant_to_the_person_size() -> None:
    keypoints, _ = make_impact_keypoints(0)

    np.testing.assert_allclose(
        motion_energy(keypoints), motion_energy(keypoints * [3, 3, 1]), atol=1e-9
    )


# --- rhythm file -----------------------------------------------------------------------------


def test_written_rhythm_is_read_with_the_stored_decimals(tmp_path: Path) -> None:
    rhythm = rhythm_from_poses(make_impact_keypoints(0, noise_px=1)[0])

    write_rhythm(tmp_path / "a.json", rhythm)
    stored = read_rhythm(tmp_path / "a.json")

    np.testing.assert_allclose(stored.times_s, rhythm.times_s, atol=1e-6)
    np.testing.assert_allclose(stored.strengths, rhythm.strengths, atol=1e-5)
    np.testing.assert_allclose(stored.envelope, rhythm.envelope, atol=1e-5)
    assert (stored.method, stored.compat) == ("directogram", "paper")
    assert (stored.envelope_rate_hz, stored.duration_s) == (16.0, 25.0)


VALID_CONTENT: dict[str, Any] = {
    "schema": 1,
    "method": "flow",
    "compat": "paper",
    "duration_s": 2.0,
    "envelope_rate_hz": 16.0,
    "times_s": [0.5, 1],
    "strengths": [1, 0.5],
    "envelope": [0, 0, 1],
}


def test_rhythm_file_with_integers_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(VALID_CONTENT))

    rhythm = read_rhythm(tmp_path / "a.json")

    assert rhythm.times_s.tolist() == [0.5, 1.0]
    assert rhythm.strengths.tolist() == [1.0, 0.5]
    assert rhythm.envelope.tolist() == [0.0, 0.0, 1.0]
    assert (rhythm.method, rhythm.duration_s) == ("flow", 2.0)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        pytest.param("schema", 2, id="other schema"),
        pytest.param("schema", True, id="boolean schema"),
        pytest.param("schema", None, id="no schema"),
        pytest.param("method", "guess", id="unknown method"),
        pytest.param("method", ["flow"], id="list of methods"),
        pytest.param("compat", None, id="no compat"),
        pytest.param("duration_s", float("nan"), id="duration NaN"),
        pytest.param("duration_s", "2", id="duration string"),
        pytest.param("duration_s", 0.7, id="duration before the last time"),
        pytest.param("envelope_rate_hz", 0, id="rate 0"),
        pytest.param("times_s", [1, 0.5], id="decreasing times"),
        pytest.param("times_s", [0.5, 0.5], id="repeated time"),
        pytest.param("times_s", [-0.5, 1], id="negative time"),
        pytest.param("times_s", [0.5], id="fewer times than strengths"),
        pytest.param("times_s", {"0": 1}, id="times object"),
        pytest.param("times_s", [[0.5, 1]], id="nested times"),
        pytest.param("times_s", [0.5, 10**400], id="time beyond float64"),
        pytest.param("strengths", [1, 1.5], id="strength above 1"),
        pytest.param("strengths", [True, False], id="boolean strengths"),
        pytest.param("envelope", [0, float("inf")], id="envelope infinite"),
        pytest.param("envelope", None, id="no envelope"),
    ],
)
def test_rhythm_file_with_an_invalid_value_is_refused(
    tmp_path: Path, key: str, value: Any
) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps({**VALID_CONTENT, key: value}))

    with pytest.raises(InputError, match=r"a\.json") as raised:
        read_rhythm(path)
    assert key in str(raised.value).replace(str(path), "")
    assert "`loris rhythm`" in raised.value.hint


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\xff\xfe\x00", id="not UTF-8"),
        pytest.param(b"[1, 2]", id="list"),
        pytest.param(b"[" * 200_000, id="deeply nested"),
        pytest.param(b"1", id="number"),
        pytest.param(b'{"schema": 1}', id="schema only"),
        pytest.param(b"9" * 9999, id="long number"),
    ],
)
def test_file_without_a_rhythm_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)

    with pytest.raises(InputError, match=r"a\.json"):
        read_rhythm(tmp_path / "a.json")


def test_missing_rhythm_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"missing\.json") as raised:
        read_rhythm(tmp_path / "missing.json")
    assert isinstance(raised.value.__cause__, FileNotFoundError)


def test_rhythm_file_in_a_missing_folder_is_refused(tmp_path: Path) -> None:
    rhythm = rhythm_from_poses(make_static_keypoints(4))

    with pytest.raises(OutputError, match=r"a\.json"):
        write_rhythm(tmp_path / "none" / "a.json", rhythm)
    assert not (tmp_path / "none").exists()
