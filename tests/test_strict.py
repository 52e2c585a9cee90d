"""Strict figures: perfect is 1, empty is defined, a metronome is found out."""

import numpy as np
import pytest

from loris_cli.evaluation.metrics.sync import (
    STRICT_METRICS,
    AudioEvents,
    median_tempo_bpm,
    score_against_motion,
    score_against_reference,
)

BEATS = np.arange(0.4, 20, 0.5)
ONSETS = np.sort(np.random.default_rng(0).uniform(0, 20, 40))
TRUTH = AudioEvents(onsets_s=ONSETS, beats_s=BEATS)
NOTHING = AudioEvents(onsets_s=np.zeros(0), beats_s=np.zeros(0))
PERFECT = {**dict.fromkeys(STRICT_METRICS, 1.0), "tempo_error": 0.0}
EMPTY = {**dict.fromkeys(STRICT_METRICS, 0.0), "tempo_error": 1.0}


@pytest.mark.parametrize("figure", STRICT_METRICS)
def test_perfect_is_one(figure: str) -> None:
    found = score_against_reference(TRUTH, TRUTH) | score_against_motion(ONSETS, ONSETS)

    assert found[figure] == pytest.approx(PERFECT[figure])


@pytest.mark.parametrize("figure", STRICT_METRICS)
@pytest.mark.parametrize(("true", "made"), [(NOTHING, TRUTH), (TRUTH, NOTHING), (NOTHING,) * 2])
def test_empty_is_defined(true: AudioEvents, made: AudioEvents, figure: str) -> None:
    found = score_against_reference(true, made) | score_against_motion(
        true.onsets_s, made.onsets_s
    )

    assert found[figure] == EMPTY[figure]


def test_the_first_seconds_count() -> None:
    early = np.array([0.5, 1.0, 1.5, 2.0, 2.5])  # mir_eval's trimming would leave nothing
    short = AudioEvents(onsets_s=early, beats_s=early)

    assert score_against_reference(short, short)["beat_f"] == 1.0


def test_a_metronome_at_the_wrong_phase_has_the_tempo_and_not_the_beats() -> None:
    found = score_against_reference(
        TRUTH, AudioEvents(onsets_s=BEATS + 0.15, beats_s=BEATS + 0.15)
    )

    assert found["tempo_error"] == pytest.approx(0.0)
    assert found["beat_f"] == 0.0


def test_twice_the_tempo_is_forgiven_by_aml_alone() -> None:
    double = np.arange(0.4, 20, 0.25)

    found = score_against_reference(TRUTH, AudioEvents(onsets_s=ONSETS, beats_s=double))

    assert found["aml_t"] > 0.9 > found["cml_t"]
    assert found["tempo_error"] == pytest.approx(0.5)


def test_a_wall_of_onsets_aligns_one_way_only() -> None:
    peaks, wall = np.arange(1, 19, 2.0), np.arange(0.05, 20, 0.1)

    found = score_against_motion(peaks, wall)

    assert found["motion_to_audio_alignment"] > 0.6
    assert found["audio_to_motion_alignment"] < 0.2
    assert found["av_align"] < 0.1


def test_alignment_falls_as_its_formula_says() -> None:
    found = score_against_motion(np.array([1.0, 3.0]), np.array([1.05, 3.05]))

    assert found["audio_to_motion_alignment"] == pytest.approx(np.exp(-0.5))  # a deviation away
    assert found["av_align"] == 0.0  # 50 ms are outside a picture's time


def test_hits_are_one_to_one() -> None:
    found = score_against_motion(np.array([1.0]), np.array([0.99, 1.0, 1.01]))

    assert found["av_align"] == pytest.approx(1 / 3)


def test_tempo_is_of_the_median_interval() -> None:
    assert median_tempo_bpm(np.array([0.0, 0.5, 1.0, 2.0])) == 120.0
    assert median_tempo_bpm(np.array([1.0])) is None
