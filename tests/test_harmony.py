"""Harmony and beats: chords of a key that change on accents and beats, and tempo fitting."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loris_cli.composition.chords import SCALES, Harmony, sample_harmony, sample_rhythm_harmony
from loris_cli.composition.styles import STYLES, STYLES_BY_NAME
from loris_cli.rhythm.tempo_fit import fit_beat_period, track_steady_beats

pytestmark = pytest.mark.numpy1

C_MAJOR = Harmony(
    tonic=0,
    scale=SCALES["major"],
    chord_starts_s=np.array([0.0, 2.0, 4.0]),
    chord_degrees=np.array([0, 4, 5]),
    subdivisions_s=np.arange(0, 6, 0.25),
)


def sample_free_harmony(accents_s: np.ndarray, duration_s: float, seed: int = 0) -> Harmony:
    return sample_harmony(
        accents_s,
        duration_s=duration_s,
        style=STYLES_BY_NAME["skate"],
        period_s=0.6,
        beats_s=np.empty(0),
        rng=np.random.default_rng(seed),
    )


def test_triads_and_roots_are_those_of_the_key() -> None:
    # C major, G major and A minor.
    assert [np.flatnonzero(row).tolist() for row in C_MAJOR.chord_pitch_classes()] == [
        [0, 4, 7],
        [2, 7, 11],
        [0, 4, 9],
    ]
    assert np.argmax(C_MAJOR.root_pitch_classes(), axis=1).tolist() == [0, 7, 9]


@pytest.mark.slow
@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 10**6),
    name=st.sampled_from(sorted(STYLES_BY_NAME)),
    n=st.integers(0, 60),
)
def test_harmony_values_are_in_their_ranges(seed: int, name: str, n: int) -> None:
    rng = np.random.default_rng(seed)
    peaks_s = np.sort(rng.uniform(0, 24, n))
    harmony = sample_rhythm_harmony(
        peaks_s, rng.random(n), duration_s=24.0, style=STYLES_BY_NAME[name], seed=seed
    )

    assert harmony.chord_starts_s[0] <= 0
    assert (np.diff(harmony.chord_starts_s) > 0).all()
    assert (np.diff(harmony.subdivisions_s) >= 0).all()
    assert harmony.chord_starts_s[-1] < 24
    assert len(harmony.chord_starts_s) == len(harmony.chord_degrees)
    assert (harmony.chord_pitch_classes().sum(axis=1) == 3).all()
    assert (harmony.root_pitch_classes().sum(axis=1) == 1).all()
    assert (harmony.chord_pitch_classes() & harmony.root_pitch_classes()).sum() == len(
        harmony.chord_degrees
    )


def test_chords_change_on_accents_without_a_steady_beat() -> None:
    accents_s = np.array([0.7, 1.9, 3.4, 3.9, 6.2, 8.8, 9.3, 11.0])
    starts_s = sample_free_harmony(accents_s, 12.0).chord_starts_s

    assert set(starts_s[1:].tolist()) <= set(accents_s.tolist())
    assert len(starts_s) >= 4


def test_chords_change_in_long_intervals_without_accents() -> None:
    starts_s = sample_free_harmony(np.array([1.0, 23.0]), 24.0).chord_starts_s
    assert np.diff(starts_s).max() < 7


@pytest.mark.slow
def test_chord_lasts_one_bar_with_a_steady_beat() -> None:
    peaks_s = np.arange(0.3, 24, 0.5)
    strengths = np.where(np.arange(len(peaks_s)) % 4 == 2, 1.0, 0.5)
    harmony = sample_rhythm_harmony(
        peaks_s, strengths, duration_s=24.0, style=STYLES_BY_NAME["house"], seed=1
    )

    np.testing.assert_allclose(np.diff(harmony.beats_s), 0.5, atol=0.03)
    np.testing.assert_allclose(np.diff(harmony.chord_starts_s)[1:], 2.0, atol=0.03)
    # Bars begin on the strongest peaks: 1.3 s, 3.3 s, ...
    np.testing.assert_allclose((harmony.chord_starts_s[1:] - 0.3) % 2, 1, atol=1e-6)


@pytest.mark.parametrize("period_s", [0.42, 0.5, 0.63, 0.77])
def test_beats_are_found_with_missing_and_inaccurate_peaks(period_s: float) -> None:
    rng = np.random.default_rng(0)
    reference_s = np.arange(0.35, 60, period_s)
    has_peak = rng.random(len(reference_s)) > 0.3
    peaks_s = reference_s[has_peak] + rng.normal(0, 0.02, int(has_peak.sum()))

    fit, fitted_period_s = fit_beat_period(peaks_s)
    beats_s = track_steady_beats(
        peaks_s, np.ones(len(peaks_s)), duration_s=60.0, beat_period_s=fitted_period_s
    )

    assert fit > 0.8
    assert fitted_period_s == pytest.approx(period_s, rel=0.02)
    errors_s = np.abs(beats_s[None] - reference_s[:, None]).min(axis=1)
    assert np.mean(errors_s < 0.07) > 0.95
    assert abs(len(beats_s) - len(reference_s)) <= 2


def test_beats_follow_a_tempo_that_drifts() -> None:
    reference_s = np.cumsum(np.linspace(0.52, 0.48, 120))
    beats_s = track_steady_beats(reference_s, np.ones(120), duration_s=60.0, beat_period_s=0.5)

    errors_s = np.abs(beats_s[None] - reference_s[:, None]).min(axis=1)
    assert np.mean(errors_s < 0.05) > 0.95


def test_no_peaks_give_no_beats() -> None:
    beats_s = track_steady_beats(np.empty(0), np.empty(0), duration_s=10.0, beat_period_s=0.5)
    assert len(beats_s) == 0


def test_fit_is_high_for_a_steady_beat_and_low_for_random_peaks() -> None:
    rng = np.random.default_rng(0)
    steady_s = np.arange(3.0, 25.0, 0.52)[rng.random(43) > 0.3]
    random_fits = [fit_beat_period(np.sort(rng.uniform(0, 25, 40)))[0] for _ in range(50)]

    assert fit_beat_period(steady_s)[0] > 0.95
    assert np.quantile(random_fits, 0.95) < 0.6


def test_beat_period_is_found_for_a_pattern_of_eighth_notes() -> None:
    """Half of the peaks are between the beats."""
    beat_s = 0.56
    bars_s = np.arange(1.0, 24.0, 4 * beat_s)
    pattern_s = np.array([0, 3, 4, 5]) * beat_s / 2
    peaks_s = (bars_s[:, None] + pattern_s).ravel()

    fit, period_s = fit_beat_period(peaks_s)

    assert fit > 0.95
    assert period_s == pytest.approx(beat_s, rel=0.02)


@pytest.mark.parametrize("n_peaks", [10, 20, 40])
def test_random_peaks_rarely_fit_eighth_notes(n_peaks: int) -> None:
    rng = np.random.default_rng(0)
    fits = [fit_beat_period(np.sort(rng.uniform(0, 25, n_peaks)))[0] for _ in range(200)]
    assert sum(fit > max(0.75, (9 / n_peaks) ** 0.5) for fit in fits) <= 4


def test_chord_progression_has_the_form_aaab() -> None:
    peaks_s = np.arange(0.5, 60, 0.5)
    progressions = [
        sample_rhythm_harmony(
            peaks_s, np.ones(119), duration_s=60.0, style=STYLES_BY_NAME["house"], seed=seed
        )
        .chord_degrees[:16]
        .reshape(4, 4)
        .tolist()
        for seed in range(5)
    ]
    assert all(first == second == third for first, second, third, _ in progressions)
    assert any(first != fourth for first, *_, fourth in progressions)


def test_three_peaks_have_a_fit_of_zero() -> None:
    assert fit_beat_period(np.array([1.0, 2.0, 3.0]))[0] == 0


def test_harmony_depends_on_the_seed_alone() -> None:
    peaks_s = np.array([1.0, 2.5, 5.0, 7.5])
    harmonies = [
        sample_rhythm_harmony(peaks_s, np.ones(4), duration_s=12.0, style=STYLES[10], seed=seed)
        for seed in (1, 1, 2, 3, 4)
    ]
    chords = [(harmony.tonic, *harmony.chord_degrees) for harmony in harmonies]
    assert chords[0] == chords[1]
    np.testing.assert_array_equal(harmonies[0].chord_starts_s, harmonies[1].chord_starts_s)
    assert len(set(chords)) > 1
