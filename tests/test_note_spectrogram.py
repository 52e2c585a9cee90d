"""Note spectrograms: each note from the timbre table, powers summed, in tune."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loris_cli.audio import mel
from loris_cli.composition.arrangement import (
    BASS_CHANNEL,
    DRUM_CHANNEL,
    KICK,
    LEAD_CHANNEL,
    TIMBRE_NOTES,
    Arrangement,
)
from loris_cli.composition.mix import MixSettings
from loris_cli.composition.note_spectrogram import (
    NOTE_MEL_CONFIG,
    ONSET_FRAME_OFFSETS,
    REFERENCE_VELOCITY,
    RELEASE_FRAME_OFFSETS,
    TIMBRE_ROW_BY_NOTE,
    load_timbre_table,
    render_note_spectrogram,
)
from loris_cli.composition.styles import STYLES_BY_NAME
from loris_cli.composition.synthesis import synthesize_blocks
from loris_cli.config import GENRES, SAMPLE_RATE_HZ
from loris_cli.synthetic.composer import compose_score

pytestmark = pytest.mark.numpy1

FLUTE = 73
ONSET_FRAME = 100


def make_arrangement(*rows: tuple[float, float, int, int, int]) -> Arrangement:
    """Arrangement of notes given as (first frame, frames, channel, pitch, velocity)."""
    table = np.array(rows, dtype=np.float64)
    table[:, :2] /= mel.MEL_FPS
    return Arrangement(
        note_array=table,
        channel_programs={BASS_CHANNEL: 33, LEAD_CHANNEL: FLUTE, DRUM_CHANNEL: 8},
    )


def render_magnitudes(arrangement: Arrangement, n_frames: int = 1000) -> np.ndarray:
    """Mel magnitudes of the note spectrogram, ``(bands, frames)``."""
    magnitudes: np.ndarray = (
        np.exp(render_note_spectrogram(arrangement, 0, n_frames).astype(np.float64))
        - mel.LOG_OFFSET
    )
    return magnitudes


def test_timbre_table_has_an_audible_row_for_every_note() -> None:
    table = load_timbre_table()
    assert table.log_levels.shape == (
        len(TIMBRE_NOTES),
        len(ONSET_FRAME_OFFSETS),
        NOTE_MEL_CONFIG.n_mels,
    )
    assert table.release_log_gains.shape == (len(TIMBRE_NOTES), len(RELEASE_FRAME_OFFSETS))
    assert (table.release_log_gains <= 0).all()
    # The soundfont lacks notes above the range of the saxophone (65) and the violin (40).
    audible = table.log_levels[:, 3:8].max(axis=(1, 2)) > np.log(mel.LOG_OFFSET)
    assert {TIMBRE_NOTES[row][:2] for row in np.flatnonzero(~audible)} == {
        (LEAD_CHANNEL, 65),
        (LEAD_CHANNEL, 40),
    }
    assert audible.mean() > 0.98


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**31), name=st.sampled_from(GENRES))
def test_every_composed_note_is_in_the_timbre_table(seed: int, name: str) -> None:
    arrangement = compose_score(seed, STYLES_BY_NAME[name], 12.0).arrangement
    for channel, pitch in arrangement.note_array[:, 2:4].astype(int).tolist():
        program = arrangement.channel_programs[channel]
        assert (channel, program, pitch) in TIMBRE_ROW_BY_NOTE


def test_single_note_has_the_levels_of_the_timbre_table() -> None:
    rendered = render_magnitudes(
        make_arrangement((ONSET_FRAME, 500, LEAD_CHANNEL, 72, REFERENCE_VELOCITY))
    )
    expected = np.exp(
        load_timbre_table().log_levels[TIMBRE_ROW_BY_NOTE[LEAD_CHANNEL, FLUTE, 72]]
    )
    np.testing.assert_allclose(
        rendered[:, ONSET_FRAME + np.array(ONSET_FRAME_OFFSETS)].T,
        expected,
        rtol=1e-3,
        atol=1e-6,
    )
    assert np.abs(rendered[:, : ONSET_FRAME - 3]).max() < 1e-8


@pytest.mark.parametrize("pitch", [60, 67, 72, 79, 84, 91])
def test_strongest_band_of_a_note_contains_one_of_its_first_partials(pitch: int) -> None:
    rendered = render_magnitudes(
        make_arrangement((ONSET_FRAME, 200, LEAD_CHANNEL, pitch, REFERENCE_VELOCITY))
    )
    strongest = rendered[:, ONSET_FRAME + 40].argmax()
    partials_hz = 440 * 2 ** ((pitch - 69) / 12) * np.arange(1, 4)
    bins = partials_hz / SAMPLE_RATE_HZ * NOTE_MEL_CONFIG.n_fft
    weights = mel.compute_mel_filterbank(NOTE_MEL_CONFIG)[strongest]
    assert max(np.interp(bins, np.arange(len(weights)), weights)) > weights.max() / 4


def test_magnitude_is_proportional_to_the_square_of_the_velocity() -> None:
    soft, loud = (
        render_magnitudes(make_arrangement((ONSET_FRAME, 300, BASS_CHANNEL, 40, v)))
        for v in (60, 120)
    )
    np.testing.assert_allclose(loud, 4 * soft, rtol=1e-2, atol=1e-5)


def test_powers_of_simultaneous_notes_are_summed() -> None:
    bass = (ONSET_FRAME, 300, BASS_CHANNEL, 40, 80)
    lead = (ONSET_FRAME + 7, 300, LEAD_CHANNEL, 80, 90)
    bass_only, lead_only, both = (
        render_magnitudes(make_arrangement(*notes))
        for notes in ((bass,), (lead,), (bass, lead))
    )
    np.testing.assert_allclose(both**2, bass_only**2 + lead_only**2, rtol=1e-2, atol=1e-8)


def test_pitched_note_decays_after_its_end() -> None:
    short = render_magnitudes(make_arrangement((ONSET_FRAME, 50, LEAD_CHANNEL, 72, 90)))
    long = render_magnitudes(make_arrangement((ONSET_FRAME, 500, LEAD_CHANNEL, 72, 90)))
    end = ONSET_FRAME + 50
    np.testing.assert_allclose(short[:, :end], long[:, :end], rtol=1e-4, atol=1e-8)
    assert short[:, end + 30].max() < long[:, end + 30].max() / 10
    assert np.abs(short[:, end + RELEASE_FRAME_OFFSETS[-1] + 1 :]).max() < 1e-8


def test_drum_hit_is_independent_of_its_duration() -> None:
    short, long = (
        render_magnitudes(make_arrangement((ONSET_FRAME, n, DRUM_CHANNEL, KICK, 90)))
        for n in (2, 200)
    )
    assert short.max() > 0.01
    np.testing.assert_array_equal(short, long)


@pytest.mark.parametrize(
    "arrangement",
    [
        pytest.param(make_arrangement((ONSET_FRAME, 50, 7, 60, 90)), id="unused channel"),
        pytest.param(
            make_arrangement((ONSET_FRAME, 50, BASS_CHANNEL, 100, 90)), id="pitch out of range"
        ),
        pytest.param(
            replace(
                make_arrangement((ONSET_FRAME, 50, BASS_CHANNEL, 40, 90)), channel_programs={}
            ),
            id="channel without program",
        ),
    ],
)
def test_notes_that_are_not_in_the_timbre_table_are_ignored(arrangement: Arrangement) -> None:
    assert np.abs(render_magnitudes(arrangement)).max() < 1e-8


@pytest.mark.parametrize(("start", "frames"), [(0, 200), (137, 400), (900, 300), (5000, 8)])
def test_note_spectrogram_of_a_range_is_a_slice_of_the_full_one(
    start: int, frames: int
) -> None:
    arrangement = compose_score(3, STYLES_BY_NAME["floor"], 12.0).arrangement
    full = render_note_spectrogram(arrangement, 0, 6000)
    np.testing.assert_allclose(
        render_note_spectrogram(arrangement, start, frames),
        full[:, start : start + frames],
        atol=1e-5,
    )


@pytest.mark.parametrize("name", ["pop", "skate", "house"])
def test_note_spectrogram_correlates_with_the_synthesized_score(name: str) -> None:
    score = compose_score(1, STYLES_BY_NAME[name], 16.0)
    blocks = synthesize_blocks(score.arrangement, MixSettings(), duration_s=16.0, n_channels=1)
    samples = np.concatenate([block[0] for block in blocks])
    synthesized = mel.compute_log_mel(samples, NOTE_MEL_CONFIG)
    rendered = render_note_spectrogram(score.arrangement, 0, synthesized.shape[1])
    correlation = np.corrcoef(synthesized.ravel(), rendered.ravel())[0, 1]
    shifted = np.corrcoef(np.roll(synthesized, 43, axis=1).ravel(), rendered.ravel())[0, 1]
    assert correlation > 0.93
    assert correlation > shifted + 0.05
    # The volumes of the mix are below those of the timbre table: -0.28 to -0.41 in 12 pieces.
    assert -0.5 < float((synthesized - rendered).mean()) < 0
