"""Onset detection and matching, the Frechet distance, and bootstrap intervals of a mean."""

import numpy as np
import pytest
from bootstrap import bootstrap_mean

from loris_cli.array_types import Array, Samples
from loris_cli.audio.onsets import (
    OnsetMatch,
    compute_onset_deviations,
    detect_onsets,
    match_onsets,
)
from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.errors import InputError
from loris_cli.evaluation.metrics.frechet import (
    GaussianStatistics,
    fit_gaussian,
    frechet_distance,
)
from loris_cli.evaluation.runner.audio_sources import ClickTrain, load_samples

pytestmark = pytest.mark.numpy1

REFERENCE_S = np.array([1.0, 2.0, 3.5])


def make_clicks(click_times_s: Array, duration_s: float) -> Samples:
    n_samples = round(duration_s * SAMPLE_RATE_HZ)
    source = ClickTrain(click_times_s=tuple(click_times_s.tolist()), n_samples=n_samples)
    return load_samples(source)[0]


def test_onsets_of_clicks_are_detected_within_one_hop() -> None:
    click_times_s = np.array([0.5, 2.25, 2.75, 4.5, 5.2])

    onsets_s = detect_onsets(make_clicks(click_times_s, 6.0))

    assert len(onsets_s) == 5
    np.testing.assert_allclose(onsets_s, click_times_s, atol=0.013)  # one hop is 11.6 ms
    assert np.median(onsets_s - click_times_s) == pytest.approx(0, abs=0.006)


def test_silence_has_no_onsets() -> None:
    assert len(detect_onsets(np.zeros(22_050, dtype=np.float32))) == 0


@pytest.mark.parametrize(
    "samples",
    [np.zeros((2, 100)), np.full(100, np.nan), np.full(100, np.inf)],
    ids=["stereo", "nan", "infinite"],
)
def test_onset_detection_rejects_stereo_and_non_finite_audio(samples: Array) -> None:
    with pytest.raises(InputError):
        detect_onsets(samples.astype(np.float32))


def test_onsets_within_the_tolerance_all_match() -> None:
    match = match_onsets(REFERENCE_S, REFERENCE_S + 0.02)

    assert match == OnsetMatch(recall=1.0, precision=1.0, n_reference=3, n_estimated=3)


def test_recall_and_precision_without_onsets_are_zero() -> None:
    empty = np.zeros(0)

    for reference_s, estimated_s in (
        (empty, REFERENCE_S),
        (REFERENCE_S, empty),
        (empty, empty),
    ):
        match = match_onsets(reference_s, estimated_s)
        assert (match.recall, match.precision) == (0.0, 0.0)


def test_an_onset_matches_only_one_reference() -> None:
    match = match_onsets(np.array([1.0, 1.03]), np.array([1.01]))

    assert (match.recall, match.precision) == (0.5, 1.0)


def test_an_onset_just_outside_the_tolerance_does_not_match() -> None:
    assert match_onsets(REFERENCE_S, REFERENCE_S + 0.049).recall == 1
    assert match_onsets(REFERENCE_S, REFERENCE_S + 0.051).recall == 0


def test_deviations_of_late_onsets_are_positive() -> None:
    np.testing.assert_allclose(compute_onset_deviations(REFERENCE_S, REFERENCE_S + 0.04), 0.04)


def test_frechet_distance_of_a_set_to_itself_is_zero() -> None:
    frames = np.random.default_rng(0).normal(size=(6, 400)).astype(np.float32)

    statistics = fit_gaussian([frames])

    assert frechet_distance(statistics, statistics) == pytest.approx(0, abs=1e-6)


def test_frechet_distance_of_two_isotropic_gaussians_has_its_closed_form() -> None:
    a = GaussianStatistics(np.zeros(3), np.eye(3))
    b = GaussianStatistics(np.full(3, 2.0), 9 * np.eye(3))

    # |mu|^2 = 3 * 2^2, and the standard deviations differ by 2 in 3 dimensions.
    assert frechet_distance(a, b) == pytest.approx(12 + 12)


def test_frechet_distance_is_defined_for_fewer_frames_than_features() -> None:
    frames = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)

    statistics = fit_gaussian([frames])
    shifted = GaussianStatistics(statistics.mean + 1, statistics.covariance)

    assert frechet_distance(statistics, statistics) == pytest.approx(0, abs=1e-5)
    assert frechet_distance(statistics, shifted) == pytest.approx(50)


def test_gaussian_statistics_do_not_depend_on_the_split_into_recordings() -> None:
    frames = np.random.default_rng(1).normal(size=(4, 100)).astype(np.float32)

    whole, pieces = fit_gaussian([frames]), fit_gaussian(np.split(frames, 5, axis=1))

    np.testing.assert_allclose(whole.mean, pieces.mean, atol=1e-10)
    np.testing.assert_allclose(whole.covariance, pieces.covariance, atol=1e-10)
    np.testing.assert_allclose(whole.covariance, np.cov(frames.astype(float)), atol=1e-10)


@pytest.mark.parametrize("n_frames", [0, 1])
def test_gaussian_statistics_need_two_frames(n_frames: int) -> None:
    with pytest.raises(InputError):
        fit_gaussian([np.ones((4, 1), np.float32)] * n_frames)


def test_bootstrap_interval_is_a_point_only_for_equal_values() -> None:
    equal, spread = bootstrap_mean([0.5] * 9), bootstrap_mean([0.0, 1.0] * 10)

    assert (equal.ci_low, equal.mean, equal.ci_high) == (0.5, 0.5, 0.5)
    assert spread.ci_low < 0.4 < spread.mean < 0.6 < spread.ci_high
