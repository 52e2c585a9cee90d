"""The rhythm of bodies: known numbers, bodies that strike at known moments, then any body."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from loris_cli.errors import InputError, OutputError
from loris_cli.rhythm.directogram import (
    directogram,
    frame_displacements,
    normalize_by_max,
    onset_envelope,
)
from loris_cli.rhythm.impact_timing import interpolate_peaks, locate_impacts
from loris_cli.rhythm.peak_picking import PeakPickingParams, pick_peaks, pick_peaks_official
from loris_cli.rhythm.pose_rhythm import motion_energy, rhythm_from_poses
from loris_cli.rhythm.rhythm_file import Rhythm, read_rhythm, write_rhythm
from loris_cli.rhythm.trajectories import estimate_noise_std, resample_positions

Array = NDArray[np.float64]

FPS = 16.0

# --- a body -----------------------------------------------------------------------------

# A person who stands, seen from the front; about 190 px high; COCO-17.
STANDING = np.array(
    [
        (160, 38), (156, 33), (164, 33), (151, 36), (169, 36), (140, 65), (180, 65),
        (128, 98), (192, 98), (124, 130), (196, 130), (147, 122), (173, 122), (145, 168),
        (175, 168), (144, 214), (176, 214),
    ],
    dtype=np.float64,
)  # fmt: skip
LIMBS = {"left arm": (5, 7, 9), "right arm": (6, 8, 10), "left leg": (11, 13, 15)}
SWINGS = {"left arm": (1.6, 2.2), "right arm": (-1.6, -2.2), "left leg": (1.0, 1.3)}
UPPER = [*range(13)]


def rotated(vector: Array, angles: Array) -> Array:
    cos, sin = np.cos(angles), np.sin(angles)
    x, y = vector
    return np.stack([x * cos - y * sin, x * sin + y * cos], axis=-1)


def swing(times_s: Array, strike_s: float, burst_s: float, power: float, back: float) -> Array:
    """0 at rest, 1 at the strike: a burst to a hard stop, a rebound, a slow way home."""
    burst = ((times_s - strike_s + burst_s) / burst_s).clip(0, 1) ** power
    rebound = back * (1 - (1 - ((times_s - strike_s) / 0.12).clip(0, 1)) ** 2)
    home = ((times_s - strike_s - 0.12) / 0.5).clip(0, 1)
    slow = (1 - back) * home**3 * (10 - 15 * home + 6 * home**2)
    return np.where(times_s <= strike_s, burst, 1 - rebound - slow)


def striking_body(
    seed: int,
    *,
    noise_px: float = 0.0,
    duration_s: float = 25.0,
    video_fps: float | None = None,
) -> tuple[Array, Array]:
    """Keypoints at 16 fps, and the instants of the hard stops."""
    rng = np.random.default_rng(seed)
    times_s = np.arange(round(duration_s * FPS)) / FPS
    if video_fps is not None:  # the picture on the screen at that moment
        times_s = np.floor(times_s * video_fps + 1e-6) / video_fps
    strikes_s = 1 + np.cumsum(rng.uniform(0.85, 1.4, int(duration_s)))
    strikes_s = strikes_s[strikes_s < duration_s - 0.8]
    angles = {name: np.zeros((2, len(times_s))) for name in LIMBS}
    crouch = np.zeros(len(times_s))
    for strike_s in strikes_s:
        burst_s, power = rng.uniform(0.12, 0.25), rng.choice([1.0, 1.5, 2.0, 2.5])
        back = rng.choice([0.0, rng.uniform(0.3, 0.6)])
        offset = swing(times_s, float(strike_s), burst_s, power, back) * rng.uniform(0.5, 1)
        moving_limb = rng.choice([*LIMBS, "both arms", "body"])
        if moving_limb == "body":
            crouch += 30 * offset
        for limb in ["left arm", "right arm"] if moving_limb == "both arms" else [moving_limb]:
            if limb in LIMBS:
                angles[limb] += np.outer(SWINGS[limb], offset)
    positions = np.repeat(STANDING[None], len(times_s), axis=0)
    for limb, (root, middle, end) in LIMBS.items():
        upper, lower = STANDING[middle] - STANDING[root], STANDING[end] - STANDING[middle]
        positions[:, middle] = positions[:, root] + rotated(upper, angles[limb][0])
        positions[:, end] = positions[:, middle] + rotated(lower, angles[limb][1])
    positions[:, UPPER, 1] += crouch[:, None]
    positions[:, :, 0] += 5 * np.sin(2 * np.pi * 0.3 * times_s)[:, None]
    return detect(positions, rng, noise_px), strikes_s


def detect(
    positions: Array, rng: np.random.Generator, noise_px: float, outlier_fraction: float = 0.01
) -> Array:
    """What a pose detector makes of it: white noise, and 10 px now and then."""
    positions = positions + noise_px * rng.normal(size=positions.shape)
    if noise_px:
        is_outlier = rng.random(positions.shape[:2]) < outlier_fraction
        turn = rng.uniform(0, 2 * np.pi, is_outlier.sum())
        positions[is_outlier] += 10 * np.stack([np.cos(turn), np.sin(turn)], axis=-1)
    return np.concatenate([positions, np.ones((*positions.shape[:2], 1))], axis=-1)


def gliding_body(period_s: float, *, noise_px: float = 0.0, duration_s: float = 40.0) -> Array:
    """A body that skates to and fro, or 25 px of a wave that runs down it: no stop anywhere."""
    times_s = np.arange(round(duration_s * FPS)) / FPS
    phases = 2 * np.pi * times_s[:, None] / period_s + np.arange(17) * np.pi / 32
    positions = np.repeat(STANDING[None], len(times_s), axis=0)
    positions[:, :, 0] += 25 * np.sin(phases)
    return detect(positions, np.random.default_rng(0), noise_px)


def offsets_s(times_s: Array, strikes_s: Array) -> Array:
    """From each strike to the nearest peak."""
    nearest = np.abs(times_s[None] - strikes_s[:, None]).argmin(axis=1)
    return np.asarray(times_s[nearest] - strikes_s)


# --- known numbers ------------------------------------------------------------------------

VECTORS = np.array([[(3, 4), (-1, 0), (0, 2), (-3, -4), (1, -1)]], dtype=np.float64)
ROOT2 = 2**0.5


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"compat": "official"}, [3, 0, 0, 10, 0, ROOT2, 0, 0, 0, 0]),
        ({}, [1, 0, 10, 0, 0, 2, 0, ROOT2, 0, 0]),
        ({"angle_range_deg": 360.0}, [0, 5, 2, 0, 0, 1, 5, 0, ROOT2, 0]),
    ],
)
def test_directogram_of_five_vectors(options: dict[str, Any], expected: list[float]) -> None:
    np.testing.assert_allclose(directogram(VECTORS, **options)[0], expected, rtol=1e-6)


@pytest.mark.parametrize("compat", ["paper", "official"])
def test_an_angle_just_under_zero_has_a_bin(compat: Any) -> None:
    grazing = np.array([[(1.0, -1e-9)]])
    assert directogram(grazing, compat=compat).sum() == pytest.approx(1.0)


ENVELOPE = np.array(
    [
        0, 0.1, 0.5, 0.2, 0.1, 0.05, 0.9, 0.3, 0.3, 0.1, 0, 0, 0.4, 0.4, 0.1, 0,
        0.2, 1, 0.1, 0, 0.05, 0, 0.3, 0.1,
    ]
)  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (PeakPickingParams(), [2, 6, 12, 17, 22]),
        (PeakPickingParams(wait=0), [2, 6, 12, 13, 17, 22]),
        (PeakPickingParams(delta=0.2, delta_is_relative=False), [2, 6, 12, 17]),
    ],
)
def test_paper_peaks_of_a_known_envelope(rule: PeakPickingParams, expected: list[int]) -> None:
    assert pick_peaks(ENVELOPE, rule).tolist() == expected


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


def test_official_mode_is_the_released_code() -> None:
    j, t = np.arange(17), np.arange(60)[:, None]
    x = 100 + 10 * j + 20 * np.sin(2 * np.pi * t / (9 + j))
    y = 200 + 5 * j + 15 * np.cos(2 * np.pi * t / (7 + j))
    keypoints = np.stack([x, y, np.ones_like(x)], axis=-1).astype(np.float32).astype(np.float64)

    rhythm = rhythm_from_poses(keypoints, compat="official")

    assert rhythm.envelope[:2].tolist() == [0, 0]
    np.testing.assert_allclose(rhythm.envelope[2:], OFFICIAL_ENVELOPE, atol=1e-5)
    peaks = [8, 16, 22, 24, 28, 36, 42, 48]  # of the envelope without the zeros in front
    np.testing.assert_allclose(rhythm.times_s, (np.array(peaks) + 2) / FPS)


# --- when it hits ---------------------------------------------------------------------------


@given(share=st.floats(0, 1), back=st.floats(0, 1))
def test_a_stop_within_an_interval_is_found_exactly(share: float, back: float) -> None:
    # At 10 px a frame from frame 4 on; at frame 8 + share it stops, or turns back.
    frames = np.arange(20.0)
    x = 10 * (frames.clip(4, 8 + share) - 4) - 10 * back * (frames - 8 - share).clip(0, 3)
    motions = frame_displacements(np.stack([x, np.zeros(20)], axis=-1)[:, None])

    at, drops, summits = locate_impacts(np.array([5]), motions, motions)

    assert at[0] == pytest.approx(8 + share, abs=1e-6)
    assert drops[0] == pytest.approx(10 * (1 + back), rel=1e-6)
    assert summits[0]


@given(shift=st.floats(0, 1))
def test_a_smooth_turn_is_found_within_a_tenth_of_a_frame(shift: float) -> None:
    x = 50 * np.sin(2 * np.pi * (np.arange(40) - 10 - shift) / 16 + np.pi / 2)
    motions = frame_displacements(np.stack([x, np.zeros(40)], axis=-1)[:, None])

    at, _, _ = locate_impacts(np.array([9]), motions, motions)

    assert at[0] == pytest.approx(10 + shift, abs=0.11)


def test_an_onset_is_the_top_of_a_parabola() -> None:
    envelope: Array = 9 - (np.arange(9, dtype=np.float64) - 4.3) ** 2
    assert interpolate_peaks(np.array([4]), envelope)[0] == pytest.approx(4.3)


@pytest.mark.parametrize(("noise_px", "hit", "hit_strict"), [(0, 0.95, 0.95), (2, 0.93, 0.85)])
def test_strikes_are_met(noise_px: float, hit: float, hit_strict: float) -> None:
    found: list[Array] = []
    strict: list[Array] = []
    for seed in range(6):
        keypoints, strikes_s = striking_body(seed, noise_px=noise_px)
        found.append(offsets_s(rhythm_from_poses(keypoints).times_s, strikes_s))
        by_letter = rhythm_from_poses(keypoints, paper_exact=True).times_s
        strict.append(offsets_s(by_letter, strikes_s))

    offsets = np.concatenate(found)
    assert abs(np.median(offsets)) < 0.012
    assert np.mean(np.abs(offsets) < 0.05) >= hit
    assert np.mean(np.abs(np.concatenate(strict)) < 0.05) >= hit_strict


def test_the_papers_own_placement_comes_before_the_strike() -> None:
    keypoints, strikes_s = striking_body(1)
    early = offsets_s(rhythm_from_poses(keypoints, peak_placement="onset").times_s, strikes_s)
    assert np.median(early) < -0.02


def test_the_way_home_is_weak() -> None:
    keypoints, strikes_s = striking_body(2, noise_px=1)
    rhythm = rhythm_from_poses(keypoints)
    away = np.abs(rhythm.times_s[:, None] - strikes_s).min(axis=1)
    weak = rhythm.strengths[away > 0.15]
    assert np.median(rhythm.strengths[away < 0.07]) > 3 * np.median(np.append(weak, 0.0))


@pytest.mark.parametrize("video_fps", [15.0, 25.0, 30.0])
def test_the_age_of_the_picture_is_made_good(video_fps: float) -> None:
    known: list[Array] = []
    for seed in range(4):
        keypoints, strikes_s = striking_body(seed, noise_px=1, video_fps=video_fps)
        rhythm = rhythm_from_poses(keypoints, frame_interval_s=1 / video_fps)
        known.append(offsets_s(rhythm.times_s, strikes_s))
    assert abs(np.median(np.concatenate(known))) < 0.012
    assert np.mean(np.abs(np.concatenate(known)) < 0.05) > 0.92


def test_an_even_run_at_25_pictures_a_second_has_no_comb() -> None:
    shown = np.floor(np.arange(320) / FPS * 25 + 1e-6) / 25
    keypoints = np.concatenate([np.tile(STANDING, (320, 1, 1)), np.ones((320, 17, 1))], axis=-1)
    keypoints[:, :, 0] += 200 * shown[:, None]

    assert len(rhythm_from_poses(keypoints, frame_interval_s=1 / 25).times_s) == 0
    assert len(rhythm_from_poses(keypoints, paper_exact=True).times_s) > 20


def test_resampling_keeps_a_straight_path() -> None:
    input_times_s = np.array([0, 0.04, 0.04, 0.12, 0.2])
    path = resample_positions(
        input_times_s[:, None, None] * [100.0, -50.0], input_times_s, n_frames=4, fps=16
    )
    np.testing.assert_allclose(path[:, 0], np.outer(np.arange(4) / 16, [100, -50]), atol=1e-9)


# --- what does not strike -----------------------------------------------------------------


def test_a_glide_has_the_rhythm_of_its_turns() -> None:
    for period_s in (2.0, 3.0):
        keypoints = gliding_body(period_s, noise_px=0.5)
        alone = rhythm_from_poses(keypoints, fill_gaps=False)
        rhythm = rhythm_from_poses(keypoints)

        assert len(alone.times_s) < 0.4 * len(rhythm.times_s)
        assert len(rhythm.times_s) == pytest.approx(2 * 40 / period_s, rel=0.15)
        assert np.median(np.diff(rhythm.times_s)) == pytest.approx(period_s / 2, abs=0.03)


def test_slow_peaks_are_never_strong() -> None:
    assert rhythm_from_poses(gliding_body(3.0)).strengths.max() <= 0.5


def test_the_papers_rule_alone_finds_nothing_in_a_glide() -> None:
    # App. E: the envelope never stands above its own mean.
    assert len(rhythm_from_poses(gliding_body(3.0), paper_exact=True).times_s) == 0


def test_gaps_are_filled_and_strikes_left_alone() -> None:
    strikes, strikes_s = striking_body(3)
    glide = gliding_body(3.0, duration_s=20)
    keypoints = np.concatenate([strikes, glide + strikes[-1] - glide[0] * [1, 1, 0]])
    keypoints[..., 2] = 1

    alone = rhythm_from_poses(keypoints, fill_gaps=False)
    rhythm = rhythm_from_poses(keypoints)

    def before(r: Rhythm) -> list[float]:
        return [float(t) for t in r.times_s if t < strikes_s[-1]]

    assert before(rhythm) == before(alone)
    assert (rhythm.times_s > 27).sum() >= 10 > 3 >= (alone.times_s > 27).sum()


@pytest.mark.parametrize("noise_px", [0.0, 0.3, 1.0, 2.0, 3.0])
def test_a_body_at_rest_has_no_rhythm(noise_px: float) -> None:
    for seed in range(3):
        positions = np.repeat(STANDING[None], 480, axis=0)
        rng = np.random.default_rng(seed)
        rhythm = rhythm_from_poses(detect(positions, rng, noise_px, outlier_fraction=0.002))
        assert len(rhythm.times_s) == 0


@pytest.mark.parametrize("compat", ["paper", "official"])
@pytest.mark.parametrize("n_frames", [0, 1, 2, 3, 5, 40])
def test_nothing_that_is_seen_has_no_rhythm(compat: Any, n_frames: int) -> None:
    for keypoints in (np.zeros((n_frames, 17, 3)), np.full((n_frames, 17, 3), np.nan)):
        rhythm = rhythm_from_poses(keypoints, compat=compat)
        assert len(rhythm.times_s) == len(rhythm.strengths) == 0
        np.testing.assert_array_equal(rhythm.envelope, np.zeros(n_frames))
        np.testing.assert_array_equal(motion_energy(keypoints), np.zeros(n_frames))


def test_a_cut_is_no_strike() -> None:
    still = np.concatenate([np.tile(STANDING, (60, 1, 1)), np.ones((60, 17, 1))], axis=-1)
    moved = still.copy()
    moved[30:, :, 0] += 400  # far: detected from the poses alone
    nudged = still.copy()
    nudged[30:, :, 0] += 60  # a step, unless it is marked as a cut

    assert len(rhythm_from_poses(moved).times_s) == 0
    assert len(rhythm_from_poses(nudged).times_s) == 1
    assert len(rhythm_from_poses(nudged, cuts=[30]).times_s) == 0


def test_holes_are_bridged() -> None:
    keypoints, strikes_s = striking_body(0)
    holes = np.random.default_rng(0).random(keypoints.shape[:2]) < 0.02
    keypoints[holes] = np.nan
    rhythm = rhythm_from_poses(keypoints)
    assert np.isfinite(rhythm.envelope).all()
    assert np.mean(np.abs(offsets_s(rhythm.times_s, strikes_s)) < 0.07) > 0.8


def test_a_joint_that_nobody_sees_has_no_say() -> None:
    keypoints, _ = striking_body(0)
    noisy = keypoints.copy()
    noisy[:, 16, :2] += np.random.default_rng(0).uniform(-80, 80, (len(noisy), 2))
    noisy[:, 16, 2] = 0
    known = keypoints.copy()
    known[:, 16, 2] = 0
    np.testing.assert_allclose(
        rhythm_from_poses(noisy).envelope, rhythm_from_poses(known).envelope
    )


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n_frames=st.integers(0, 60), spread=st.floats(0, 1e4))
@pytest.mark.parametrize("options", [{}, {"compat": "official"}, {"peak_placement": "onset"}])
def test_any_body_gives_a_rhythm_that_keeps_its_promises(
    options: dict[str, Any], seed: int, n_frames: int, spread: float
) -> None:
    keypoints = np.random.default_rng(seed).normal(size=(n_frames, 17, 3)) * spread
    rhythm = rhythm_from_poses(keypoints, **options)

    assert (np.diff(rhythm.times_s) > 0).all()
    assert ((rhythm.times_s >= 0) & (rhythm.times_s <= rhythm.duration_s)).all()
    assert ((rhythm.strengths >= 0) & (rhythm.strengths <= 1)).all()
    assert rhythm.envelope.shape == (n_frames,)
    assert not rhythm.envelope[:2].any()
    assert ((rhythm.envelope >= 0) & (rhythm.envelope <= 1)).all()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n_bins=st.integers(2, 36))
def test_directogram_keeps_all_the_speed(seed: int, n_bins: int) -> None:
    motions = np.random.default_rng(seed).normal(size=(12, 17, 2))
    speed = np.linalg.norm(motions, axis=-1).sum(axis=-1)
    np.testing.assert_allclose(directogram(motions, n_bins=n_bins).sum(axis=-1), speed)


def test_one_step_is_one_onset() -> None:
    positions = np.zeros((12, 17, 2))
    positions[5:, :, 0] = 3.0
    envelope = normalize_by_max(onset_envelope(directogram(frame_displacements(positions))))
    assert np.flatnonzero(envelope).tolist() == [5]


def test_the_rhythm_of_a_body_twice_as_large_is_the_same() -> None:
    keypoints, _ = striking_body(4, noise_px=1)
    small, large = (rhythm_from_poses(keypoints * [size, size, 1]) for size in (1, 4))
    np.testing.assert_allclose(small.times_s, large.times_s)
    np.testing.assert_allclose(small.strengths, large.strengths)


def test_the_noise_of_a_still_body_is_measured() -> None:
    noise = np.random.default_rng(0).normal(size=(2000, 17, 2)) * 2.5
    np.testing.assert_allclose(estimate_noise_std(noise), 2.5, rtol=0.06)


@pytest.mark.parametrize("shape", [(4, 17, 2), (4, 17), (17, 3)])
def test_other_shapes_are_refused(shape: Sequence[int]) -> None:
    with pytest.raises(InputError, match="not \\(frames, joints, 3\\)"):
        rhythm_from_poses(np.zeros(shape))


def test_an_hour_takes_seconds() -> None:
    keypoints, _ = striking_body(0, noise_px=1, duration_s=60)
    hour = np.tile(keypoints, (60, 1, 1))
    assert len(hour) == 57_600
    start_s = time.process_time()
    rhythm_from_poses(hour)
    assert time.process_time() - start_s < 4  # 1 s here; a shared machine may be slower


# --- how lively ------------------------------------------------------------------------------


def test_energy_is_high_where_the_body_is_lively() -> None:
    dancing, _ = striking_body(0, noise_px=0.5)
    resting = np.repeat(dancing[-1:], 200, axis=0)
    energy = motion_energy(np.concatenate([resting, dancing]))
    assert energy.shape == (200 + len(dancing),)
    assert energy[:190].max() < 0.02
    assert np.quantile(energy[210:], 0.9) > 0.4
    assert energy.max() == 1


def test_energy_does_not_depend_on_the_distance() -> None:
    keypoints, _ = striking_body(0)
    np.testing.assert_allclose(
        motion_energy(keypoints), motion_energy(keypoints * [3, 3, 1]), atol=1e-9
    )


# --- the file --------------------------------------------------------------------------------


def some_rhythm() -> Rhythm:
    return rhythm_from_poses(striking_body(0, noise_px=1)[0])


def test_a_rhythm_survives_its_file(tmp_path: Path) -> None:
    rhythm = some_rhythm()
    write_rhythm(tmp_path / "a.json", rhythm)
    back = read_rhythm(tmp_path / "a.json")
    np.testing.assert_allclose(back.times_s, rhythm.times_s, atol=1e-6)
    np.testing.assert_allclose(back.strengths, rhythm.strengths, atol=1e-5)
    np.testing.assert_allclose(back.envelope, rhythm.envelope, atol=1e-5)
    assert (back.method, back.compat) == ("directogram", "paper")
    assert (back.envelope_rate_hz, back.duration_s) == (16.0, 25.0)


GOOD: dict[str, Any] = {
    "schema": 1,
    "method": "flow",
    "compat": "paper",
    "duration_s": 2.0,
    "envelope_rate_hz": 16.0,
    "times_s": [0.5, 1],
    "strengths": [1, 0.5],
    "envelope": [0, 0, 1],
}


def test_a_rhythm_written_by_hand_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(GOOD))
    assert read_rhythm(tmp_path / "a.json").times_s.tolist() == [0.5, 1.0]


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2},
        {"schema": True},
        {"schema": None},
        {"method": "guess"},
        {"method": ["flow"]},
        {"compat": None},
        {"duration_s": float("nan")},
        {"duration_s": "2"},
        {"duration_s": 0.7},
        {"envelope_rate_hz": 0},
        {"times_s": [1, 0.5]},
        {"times_s": [0.5, 0.5]},
        {"times_s": [-0.5, 1]},
        {"times_s": [0.5]},
        {"times_s": {"0": 1}},
        {"times_s": [[0.5, 1]]},
        {"times_s": [0.5, 10**400]},
        {"strengths": [1, 1.5]},
        {"strengths": [True, False]},
        {"envelope": [0, float("inf")]},
        {"envelope": None},
    ],
)
def test_a_broken_promise_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    (tmp_path / "a.json").write_text(json.dumps(GOOD | change))
    with pytest.raises(InputError) as caught:
        read_rhythm(tmp_path / "a.json")
    assert "a.json" in str(caught.value)
    assert "loris rhythm" in caught.value.hint


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xfe\x00", b"[1, 2]", b"[" * 200_000, b"1", b'{"schema": 1}', b"9" * 9999],
)
def test_what_is_no_rhythm_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(InputError):
        read_rhythm(tmp_path / "a.json")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere"):
        read_rhythm(tmp_path / "nowhere.json")


def test_a_folder_that_is_not_there_cannot_be_written_to(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot write"):
        write_rhythm(tmp_path / "no" / "a.json", some_rhythm())
