"""The harmony of a piece: chords of its key that change on accents and beats."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loris_cli.composition.chords import SCALES, Harmony, sample_harmony, sample_rhythm_harmony
from loris_cli.composition.styles import STYLES, STYLES_BY_NAME
from loris_cli.rhythm.tempo_fit import fit_beat_period, track_steady_beats

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


def test_triads_are_those_of_the_key() -> None:
    # C major, G major, A minor
    assert [np.flatnonzero(row).tolist() for row in C_MAJOR.chord_pitch_classes()] == [
        [0, 4, 7],
        [2, 7, 11],
        [0, 4, 9],
    ]
    assert np.argmax(C_MAJOR.root_pitch_classes(), axis=1).tolist() == [0, 7, 9]


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    name=st.sampled_from(sorted(STYLES_BY_NAME)),
    n=st.integers(0, 60),
)
def test_a_plan_keeps_its_promises(seed: int, name: str, n: int) -> None:
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


def test_chords_change_on_strikes_where_there_is_no_beat() -> None:
    accents_s = np.array([0.7, 1.9, 3.4, 3.9, 6.2, 8.8, 9.3, 11.0])
    starts_s = sample_free_harmony(accents_s, 12.0).chord_starts_s

    assert set(starts_s[1:].tolist()) <= set(accents_s.tolist())
    assert len(starts_s) >= 4


def test_chords_change_in_a_long_calm_stretch_too() -> None:
    starts_s = sample_free_harmony(np.array([1.0, 23.0]), 24.0).chord_starts_s
    assert np.diff(starts_s).max() < 7


def test_a_chord_lasts_a_bar_where_there_is_a_beat() -> None:
    peaks_s = np.arange(0.3, 24, 0.5)
    strengths = np.where(np.arange(len(peaks_s)) % 4 == 2, 1.0, 0.5)
    harmony = sample_rhythm_harmony(
        peaks_s, strengths, duration_s=24.0, style=STYLES_BY_NAME["house"], seed=1
    )

    np.testing.assert_allclose(np.diff(harmony.beats_s), 0.5, atol=0.03)
    np.testing.assert_allclose(np.diff(harmony.chord_starts_s)[1:], 2.0, atol=0.03)
    # A bar begins where the body strikes hardest: on 1.3, 3.3, ...
    np.testing.assert_allclose((harmony.chord_starts_s[1:] - 0.3) % 2, 1, atol=1e-6)


@pytest.mark.parametrize("period_s", [0.42, 0.5, 0.63, 0.77])
def test_beats_are_found_though_some_are_missing_and_all_are_loose(period_s: float) -> None:
    rng = np.random.default_rng(0)
    true_s = np.arange(0.35, 60, period_s)
    struck = rng.random(len(true_s)) > 0.3
    peaks_s = true_s[struck] + rng.normal(0, 0.02, int(struck.sum()))

    fit, found_s = fit_beat_period(peaks_s)
    beats_s = track_steady_beats(
        peaks_s, np.ones(len(peaks_s)), duration_s=60.0, beat_period_s=found_s
    )

    assert fit > 0.8
    assert found_s == pytest.approx(period_s, rel=0.02)
    off_s = np.abs(beats_s[None] - true_s[:, None]).min(axis=1)
    assert np.mean(off_s < 0.07) > 0.95
    assert abs(len(beats_s) - len(true_s)) <= 2


def test_beats_follow_a_tempo_that_drifts() -> None:
    true_s = np.cumsum(np.linspace(0.52, 0.48, 120))
    beats_s = track_steady_beats(true_s, np.ones(120), duration_s=60.0, beat_period_s=0.5)

    off_s = np.abs(beats_s[None] - true_s[:, None]).min(axis=1)
    assert np.mean(off_s < 0.05) > 0.95


def test_where_nobody_strikes_there_are_no_beats() -> None:
    assert (
        len(track_steady_beats(np.empty(0), np.empty(0), duration_s=10.0, beat_period_s=0.5))
        == 0
    )


def test_a_steady_beat_is_told_from_chance() -> None:
    rng = np.random.default_rng(0)
    beat = np.arange(3.0, 25.0, 0.52)[rng.random(43) > 0.3]
    chance = [fit_beat_period(np.sort(rng.uniform(0, 25, 40)))[0] for _ in range(50)]

    assert fit_beat_period(beat)[0] > 0.95
    assert np.quantile(chance, 0.95) < 0.6


def test_a_figure_of_eighths_has_the_beat_it_is_danced_to() -> None:
    """Half its strikes lie between the beats: one beat alone would not explain them."""
    beat_s = 0.56
    bars_s = np.arange(1.0, 24.0, 4 * beat_s)
    figure = np.array([0, 3, 4, 5]) * beat_s / 2  # twice on the beat, twice off it
    peaks_s = (bars_s[:, None] + figure).ravel()

    fit, found_s = fit_beat_period(peaks_s)

    assert fit > 0.95
    assert found_s == pytest.approx(beat_s, rel=0.02)


def test_eighths_are_told_from_chance() -> None:
    rng = np.random.default_rng(0)
    for n_peaks in (10, 20, 40):
        chance = [fit_beat_period(np.sort(rng.uniform(0, 25, n_peaks))) for _ in range(200)]
        by_halves = [fit for fit, _ in chance if fit > max(0.75, (9 / n_peaks) ** 0.5)]
        assert len(by_halves) <= 4


def test_a_soundtrack_comes_back_to_its_chords_and_leaves_them_once() -> None:
    peaks_s = np.arange(0.5, 60, 0.5)
    rounds = [
        sample_rhythm_harmony(
            peaks_s, np.ones(119), duration_s=60.0, style=STYLES_BY_NAME["house"], seed=seed
        )
        .chord_degrees[:16]
        .reshape(4, 4)
        .tolist()
        for seed in range(5)
    ]
    assert all(first == second == third for first, second, third, _ in rounds)
    assert any(first != fourth for first, *_, fourth in rounds)


def test_few_peaks_have_no_beat() -> None:
    assert fit_beat_period(np.array([1.0, 2.0, 3.0]))[0] == 0


def test_the_same_seed_plans_the_same_and_another_another() -> None:
    peaks_s = np.array([1.0, 2.5, 5.0, 7.5])
    harmonies = [
        sample_rhythm_harmony(peaks_s, np.ones(4), duration_s=12.0, style=STYLES[10], seed=seed)
        for seed in (1, 1, 2, 3, 4)
    ]
    assert (harmonies[0].tonic, *harmonies[0].chord_degrees) == (
        harmonies[1].tonic,
        *harmonies[1].chord_degrees,
    )
    assert len({(harmony.tonic, *harmony.chord_degrees) for harmony in harmonies[1:]}) > 1
