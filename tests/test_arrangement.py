"""Notes on strikes and between them, and how a network is told of them."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loris_cli.arrangement import (
    BASS,
    DRUMS,
    INSTRUMENTS,
    KEYS,
    KICK,
    LEAD,
    MOTIF_PULSES,
    Arrangement,
    arrange,
)
from loris_cli.conditioning import (
    CODE_HZ,
    PLAYERS,
    RANGES,
    ROLL_CHANNELS,
    SUBFRAMES,
    ClipFeatures,
    instruments_of,
    piano_roll,
    planned,
)
from loris_cli.config import GENRES
from loris_cli.harmony import SCALES, Harmony
from loris_cli.styles import BY_NAME

PEAKS_S = np.arange(0.5, 31.5, 1.0)
CLIP = ClipFeatures(
    duration_s=32.0,
    peaks_s=PEAKS_S,
    strengths=np.full(len(PEAKS_S), 0.8),
    energy=np.full(512, 0.6),
    genre="pop",
)
STEADY = Harmony(
    key=2,
    scale=SCALES["major"],
    starts_s=np.array([0.0]),
    degrees=np.array([0]),
    pulses_s=np.arange(0.0, 32.0, 0.25),
    beats_s=np.arange(0.0, 32.0, 0.5),
)
ONE = Arrangement(
    table=np.array(
        [
            [1.0, 0.5, BASS, 40, 127],
            [2.0, 0.25, KEYS, 60, 64],
            [3.0, 0.1, DRUMS, KICK, 100],
        ]
    ),
    programs={BASS: 33, DRUMS: 8},
)


def written(seed: int, *, energy: float = 0.6, style: str = "pop") -> Arrangement:
    return arrange(
        PEAKS_S,
        CLIP.strengths,
        np.full(512, energy),
        STEADY,
        duration_s=32.0,
        style=BY_NAME[style],
        rng=np.random.default_rng(seed),
    )


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**31), name=st.sampled_from(GENRES))
def test_no_note_is_lost_to_the_roll(seed: int, name: str) -> None:
    plan = planned(replace(CLIP, genre=name), seed=seed).arrangement

    assert plan is not None
    for note in plan.notes:
        told = [
            low <= note.pitch < high
            for channels, low, high in RANGES
            if note.channel in channels
        ]
        heard = [
            not drums or note.pitch in drums
            for channel, drums in PLAYERS
            if channel == note.channel
        ]
        assert note.channel == DRUMS or told == [True]
        assert sum(heard) == 1
    assert all(
        instrument in INSTRUMENTS for instrument in plan.programs.items() if instrument[0] != 4
    )


def test_a_note_stands_at_its_pitch_from_its_start_to_its_end() -> None:
    roll = piano_roll(ONE, 0, 100)
    bass = roll[40 - RANGES[0][1]]

    assert roll.shape == (ROLL_CHANNELS, 100)
    assert bass.max() == pytest.approx(1.0)
    assert bass.sum() == pytest.approx(0.5 * CODE_HZ)
    assert not bass[: int(CODE_HZ)].any()
    keys = roll[32 + 60 - RANGES[1][1]]
    assert keys.max() == pytest.approx(64 / 127)
    assert np.count_nonzero(roll[:108].sum(axis=1)) == 2


def test_where_notes_begin_is_told_finer_than_frames() -> None:
    rows = piano_roll(ONE, 0, 100)[108:].reshape(len(PLAYERS), SUBFRAMES, 100)
    curves = rows.transpose(0, 2, 1).reshape(len(PLAYERS), -1)

    tops_s = {
        k: curve.argmax() / (CODE_HZ * SUBFRAMES)
        for k, curve in enumerate(curves)
        if curve.any()
    }
    assert set(tops_s) == {0, 2, 5}
    half = 0.5 / (CODE_HZ * SUBFRAMES)
    assert tops_s[0] == pytest.approx(1.0, abs=half)
    assert tops_s[2] == pytest.approx(2.0, abs=half)
    assert tops_s[5] == pytest.approx(3.0, abs=half)
    assert curves[5].max() == pytest.approx(100 / 127, rel=0.15)


def test_a_stretch_is_told_what_the_whole_is_told_there() -> None:
    plan = written(3)
    np.testing.assert_allclose(piano_roll(plan, 0, 400)[:, 100:250], piano_roll(plan, 100, 150))


def test_without_notes_nothing_is_told() -> None:
    assert not piano_roll(None, 0, 64).any()
    assert not instruments_of(None).any()


def test_the_players_are_told() -> None:
    told = instruments_of(ONE)
    assert [INSTRUMENTS[k] for k in np.flatnonzero(told)] == [(BASS, 33), (DRUMS, 8)]


def test_notes_are_drawn_by_the_seed_unless_there_are_some() -> None:
    one, again, other = (planned(CLIP, seed=seed).arrangement for seed in (1, 1, 2))
    assert one is not None
    assert again is not None
    assert other is not None
    np.testing.assert_array_equal(one.table, again.table)
    assert one.table.shape != other.table.shape or not np.array_equal(one.table, other.table)
    assert planned(replace(CLIP, arrangement=ONE), seed=1).arrangement is ONE


def test_every_strike_of_a_body_is_played_by_bass_and_drums() -> None:
    plan = planned(CLIP, seed=5).arrangement
    assert plan is not None
    for channel in (BASS, DRUMS):
        times_s = plan.table[plan.table[:, 2] == channel, 0]
        assert np.isin(PEAKS_S, times_s).all()


def test_more_energy_is_louder_and_has_more_notes() -> None:
    for seed in range(8):
        calm, wild = written(seed, energy=0.15), written(seed, energy=0.95)
        between = [plan.table[~np.isin(plan.table[:, 0], PEAKS_S)] for plan in (calm, wild)]
        assert len(between[1]) >= len(between[0])
        held = [plan.table[plan.table[:, 2] == 1, 4].mean() for plan in (calm, wild)]
        assert held[1] > held[0] + 20


def test_a_melody_says_it_again() -> None:
    """Two bars and the same two bars, over one chord: the form is A A B A."""
    phrase_s = MOTIF_PULSES * 0.25
    sung = 0
    for seed in range(12):
        table = written(seed).table
        lead = table[table[:, 2] == LEAD]
        rounds = [
            {
                (round(row[0] - k * phrase_s, 6), row[3])
                for row in lead
                if row[0] // phrase_s == k
            }
            for k in range(4)
        ]
        assert rounds[0] == rounds[1] == rounds[3]
        sung += bool(rounds[0]) and rounds[2] != rounds[0]
    assert sung > 3


def test_an_hour_is_arranged_note_for_note_as_its_first_minutes_rules_say() -> None:
    peaks_s = np.sort(np.random.default_rng(0).uniform(0, 3600, 4000))
    clip = replace(
        CLIP,
        duration_s=3600.0,
        peaks_s=peaks_s,
        strengths=np.full(len(peaks_s), 0.5),
        energy=np.full(57_600, 0.5),
    )
    plan = planned(clip, seed=0).arrangement
    assert plan is not None
    assert (np.diff(plan.table[:, 0]) >= 0).all()
    assert np.isin(peaks_s, plan.table[plan.table[:, 2] == BASS, 0]).all()
