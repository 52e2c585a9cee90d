"""Transcription of synthesized music with known notes."""

import mir_eval
import numpy as np
import pytest

from loris_cli.array_types import Array, Samples
from loris_cli.audio import transcription
from loris_cli.audio.transcription import (
    FRAME_S,
    VALID_FRAMES,
    compute_posteriorgrams,
    create_notes,
    transcribe_notes,
)
from loris_cli.composition.arrangement import Arrangement
from loris_cli.composition.mix import MixSettings
from loris_cli.composition.synthesis import synthesize_blocks
from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.errors import WeightsError


def synthesize_piano(notes: Array, duration_s: float) -> Samples:
    arrangement = Arrangement(
        note_array=np.insert(notes, 2, 2.0, axis=1), channel_programs={2: 0}
    )
    blocks = synthesize_blocks(arrangement, MixSettings(), duration_s=duration_s, n_channels=1)
    audio: Samples = np.concatenate(list(blocks), axis=1)[0]
    return audio


def compute_f_measure(notes: Array, found: Array, tolerance_s: float = 0.05) -> float:
    """F-measure of onsets and pitches."""
    intervals = [np.column_stack([n[:, 0], n[:, :2].sum(axis=1)]) for n in (notes, found)]
    hz = [440 * 2 ** ((n[:, 2] - 69) / 12) for n in (notes, found)]
    _, _, f_measure, _ = mir_eval.transcription.precision_recall_f1_overlap(
        intervals[0], hz[0], intervals[1], hz[1], onset_tolerance=tolerance_s, offset_ratio=None
    )
    return float(f_measure)


def make_melody(n_notes: int, spacing_s: float) -> Array:
    """Piano melody of one note at a time."""
    pitches = 60 + np.array([0, 4, 7, 12, 11, 7, 5, 2, 9, 3])[np.arange(n_notes) % 10]
    onsets_s = 0.3 + spacing_s * np.arange(n_notes)
    columns = [onsets_s, np.full(n_notes, 0.9 * spacing_s), pitches, np.full(n_notes, 90.0)]
    return np.column_stack(columns).astype(np.float64)


@pytest.mark.slow
def test_slow_piano_melody_is_transcribed() -> None:
    """Measured: 0.96, one wrong note; 0.03 s is less than three frames."""
    notes = make_melody(12, 0.5)
    found = transcribe_notes(synthesize_piano(notes, 7.0))
    assert compute_f_measure(notes, found) >= 0.95
    assert compute_f_measure(notes, found, 0.03) >= 0.9


@pytest.mark.slow
def test_piano_chords_are_transcribed() -> None:
    melody = make_melody(10, 0.8)
    chords = [melody + np.array([0, 0, interval, 0]) for interval in (0, 4, 7)]
    notes = np.concatenate(chords)
    found = transcribe_notes(synthesize_piano(notes, 9.0))
    assert compute_f_measure(notes, found) >= 0.8


@pytest.mark.slow
def test_times_do_not_drift_in_later_windows() -> None:
    """The same melody later in the recording has the same onsets."""
    notes = make_melody(4, 0.5)
    audio = synthesize_piano(notes, 3.0)
    delay_s = 5.345
    late = np.concatenate([np.zeros(round(delay_s * SAMPLE_RATE_HZ), np.float32), audio])
    first, second = transcribe_notes(audio), transcribe_notes(late)
    np.testing.assert_array_equal(second[:, 2], first[:, 2])
    np.testing.assert_allclose(second[:, 0] - delay_s, first[:, 0], atol=1.5 * FRAME_S)


@pytest.mark.parametrize("n_samples", [1, 300, 44_100])
def test_silence_has_no_notes(n_samples: int) -> None:
    assert transcribe_notes(np.zeros(n_samples, np.float32)).shape == (0, 4)


def test_posteriorgrams_have_a_frame_every_256_samples() -> None:
    n_samples = 256 * (VALID_FRAMES + 3) + 1
    onsets, notes = compute_posteriorgrams(np.zeros(n_samples, np.float32))
    assert onsets.shape == notes.shape == (VALID_FRAMES + 4, 88)


def test_empty_audio_has_no_notes() -> None:
    assert transcribe_notes(np.zeros(0, np.float32)).shape == (0, 4)


def make_posteriorgrams(n_frames: int = 100) -> tuple[Array, Array]:
    return np.zeros((n_frames, 88)), np.zeros((n_frames, 88))


def create(onsets: Array, notes: Array) -> Array:
    return create_notes(onsets.astype(np.float32), notes.astype(np.float32))


def test_note_lasts_from_onset_to_the_end_of_its_likelihood() -> None:
    onsets, notes = make_posteriorgrams()
    onsets[20, 39], notes[20:60, 39] = 0.9, 0.5
    notes[35:40, 39] = 0.28  # shorter than the tolerance
    (note,) = create(onsets, notes)
    np.testing.assert_allclose(note[:2], [20 * FRAME_S, 40 * FRAME_S])
    assert note[2] == 60
    assert note[3] == round(127 * (35 * 0.5 + 5 * 0.28) / 40)


def test_repeated_onsets_divide_a_note() -> None:
    onsets, notes = make_posteriorgrams()
    onsets[[20, 50], 39], notes[20:80, 39] = 0.9, 0.5
    found = create(onsets, notes)
    np.testing.assert_allclose(found[:, 0], np.array([20, 50]) * FRAME_S)
    np.testing.assert_allclose(found[:, 1], np.array([30, 30]) * FRAME_S)


def test_likelihood_without_an_onset_becomes_a_note() -> None:
    onsets, notes = make_posteriorgrams()
    ramp = np.linspace(0.31, 0.6, 20)
    notes[30:70, 10] = np.concatenate([ramp, ramp[::-1]])
    (note,) = create(onsets, notes)
    np.testing.assert_allclose(note[:3], [30 * FRAME_S, 40 * FRAME_S, 31])


def test_short_notes_and_leakage_are_removed() -> None:
    onsets, notes = make_posteriorgrams()
    onsets[20, 39], notes[20:60, 39] = 0.9, 0.8
    notes[20:60, 40] = 0.4  # leakage into the next semitone
    notes[5:14, 70] = 0.9  # too short
    (note,) = create(onsets, notes)
    assert note[2] == 60


def test_damaged_network_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    name, _ = transcription.NETWORK_FILE
    monkeypatch.setattr(transcription, "NETWORK_FILE", (name, "0" * 64))
    transcription._load_network.cache_clear()
    with pytest.raises(WeightsError) as raised:
        transcribe_notes(np.zeros(1000, np.float32))
    assert raised.value.hint
