"""Made-up music: the same every time, and its loud moments are its accents."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loris_cli.composition.arrangement import BASS_CHANNEL, DRUM_CHANNEL
from loris_cli.composition.midi_synthesis import encode_midi
from loris_cli.composition.styles import STYLES, STYLES_BY_NAME
from loris_cli.config import GENRES
from loris_cli.synthetic.composer import compose_score


def test_styles_are_the_labels_in_their_order() -> None:
    assert tuple(style.name for style in STYLES) == GENRES


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**31), name=st.sampled_from(GENRES))
def test_a_piece_keeps_its_promises(seed: int, name: str) -> None:
    score = compose_score(seed, STYLES_BY_NAME[name], 12.0)

    assert score == score
    assert (np.diff(score.accents_s) >= 0.2 - 1e-9).all()
    assert ((score.accents_s > 0) & (score.accents_s < 12)).all()
    assert ((score.strengths >= 0) & (score.strengths <= 1)).all()
    assert ((score.energy >= 0) & (score.energy <= 1)).all()
    assert len(score.energy) == 12 * 16
    pitches, velocities = score.arrangement.note_array[:, 3:].T
    assert ((pitches >= 0) & (pitches < 128)).all()
    assert ((velocities >= 1) & (velocities <= 127)).all()


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**31), name=st.sampled_from(GENRES))
def test_a_drum_and_the_bass_fall_on_every_accent(seed: int, name: str) -> None:
    score = compose_score(seed, STYLES_BY_NAME[name], 12.0)

    for accent in score.accents_s:
        notes = score.arrangement.note_array
        channels = set(notes[np.abs(notes[:, 0] - accent) < 1e-9, 2].tolist())
        assert {BASS_CHANNEL, DRUM_CHANNEL} <= channels


def test_accents_are_louder_than_what_lies_between() -> None:
    on: list[float] = []
    between: list[float] = []
    for seed in range(24):
        score = compose_score(seed, STYLES[seed % len(STYLES)], 24.0)
        notes = score.arrangement.note_array
        for onset_s, *_, velocity in notes[notes[:, 2] == DRUM_CHANNEL].tolist():
            near = np.abs(score.accents_s - onset_s).min(initial=9.0) < 1e-9
            (on if near else between).append(velocity)

    assert np.quantile(on, 0.1) > np.quantile(between, 0.9)


def test_the_same_seed_writes_the_same_piece_and_another_another() -> None:
    one, again, other = (
        compose_score(seed, STYLES[0], 24.0).arrangement.note_array for seed in (1, 1, 2)
    )

    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


def test_steady_pieces_have_their_accents_on_the_grid() -> None:
    house = [compose_score(seed, STYLES_BY_NAME["house"], 24.0) for seed in range(30)]
    steady = [score for score in house if len(score.harmony.beats_s)]

    assert len(steady) > 15
    for score in steady:
        half = (score.harmony.beats_s[1] - score.harmony.beats_s[0]) / 2
        phase = (score.accents_s - score.harmony.beats_s[0]) / half
        assert np.abs(phase - phase.round()).max(initial=0) < 1e-6


def test_midi_holds_the_notes_at_their_times() -> None:
    import io

    mido = pytest.importorskip("mido")
    score = compose_score(7, STYLES[8], 8.0)

    file = mido.MidiFile(
        file=io.BytesIO(encode_midi(score.arrangement, channel_volumes=np.ones(16)))
    )

    now, starts = 0.0, []
    for message in file:
        now += message.time
        if message.type == "note_on" and message.velocity:
            starts.append(now)
    np.testing.assert_allclose(sorted(starts), score.arrangement.note_array[:, 0], atol=1e-3)
