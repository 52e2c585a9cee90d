"""Metrics: perfect is 1, empty is defined, bad is refused."""

import numpy as np
import pytest
from bootstrap import bootstrap_mean

from loris_cli.audio.onsets import compute_onset_deviations, detect_onsets, match_onsets
from loris_cli.errors import InputError
from loris_cli.evaluation.metrics.frechet import (
    GaussianStatistics,
    fit_gaussian,
    frechet_distance,
)

MOMENTS = np.array([1.0, 2.0, 3.5])


def clicks(moments_s: np.ndarray, duration_s: float) -> np.ndarray:
    n = round(duration_s * 22_050)
    sound = np.zeros(n, dtype=np.float32)
    t = np.arange(1102) / 22_050
    click = np.sin(2 * np.pi * 1000 * t) * np.exp(-t / 0.01)
    for moment in moments_s:
        start = round(moment * 22_050)
        sound[start : start + len(click)] += click[: n - start]
    return sound


def test_clicks_are_found_where_they_are() -> None:
    moments = np.array([0.5, 2.25, 2.75, 4.5, 7.2])

    found = detect_onsets(clicks(moments, 10.0))

    assert len(found) == 5
    np.testing.assert_allclose(found, moments, atol=0.013)  # one hop
    assert np.median(found - moments) == pytest.approx(0, abs=0.006)


def test_silence_has_no_onsets() -> None:
    assert len(detect_onsets(np.zeros(22_050, dtype=np.float32))) == 0


@pytest.mark.parametrize("sound", [np.zeros((2, 100)), np.full(100, np.nan)])
def test_what_is_no_mono_sound_is_refused(sound: np.ndarray) -> None:
    with pytest.raises(InputError):
        detect_onsets(sound.astype(np.float32))


def test_perfect_is_one() -> None:
    hits = match_onsets(MOMENTS, MOMENTS + 0.02)

    assert (hits.recall, hits.precision) == (1.0, 1.0)


def test_nothing_given_and_nothing_found_are_zero() -> None:
    nothing = np.zeros(0)

    assert match_onsets(nothing, MOMENTS).recall == 0
    assert match_onsets(MOMENTS, nothing).precision == 0
    assert match_onsets(nothing, nothing).recall == 0


def test_one_onset_hits_one_moment_only() -> None:
    hits = match_onsets(np.array([1.0, 1.03]), np.array([1.01]))

    assert hits.recall == 0.5
    assert hits.precision == 1.0


def test_an_onset_just_outside_the_window_misses() -> None:
    assert match_onsets(MOMENTS, MOMENTS + 0.051).recall == 0


def test_offsets_are_positive_where_the_sound_is_late() -> None:
    np.testing.assert_allclose(compute_onset_deviations(MOMENTS, MOMENTS + 0.04), 0.04)


def test_distance_of_a_set_to_itself_is_zero() -> None:
    frames = np.random.default_rng(0).normal(size=(6, 400)).astype(np.float32)

    one = fit_gaussian([frames])
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-6)


def test_distance_of_shifted_and_scaled_gaussians_has_a_closed_form() -> None:
    a = GaussianStatistics(np.zeros(3), np.eye(3))
    b = GaussianStatistics(np.full(3, 2.0), 9 * np.eye(3))

    # |mu|^2 + sum (1 - 3)^2
    assert frechet_distance(a, b) == pytest.approx(12 + 12)


def test_few_frames_of_many_features_have_a_distance_too() -> None:
    frames = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)

    few = fit_gaussian([frames])

    assert frechet_distance(few, few) == pytest.approx(0, abs=1e-5)
    moved = GaussianStatistics(few.mean + 1, few.covariance)
    assert frechet_distance(few, moved) == pytest.approx(50)


def test_statistics_do_not_depend_on_how_frames_are_grouped() -> None:
    frames = np.random.default_rng(1).normal(size=(4, 100)).astype(np.float32)

    one, many = fit_gaussian([frames]), fit_gaussian(np.split(frames, 5, axis=1))

    np.testing.assert_allclose(one.covariance, many.covariance, atol=1e-10)
    np.testing.assert_allclose(one.covariance, np.cov(frames.astype(float)), atol=1e-10)


def test_no_frames_are_refused() -> None:
    with pytest.raises(InputError):
        fit_gaussian([])


def test_the_interval_of_equal_values_is_a_point_and_of_others_is_not() -> None:
    same, spread = bootstrap_mean([0.5] * 9), bootstrap_mean([0.0, 1.0] * 10)

    assert (same.ci_low, same.mean, same.ci_high) == (0.5, 0.5, 0.5)
    assert spread.ci_low < 0.4 < spread.mean < 0.6 < spread.ci_high
