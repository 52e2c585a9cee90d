"""Notes on strikes and between them."""

from dataclasses import replace

import numpy as np

from loris_cli.composition.arrangement import (
    BASS_CHANNEL,
    DRUM_CHANNEL,
    LEAD_CHANNEL,
    MOTIF_SUBDIVISIONS,
    Arrangement,
    compose_arrangement,
)
from loris_cli.composition.chords import SCALES, Harmony
from loris_cli.composition.styles import STYLES_BY_NAME
from loris_cli.models.generator_interface import ClipFeatures
from loris_cli.soundtrack.clip_features import with_arrangement

PEAKS_S = np.arange(0.5, 31.5, 1.0)
CLIP = ClipFeatures(
    duration_s=32.0,
    peaks_s=PEAKS_S,
    strengths=np.full(len(PEAKS_S), 0.8),
    energy=np.full(512, 0.6),
    genre="pop",
)
STEADY = Harmony(
    tonic=2,
    scale=SCALES["major"],
    chord_starts_s=np.array([0.0]),
    chord_degrees=np.array([0]),
    subdivisions_s=np.arange(0.0, 32.0, 0.25),
    beats_s=np.arange(0.0, 32.0, 0.5),
)


def compose(seed: int, *, energy: float = 0.6, style: str = "pop") -> Arrangement:
    return compose_arrangement(
        PEAKS_S,
        CLIP.strengths,
        np.full(512, energy),
        STEADY,
        duration_s=32.0,
        style=STYLES_BY_NAME[style],
        rng=np.random.default_rng(seed),
    )


def test_notes_are_drawn_by_the_seed_unless_there_are_some() -> None:
    one, again, other = (with_arrangement(CLIP, seed=seed).arrangement for seed in (1, 1, 2))
    assert one is not None
    assert again is not None
    assert other is not None
    np.testing.assert_array_equal(one.note_array, again.note_array)
    assert one.note_array.shape != other.note_array.shape or not np.array_equal(
        one.note_array, other.note_array
    )
    assert with_arrangement(replace(CLIP, arrangement=one), seed=2).arrangement is one


def test_every_strike_of_a_body_is_played_by_bass_and_drums() -> None:
    arrangement = with_arrangement(CLIP, seed=5).arrangement
    assert arrangement is not None
    for channel in (BASS_CHANNEL, DRUM_CHANNEL):
        times_s = arrangement.note_array[arrangement.note_array[:, 2] == channel, 0]
        assert np.isin(PEAKS_S, times_s).all()


def test_more_energy_is_louder_and_has_more_notes() -> None:
    for seed in range(8):
        low, high = compose(seed, energy=0.15), compose(seed, energy=0.95)
        between = [
            arrangement.note_array[~np.isin(arrangement.note_array[:, 0], PEAKS_S)]
            for arrangement in (low, high)
        ]
        assert len(between[1]) >= len(between[0])
        held = [
            arrangement.note_array[arrangement.note_array[:, 2] == 1, 4].mean()
            for arrangement in (low, high)
        ]
        assert held[1] > held[0] + 20


def test_a_melody_says_it_again() -> None:
    """Two bars and the same two bars, over one chord: the form is A A B A."""
    phrase_s = MOTIF_SUBDIVISIONS * 0.25
    n_answered = 0
    for seed in range(12):
        note_array = compose(seed).note_array
        lead = note_array[note_array[:, 2] == LEAD_CHANNEL]
        rounds = [
            {
                (round(row[0] - k * phrase_s, 6), row[3])
                for row in lead
                if row[0] // phrase_s == k
            }
            for k in range(4)
        ]
        assert rounds[0] == rounds[1] == rounds[3]
        n_answered += bool(rounds[0]) and rounds[2] != rounds[0]
    assert n_answered > 3


def test_an_hour_is_arranged_note_for_note_as_its_first_minutes_rules_say() -> None:
    peaks_s = np.sort(np.random.default_rng(0).uniform(0, 3600, 4000))
    clip = replace(
        CLIP,
        duration_s=3600.0,
        peaks_s=peaks_s,
        strengths=np.full(len(peaks_s), 0.5),
        energy=np.full(57_600, 0.5),
    )
    arrangement = with_arrangement(clip, seed=0).arrangement
    assert arrangement is not None
    assert (np.diff(arrangement.note_array[:, 0]) >= 0).all()
    assert np.isin(
        peaks_s, arrangement.note_array[arrangement.note_array[:, 2] == BASS_CHANNEL, 0]
    ).all()
