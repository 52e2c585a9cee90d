"""Arrangement: notes on the visual peaks and between them."""

import numpy as np
import pytest
from builders import make_features

from loris_cli.array_types import Array
from loris_cli.composition.arrangement import (
    BASS_CHANNEL,
    DRUM_CHANNEL,
    LEAD_CHANNEL,
    MOTIF_SUBDIVISIONS,
    PAD_CHANNEL,
    Arrangement,
    compose_arrangement,
)
from loris_cli.composition.chords import SCALES, Harmony
from loris_cli.composition.styles import STYLES_BY_NAME
from loris_cli.soundtrack.clip_features import add_arrangement

PEAKS_S = np.arange(0.5, 31.5, 1.0)
FEATURES = make_features(32.0, PEAKS_S, genre="pop")
ONE_CHORD_HARMONY = Harmony(
    tonic=2,
    scale=SCALES["major"],
    chord_starts_s=np.array([0.0]),
    chord_degrees=np.array([0]),
    subdivisions_s=np.arange(0.0, 32.0, 0.25),
    beats_s=np.arange(0.0, 32.0, 0.5),
)


def compose_over_one_chord(seed: int, *, energy: float = 0.6) -> Arrangement:
    return compose_arrangement(
        PEAKS_S,
        np.full(len(PEAKS_S), 0.8),
        np.full(512, energy),
        ONE_CHORD_HARMONY,
        duration_s=32.0,
        style=STYLES_BY_NAME["pop"],
        rng=np.random.default_rng(seed),
    )


def select_channel(arrangement: Arrangement, channel: int) -> Array:
    """Rows of the note array of one channel."""
    rows: Array = arrangement.note_array[arrangement.note_array[:, 2] == channel]
    return rows


@pytest.mark.slow
def test_notes_depend_on_the_seed_only() -> None:
    first, repeated, other = (
        add_arrangement(FEATURES, seed=seed).arrangement for seed in (1, 1, 2)
    )
    assert first is not None
    assert repeated is not None
    assert other is not None
    np.testing.assert_array_equal(first.note_array, repeated.note_array)
    assert not np.array_equal(first.note_array, other.note_array)


@pytest.mark.slow
def test_bass_and_drums_play_on_every_visual_peak() -> None:
    arrangement = add_arrangement(FEATURES, seed=5).arrangement
    assert arrangement is not None
    for channel in (BASS_CHANNEL, DRUM_CHANNEL):
        assert np.isin(PEAKS_S, select_channel(arrangement, channel)[:, 0]).all()


def test_higher_energy_gives_louder_chords_and_more_notes_between_peaks() -> None:
    n_more_notes = 0
    for seed in range(8):
        low, high = (compose_over_one_chord(seed, energy=energy) for energy in (0.15, 0.95))
        n_low, n_high = (
            int((~np.isin(arrangement.note_array[:, 0], PEAKS_S)).sum())
            for arrangement in (low, high)
        )
        assert n_high >= n_low
        n_more_notes += n_high > n_low
        low_velocity, high_velocity = (
            select_channel(arrangement, PAD_CHANNEL)[:, 4].mean() for arrangement in (low, high)
        )
        assert high_velocity > low_velocity + 20
    assert n_more_notes >= 6


def test_melody_over_one_chord_has_the_form_aaba() -> None:
    phrase_s = MOTIF_SUBDIVISIONS * 0.25
    n_contrasting = 0
    for seed in range(12):
        lead = select_channel(compose_over_one_chord(seed), LEAD_CHANNEL)
        phrases = [
            {
                (round(row[0] - k * phrase_s, 6), row[3])
                for row in lead
                if row[0] // phrase_s == k
            }
            for k in range(4)
        ]
        assert phrases[0] == phrases[1] == phrases[3]
        n_contrasting += bool(phrases[0]) and phrases[2] != phrases[0]
    assert n_contrasting > 3


def test_arrangement_of_one_hour_is_sorted_and_has_bass_on_every_peak() -> None:
    peaks_s = np.sort(np.random.default_rng(0).uniform(0, 3600, 4000))
    arrangement = add_arrangement(
        make_features(3600.0, peaks_s, genre="pop"), seed=0
    ).arrangement
    assert arrangement is not None
    assert (np.diff(arrangement.note_array[:, 0]) >= 0).all()
    assert np.isin(peaks_s, select_channel(arrangement, BASS_CHANNEL)[:, 0]).all()
