"""Synchronization metrics: perfect and empty results, and results with a known fault."""

import numpy as np
import pytest

from loris_cli.evaluation.metrics.sync import (
    STRICT_METRICS,
    AudioEvents,
    median_tempo_bpm,
    score_against_motion,
    score_against_reference,
)

pytestmark = pytest.mark.numpy1

BEATS_S = np.arange(0.4, 20, 0.5)
ONSETS_S = np.sort(np.random.default_rng(0).uniform(0, 20, 40))
REFERENCE = AudioEvents(onsets_s=ONSETS_S, beats_s=BEATS_S)
NO_EVENTS = AudioEvents(onsets_s=np.zeros(0), beats_s=np.zeros(0))
PERFECT_SCORES = {**dict.fromkeys(STRICT_METRICS, 1.0), "tempo_error": 0.0}
EMPTY_SCORES = {**dict.fromkeys(STRICT_METRICS, 0.0), "tempo_error": 1.0}


@pytest.mark.parametrize("metric", STRICT_METRICS)
def test_events_equal_to_the_reference_have_perfect_scores(metric: str) -> None:
    scores = score_against_reference(REFERENCE, REFERENCE) | score_against_motion(
        ONSETS_S, ONSETS_S
    )

    assert scores[metric] == pytest.approx(PERFECT_SCORES[metric])


@pytest.mark.parametrize("metric", STRICT_METRICS)
@pytest.mark.parametrize(
    ("reference", "generated"),
    [
        pytest.param(NO_EVENTS, REFERENCE, id="empty reference"),
        pytest.param(REFERENCE, NO_EVENTS, id="empty result"),
        pytest.param(NO_EVENTS, NO_EVENTS, id="both empty"),
    ],
)
def test_empty_events_have_the_worst_scores(
    reference: AudioEvents, generated: AudioEvents, metric: str
) -> None:
    scores = score_against_reference(reference, generated) | score_against_motion(
        reference.onsets_s, generated.onsets_s
    )

    assert scores[metric] == EMPTY_SCORES[metric]


def test_beats_in_the_first_seconds_are_scored() -> None:
    # mir_eval's trimming of the first 5 s would discard all of these beats.
    early_s = np.array([0.5, 1.0, 1.5, 2.0, 2.5])
    events = AudioEvents(onsets_s=early_s, beats_s=early_s)

    assert score_against_reference(events, events)["beat_f"] == 1.0


def test_shifted_metronome_has_the_tempo_but_no_beats() -> None:
    shifted = AudioEvents(onsets_s=BEATS_S + 0.15, beats_s=BEATS_S + 0.15)

    scores = score_against_reference(REFERENCE, shifted)

    assert scores["tempo_error"] == pytest.approx(0.0)
    assert scores["beat_f"] == 0.0


def test_double_tempo_is_accepted_by_aml_only() -> None:
    double = AudioEvents(onsets_s=ONSETS_S, beats_s=np.arange(0.4, 20, 0.25))

    scores = score_against_reference(REFERENCE, double)

    assert scores["aml_t"] > 0.9 > scores["cml_t"]
    assert scores["tempo_error"] == pytest.approx(0.5)


def test_dense_onsets_raise_only_the_alignment_of_motion_to_audio() -> None:
    peaks_s, onsets_s = np.arange(1, 19, 2.0), np.arange(0.05, 20, 0.1)

    scores = score_against_motion(peaks_s, onsets_s)

    # Every peak is 50 ms from an onset: one standard deviation, beyond AV-Align's 40 ms.
    assert scores["motion_to_audio_alignment"] == pytest.approx(np.exp(-0.5))
    assert scores["audio_to_motion_alignment"] < 0.2
    assert scores["av_align"] == 0.0


def test_onsets_one_sigma_late_have_the_alignment_of_the_formula() -> None:
    scores = score_against_motion(np.array([1.0, 3.0]), np.array([1.05, 3.05]))

    assert scores["audio_to_motion_alignment"] == pytest.approx(np.exp(-0.5))
    assert scores["av_align"] == 0.0  # 50 ms exceed the window of 40 ms


def test_av_align_matches_one_onset_per_peak() -> None:
    scores = score_against_motion(np.array([1.0]), np.array([0.99, 1.0, 1.01]))

    assert scores["av_align"] == pytest.approx(1 / 3)


def test_tempo_is_that_of_the_median_beat_interval() -> None:
    assert median_tempo_bpm(np.array([0.0, 0.5, 1.0, 2.0])) == 120.0


def test_single_beat_has_no_tempo() -> None:
    assert median_tempo_bpm(np.array([1.0])) is None
