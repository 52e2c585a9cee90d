"""Composer of synthetic music: reproducible scores whose loud notes are the accents."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from loris_cli.composition.arrangement import BASS_CHANNEL, DRUM_CHANNEL
from loris_cli.composition.styles import STYLES, STYLES_BY_NAME
from loris_cli.config import GENRES
from loris_cli.synthetic.composer import compose_score


def test_styles_have_the_order_of_the_genre_labels() -> None:
    assert tuple(style.name for style in STYLES) == GENRES


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**31), name=st.sampled_from(GENRES))
def test_score_values_are_in_their_ranges(seed: int, name: str) -> None:
    score = compose_score(seed, STYLES_BY_NAME[name], 12.0)

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
def test_bass_and_drums_play_on_every_accent(seed: int, name: str) -> None:
    score = compose_score(seed, STYLES_BY_NAME[name], 12.0)

    notes = score.arrangement.note_array
    for accent_s in score.accents_s:
        channels = set(notes[np.abs(notes[:, 0] - accent_s) < 1e-9, 2].tolist())
        assert {BASS_CHANNEL, DRUM_CHANNEL} <= channels


def test_drums_are_louder_on_accents_than_between_them() -> None:
    accented: list[float] = []
    unaccented: list[float] = []
    for seed in range(24):
        score = compose_score(seed, STYLES[seed % len(STYLES)], 24.0)
        notes = score.arrangement.note_array
        for onset_s, *_, velocity in notes[notes[:, 2] == DRUM_CHANNEL].tolist():
            is_accent = np.abs(score.accents_s - onset_s).min(initial=9.0) < 1e-9
            (accented if is_accent else unaccented).append(velocity)

    assert np.quantile(accented, 0.1) > np.quantile(unaccented, 0.9)


def test_score_depends_on_the_seed_alone() -> None:
    first, repeated, other = (compose_score(seed, STYLES[0], 24.0) for seed in (1, 1, 2))

    for name in ("accents_s", "strengths", "energy"):
        np.testing.assert_array_equal(getattr(first, name), getattr(repeated, name))
    np.testing.assert_array_equal(first.arrangement.note_array, repeated.arrangement.note_array)
    assert not np.array_equal(first.arrangement.note_array, other.arrangement.note_array)


def test_accents_of_scores_with_a_steady_beat_are_on_the_eighth_note_grid() -> None:
    house = [compose_score(seed, STYLES_BY_NAME["house"], 24.0) for seed in range(30)]
    steady = [score for score in house if len(score.harmony.beats_s)]

    assert len(steady) > 15
    for score in steady:
        eighth_s = (score.harmony.beats_s[1] - score.harmony.beats_s[0]) / 2
        phase = (score.accents_s - score.harmony.beats_s[0]) / eighth_s
        assert np.abs(phase - phase.round()).max(initial=0) < 1e-6
