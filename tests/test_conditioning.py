"""Conditions of the ``mini`` model: rhythm, chords, poses and energy on latent frames."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from builders import make_features
from hypothesis import given, settings
from hypothesis import strategies as st

from loris_cli.composition.chords import SCALES, Harmony
from loris_cli.config import GENRES, LATENT_FPS
from loris_cli.models.generator_interface import ClipFeatures
from loris_cli.soundtrack.clip_features import (
    COMPOSED_ENERGY_RANGE,
    add_arrangement,
    choose_genre,
    seed_from_rhythm,
    select_accented_peaks,
    smooth_energy,
)
from loris_cli.soundtrack.conditioning import (
    HARMONY_CHANNELS,
    MAX_PEAK_INTERVAL_S,
    align_harmony_to_latent,
    align_rhythm_to_latent,
    build_condition,
    collate_conditions,
    normalize_pose,
    rhythm_tokens,
)

pytestmark = pytest.mark.numpy1

FEATURES = make_features(
    20.0,
    [1.0, 2.5, 7.25],
    strengths=np.array([1.0, 0.5, 0.8]),
    energy=np.linspace(0, 1, 320),
    genre="skate",
)


def read_curve(features: ClipFeatures, index: int, n_frames: int) -> np.ndarray:
    """One of the five curves of the aligned rhythm, at 86 Hz."""
    aligned = align_rhythm_to_latent(features, 0, n_frames).reshape(5, 4, n_frames)
    values: np.ndarray = aligned[index].T.ravel()
    return values


def find_local_maxima(curve: np.ndarray) -> np.ndarray:
    """Indices of the local maxima."""
    middle = curve[1:-1]
    indices: np.ndarray = np.flatnonzero((middle > curve[:-2]) & (middle >= curve[2:])) + 1
    return indices


def test_rhythm_curve_has_bumps_at_the_peaks() -> None:
    bumps = read_curve(FEATURES, 0, 400)

    maxima_s = find_local_maxima(bumps) / (LATENT_FPS * 4)
    np.testing.assert_allclose(maxima_s, FEATURES.peaks_s, atol=0.5 / (LATENT_FPS * 4))


def test_wide_bumps_have_the_height_of_the_peak_strength() -> None:
    wide = read_curve(FEATURES, 2, 400)

    indices = np.round(FEATURES.peaks_s * LATENT_FPS * 4).astype(int)
    np.testing.assert_allclose(wide[indices], FEATURES.strengths, atol=0.01)


def test_peak_trace_decays_after_a_peak_and_is_zero_before_the_first() -> None:
    trace = read_curve(FEATURES, 3, 400)

    times_s = np.arange(len(trace)) / (LATENT_FPS * 4)
    assert (trace[times_s < 0.99] == 0).all()
    after_first = (times_s > 1.02) & (times_s < 2.45)
    assert (np.diff(trace[after_first]) < 0).all()


def test_energy_curve_has_the_times_of_the_energy() -> None:
    energy = read_curve(FEATURES, 4, 400)

    times_s = np.arange(len(energy)) / (LATENT_FPS * 4)
    inside = times_s < 19.9
    np.testing.assert_allclose(energy[inside], times_s[inside] * 16 / 319, atol=1e-6)


@settings(deadline=None)
@given(start=st.integers(0, 300), frames=st.sampled_from([8, 64, 120]))
def test_rhythm_of_a_window_is_a_slice_of_the_rhythm_of_the_clip(
    start: int, frames: int
) -> None:
    full = align_rhythm_to_latent(FEATURES, 0, 430)
    window = align_rhythm_to_latent(FEATURES, start, frames)

    np.testing.assert_allclose(window, full[:, start : start + frames], atol=1e-5)


def test_rhythm_tokens_have_peaks_and_intervals_at_16_hz() -> None:
    peaks, interval_s = rhythm_tokens(FEATURES, 0, 256)

    assert np.flatnonzero(peaks).tolist() == [16, 40, 116]
    assert not interval_s[:16].any()
    np.testing.assert_allclose(interval_s[16:39], np.arange(1, 24) / 16)


def test_interval_since_the_last_peak_is_limited() -> None:
    sparse = make_features(3600.0, [0.5])

    _, interval_s = rhythm_tokens(sparse, 40_000, 256)

    assert set(interval_s) == {MAX_PEAK_INTERVAL_S}


def test_condition_without_peaks_has_energy_alone() -> None:
    condition = build_condition(make_features(20.0, []), 0, 64)

    assert not condition.peaks.any()
    assert not condition.time_since_peak_s.any()
    curves = condition.aligned_rhythm.reshape(5, -1)
    assert not curves[:4].any()
    torch.testing.assert_close(curves[4], torch.full_like(curves[4], 0.5))


def test_genre_is_one_hot_and_zero_if_unspecified() -> None:
    condition = collate_conditions(
        [
            build_condition(FEATURES, 0, 64),
            build_condition(replace(FEATURES, genre=None), 0, 64),
        ]
    )

    assert condition.genre[0].nonzero().ravel().tolist() == [GENRES.index("skate")]
    assert not condition.genre[1].any()


def test_key_depends_on_the_rhythm_so_that_a_batch_has_many_keys() -> None:
    rng = np.random.default_rng(2)
    tonics = []
    for _ in range(40):
        peaks_s = np.cumsum(rng.gamma(3, 0.3, 20))
        features = make_features(40.0, peaks_s)
        first, repeated = (
            add_arrangement(features, seed=seed_from_rhythm(0, peaks_s.copy())).harmony
            for _ in range(2)
        )
        assert first is not None
        assert repeated is not None
        assert first.tonic == repeated.tonic
        tonics.append(first.tonic)
    assert len(set(tonics)) > 8


def test_seed_depends_on_take_and_rhythm() -> None:
    rhythms = [np.empty(0), np.array([1.0, 2.0]), np.array([1.0, 2.1])]
    seeds = [seed_from_rhythm(take, peaks_s) for take in (0, 1) for peaks_s in rhythms]
    repeated = [
        seed_from_rhythm(take, peaks_s.copy()) for take in (0, 1) for peaks_s in rhythms
    ]

    assert seeds == repeated
    assert len(set(seeds)) == 6


def test_steady_rhythm_gets_a_dance_genre_and_irregular_rhythm_a_sport() -> None:
    steady_s = np.arange(1.0, 25.0, 0.5)
    irregular_s = np.cumsum(np.random.default_rng(1).gamma(3, 0.3, 25))

    assert {choose_genre(steady_s, seed=seed) for seed in range(60)} == set(GENRES[:10])
    assert {choose_genre(irregular_s, seed=seed) for seed in range(60)} == {"floor", "skate"}


def test_weak_peak_is_removed_only_near_a_stronger_peak() -> None:
    peaks_s = np.array([1.0, 1.5, 5.0, 9.0])
    strengths = np.array([0.9, 0.1, 0.1, 0.25])

    accents_s, accent_strengths = select_accented_peaks(peaks_s, strengths)

    assert accents_s.tolist() == [1.0, 5.0, 9.0]
    np.testing.assert_allclose(accent_strengths, [0.93, 0.37, 0.475])


def test_no_peaks_give_no_accents() -> None:
    accents_s, accent_strengths = select_accented_peaks(np.zeros(0), np.zeros(0))

    assert len(accents_s) == len(accent_strengths) == 0


HARMONY = Harmony(
    tonic=0,
    scale=SCALES["major"],
    chord_starts_s=np.array([0.0, 4.0]),
    chord_degrees=np.array([0, 4]),
    subdivisions_s=np.array([1.0, 2.0, 3.0]),
)


def test_chords_and_subdivisions_are_at_their_times() -> None:
    condition = align_harmony_to_latent(HARMONY, 0, 200)
    change_frame = int(4.0 * LATENT_FPS)

    assert condition.shape == (HARMONY_CHANNELS, 200)
    assert np.flatnonzero(condition[:12, 10]).tolist() == [0, 4, 7]
    assert np.flatnonzero(condition[:12, 150]).tolist() == [2, 7, 11]
    assert np.flatnonzero(condition[12:24, 150]).tolist() == [7]
    # The frame of the chord change is split between E (first chord) and B (second chord).
    assert condition[[4, 11], change_frame].sum() == 1
    maxima_s = find_local_maxima(condition[28:].T.ravel()) / (LATENT_FPS * 4)
    np.testing.assert_allclose(maxima_s, HARMONY.subdivisions_s, atol=0.5 / (LATENT_FPS * 4))


def test_harmony_of_a_window_is_a_slice_of_the_harmony_of_the_clip() -> None:
    full = align_harmony_to_latent(HARMONY, 0, 200)
    np.testing.assert_allclose(full[:, 64:164], align_harmony_to_latent(HARMONY, 64, 100))


def test_condition_without_harmony_is_zero() -> None:
    condition = align_harmony_to_latent(None, 0, 64)
    assert condition.shape == (HARMONY_CHANNELS, 64)
    assert not condition.any()


def test_harmony_depends_on_the_seed_only() -> None:
    harmonies = [add_arrangement(FEATURES, seed=seed).harmony for seed in (0, 0, 1, 2, 3)]
    tonics = [harmony.tonic for harmony in harmonies if harmony is not None]
    assert tonics[0] == tonics[1]
    assert len(set(tonics)) > 1


def test_normalized_pose_is_invariant_to_position_and_size() -> None:
    keypoints = np.random.default_rng(0).uniform(0, 100, (320, 17, 3))
    keypoints[..., 2] = 0.8
    moved = keypoints * (2.5, 2.5, 1) + (40, -7, 0)

    normalized = normalize_pose(keypoints, 0, 320)
    np.testing.assert_allclose(normalize_pose(moved, 0, 320), normalized)
    np.testing.assert_allclose(normalize_pose(keypoints, 64, 100), normalized[48:148])


def test_normalized_pose_without_keypoints_is_zero() -> None:
    assert not normalize_pose(None, 0, 32).any()


def test_normalized_pose_is_zero_where_the_person_is_not_detected() -> None:
    keypoints = np.random.default_rng(0).uniform(0, 100, (320, 17, 3))
    keypoints[..., 2] = 0.8
    keypoints[100:120, :, 2] = 0
    normalized = normalize_pose(keypoints, 0, 320)
    assert not normalized[100:120].any()
    assert normalized[120:].any()


def test_motion_energy_is_smoothed_to_the_range_of_the_composer() -> None:
    rng = np.random.default_rng(0)
    bursts = np.zeros(400)
    bursts[50:350:23] = 1.0
    bursts = np.convolve(bursts, np.hanning(9), mode="same") * rng.uniform(0.3, 1.0, 400)

    smoothed = smooth_energy(bursts)

    assert smoothed.min() >= 0
    assert smoothed.max() <= 1
    low, middle, high = np.percentile(smoothed, [5, 50, 95])
    assert (low, high) == pytest.approx(COMPOSED_ENERGY_RANGE, abs=0.01)
    assert low < middle < high
    assert np.abs(np.diff(smoothed)).max() < np.abs(np.diff(bursts)).max() / 2
    assert smoothed[:20].max() < smoothed[100:300].mean()


@pytest.mark.parametrize("level", [0.0, 0.4, 1.0])
def test_nearly_constant_energy_stays_nearly_constant(level: float) -> None:
    energy = np.full(160, level) + np.random.default_rng(1).uniform(0, 1e-4, 160)
    assert np.ptp(smooth_energy(energy)) < 0.01


def test_smoothed_energy_of_no_frames_is_empty() -> None:
    assert len(smooth_energy(np.empty(0))) == 0


def test_notes_use_smoothed_energy_only_for_videos() -> None:
    energy = np.zeros(384)
    energy[::40] = 1.0
    composed = make_features(24.0, energy=energy, genre="house")
    from_video = replace(composed, keypoints=np.zeros((384, 17, 3)))
    smoothed = replace(composed, energy=smooth_energy(energy))

    note_arrays = []
    for features in (composed, from_video, smoothed):
        arrangement = add_arrangement(features, seed=0).arrangement
        assert arrangement is not None
        note_arrays.append(arrangement.note_array)

    assert len(note_arrays[1]) > len(note_arrays[0])
    np.testing.assert_array_equal(note_arrays[1], note_arrays[2])
