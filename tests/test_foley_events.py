"""Events of Foley Music: notes to symbols and back, and the valid order of symbols."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loris_cli.array_types import Array
from loris_cli.baselines.foley.decoding import EventGrammar
from loris_cli.baselines.foley.events import (
    END,
    N_SYMBOLS,
    NOTE_OFF,
    NOTE_ON,
    PADDING,
    START,
    TIME_SHIFT,
    TIME_SHIFTS_S,
    TIME_STEP_S,
    VELOCITY,
    crop_notes,
    decode_notes,
    decode_velocity,
    encode_notes,
    encode_time_shift,
    encode_velocity,
    end_notes,
    merge_instruments,
)
from loris_cli.baselines.foley.generator import encode_prefix
from loris_cli.composition.arrangement import DRUM_CHANNEL

WINDOW_S = 6.0
NOTE = st.tuples(
    st.floats(0, WINDOW_S - 0.1),
    st.floats(2 * TIME_STEP_S, 3.0),
    st.sampled_from([0, 1, DRUM_CHANNEL]),
    st.integers(21, 108),
    st.integers(1, 127),
)


def make_notes(*rows: tuple[float, float, int, int]) -> Array:
    return np.array(rows, dtype=np.float64).reshape(-1, 4)


def sort_by_pitch(notes: Array) -> Array:
    """Sort by pitch and onset; quantization may exchange near onsets of different pitches."""
    return notes[np.lexsort((notes[:, 0], notes[:, 2]))]


def test_vocabulary_has_240_events_and_3_other_symbols() -> None:
    assert (NOTE_ON, NOTE_OFF, VELOCITY, TIME_SHIFT) == (0, 88, 176, 208)
    assert (START, END, PADDING, N_SYMBOLS) == (240, 241, 242, 243)
    assert TIME_SHIFTS_S[0] == pytest.approx(1 / 65)
    assert TIME_SHIFTS_S[-1] == pytest.approx(1.15**31 / 65)


@settings(max_examples=60, deadline=None)
@given(st.lists(NOTE, max_size=20))
def test_notes_survive_encoding_within_the_quantization(
    rows: list[tuple[float, float, int, int, int]],
) -> None:
    note_array = np.array(rows, dtype=np.float64).reshape(-1, 5)
    merged = merge_instruments(note_array, drum_channel=DRUM_CHANNEL)
    notes = merged[merged[:, 1] >= 2 * TIME_STEP_S]

    events = encode_notes(notes, duration_s=np.inf, compat="paper")
    decoded = decode_notes(events, compat="paper")

    expected, found = sort_by_pitch(notes), sort_by_pitch(decoded)
    np.testing.assert_array_equal(found[:, 2], expected[:, 2])
    np.testing.assert_allclose(found[:, 0], expected[:, 0], atol=TIME_STEP_S / 2 + 1e-9)
    ends_s, expected_ends_s = found[:, :2].sum(1), expected[:, :2].sum(1)
    np.testing.assert_allclose(ends_s, expected_ends_s, atol=TIME_STEP_S / 2 + 1e-9)
    np.testing.assert_allclose(found[:, 3], expected[:, 3], atol=2.6)


@settings(max_examples=60, deadline=None)
@given(st.lists(NOTE, max_size=20), st.floats(0, WINDOW_S))
def test_encoded_notes_follow_the_grammar(
    rows: list[tuple[float, float, int, int, int]], start_s: float
) -> None:
    note_array = np.array(rows, dtype=np.float64).reshape(-1, 5)
    notes = merge_instruments(note_array, drum_channel=DRUM_CHANNEL)
    window = crop_notes(notes, start_s, WINDOW_S, compat="paper")
    grammar = EventGrammar()
    for event in encode_notes(window, duration_s=WINDOW_S, compat="paper"):
        assert grammar.find_valid_symbols()[event]
        grammar.push(event)
    assert grammar.clock_s < WINDOW_S + TIME_STEP_S


@given(st.floats(0, 20))
def test_time_shifts_are_within_half_a_time_step(duration_s: float) -> None:
    indices = [event - TIME_SHIFT for event in encode_time_shift(duration_s)]
    assert abs(TIME_SHIFTS_S[indices].sum() - duration_s) <= TIME_STEP_S / 2 + 1e-9
    assert indices == sorted(indices, reverse=True)


def test_a_note_ends_before_the_next_one_of_its_pitch() -> None:
    """The end of the first note is later by an error of rounding."""
    notes = np.array(
        [[0.62, 1.7237559460834009 - 0.62, 60, 64], [1.7237559460834009, 1, 60, 64]]
    )
    assert notes[0, :2].sum() > notes[1, 0]
    decoded = decode_notes(encode_notes(notes, duration_s=6.0, compat="paper"), compat="paper")
    np.testing.assert_allclose(decoded[:, 1], notes[:, 1], atol=TIME_STEP_S)


def test_velocities_are_within_half_a_velocity_step() -> None:
    for velocity in range(1, 128):
        step = encode_velocity(velocity, "paper")
        assert 0 <= step < 32
        assert abs(decode_velocity(step, "paper") - velocity) <= 2.6


def test_instruments_become_one_piano_without_drums() -> None:
    note_array = np.array(
        [
            [0.0, 2.0, 0, 60, 50],
            [0.0, 0.5, DRUM_CHANNEL, 36, 90],
            [1.0, 1.0, 1, 60, 70],
            [1.5, 1.0, 1, 20, 70],
            [1.5, 1.0, 2, 109, 70],
        ]
    )
    notes = merge_instruments(note_array, drum_channel=DRUM_CHANNEL)
    np.testing.assert_allclose(notes, [[0, 1, 60, 50], [1, 1, 60, 70]])


def test_notes_without_an_end_last_to_the_end_of_the_window() -> None:
    window = crop_notes(make_notes((5.0, 4.0, 60, 64)), 1.0, WINDOW_S, compat="paper")
    events = encode_notes(window, duration_s=WINDOW_S, compat="paper")
    assert not [event for event in events if NOTE_OFF <= event < VELOCITY]
    notes = decode_notes(events, compat="paper")
    assert np.isinf(notes[0, 1])
    np.testing.assert_allclose(end_notes(notes, WINDOW_S)[0, :2].sum(), WINDOW_S)


def test_notes_that_sound_at_the_start_are_omitted_or_start_there() -> None:
    notes = make_notes((0.0, 3.0, 60, 64), (3.0, 1.0, 62, 64))
    paper = crop_notes(notes, 2.0, WINDOW_S, compat="paper")
    official = crop_notes(notes, 2.0, WINDOW_S, compat="official")
    np.testing.assert_allclose(paper, [[1, 1, 62, 64]])
    np.testing.assert_allclose(official, [[0, 1, 60, 64], [1, 1, 62, 64]])


def test_official_events_omit_the_first_rest_and_accumulate_errors() -> None:
    spacing_s = 1.9 * TIME_STEP_S  # rounded down to 1.75 time steps
    notes = make_notes(*((2.0 + k * spacing_s, spacing_s, 60 + k, 64) for k in range(20)))
    decoded = {
        compat: decode_notes(encode_notes(notes, duration_s=6.0, compat=compat), compat=compat)
        for compat in ("paper", "official")
    }
    np.testing.assert_allclose(decoded["paper"][:, 0], notes[:, 0], atol=TIME_STEP_S / 2)
    assert decoded["official"][0, 0] == 0
    largest_s = float(TIME_SHIFTS_S[TIME_SHIFTS_S <= spacing_s].max())
    np.testing.assert_allclose(decoded["official"][-1, 0], 19 * largest_s)


def test_official_velocities_have_the_range_of_the_pitches() -> None:
    loudest = decode_velocity(encode_velocity(127, "official"), "official")
    softest = decode_velocity(encode_velocity(1, "official"), "official")
    assert (softest, loudest) == (21, 106)


def test_official_notes_have_a_least_and_a_default_duration() -> None:
    events = [VELOCITY, 0, TIME_SHIFT, NOTE_OFF, VELOCITY, 1]
    notes = decode_notes(events, compat="official")
    np.testing.assert_allclose(notes[:, 1], [0.25, 1.0])


def test_prefix_lasts_to_its_end() -> None:
    notes = make_notes((3.9, 0.3, 62, 64), (4.5, 0.3, 60, 64), (5.9, np.inf, 64, 64))
    grammar = EventGrammar()
    for event in encode_prefix(notes, 4.0, 2.0):
        assert grammar.find_valid_symbols()[event]
        grammar.push(event)
    assert grammar.clock_s == pytest.approx(2.0, abs=TIME_STEP_S / 2)
    assert np.flatnonzero(grammar.is_sounding).tolist() == [64 - 21]
    assert encode_prefix(make_notes(), 6.0, 0.0) == []


def test_grammar_rejects_invalid_symbols() -> None:
    grammar = EventGrammar()
    valid = grammar.find_valid_symbols()
    assert not valid[NOTE_ON:VELOCITY].any()
    assert not valid[[START, PADDING]].any()
    grammar.push(VELOCITY + 3)
    valid = grammar.find_valid_symbols()
    assert valid[NOTE_ON:NOTE_OFF].all()
    assert valid.sum() == 88
    grammar.push(NOTE_ON + 5)
    valid = grammar.find_valid_symbols()
    assert np.flatnonzero(valid[NOTE_OFF:VELOCITY]).tolist() == [5]
    grammar.push(VELOCITY)
    assert not grammar.find_valid_symbols()[NOTE_ON + 5]
