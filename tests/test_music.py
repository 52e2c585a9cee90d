"""Figures of music, on sounds whose figures are known."""

import numpy as np
import pytest
from music_metrics import chroma_distance, loudness_motion_correlation, tempo_stability

from loris_cli.array_types import Samples
from loris_cli.audio.beat_tracking import track_beats
from loris_cli.errors import InputError
from loris_cli.evaluation.metrics.music import measure_texture
from loris_cli.evaluation.metrics.sync import beat_f_measure

RATE = 22_050
SECONDS = np.arange(8 * RATE) / RATE
NONE = np.empty(0)


def chord(*hz: float, waver: float = 0.0) -> Samples:
    """Tones held for eight seconds, their levels wavering apart from each other."""
    rng = np.random.default_rng(0)
    total = np.zeros(len(SECONDS))
    for f in hz:
        knots = 1 + waver * rng.normal(size=65)
        level = np.interp(SECONDS, np.linspace(0, 8, 65), knots.clip(0))
        total += level * np.sin(2 * np.pi * f * SECONDS)
    sound: Samples = (0.1 * total).astype(np.float32)
    return sound


C_MAJOR, F_SHARP = (261.6, 329.6, 392.0), (370.0, 466.2, 554.4)


def noise() -> Samples:
    return (0.1 * np.random.default_rng(1).normal(size=len(SECONDS))).astype(np.float32)


def test_a_held_chord_is_steady_and_a_wavering_one_is_not() -> None:
    held, wavers = (
        measure_texture(chord(*C_MAJOR), NONE),
        measure_texture(chord(*C_MAJOR, waver=0.8), NONE),
    )
    assert held.pitch_stability > 0.99
    assert wavers.pitch_stability < 0.95


def test_where_notes_begin_nothing_is_held() -> None:
    assert measure_texture(chord(*C_MAJOR), np.arange(0, 8, 0.1)).pitch_stability == 0


def test_a_chord_has_a_key_and_noise_has_none() -> None:
    tonal, noisy = measure_texture(chord(*C_MAJOR), NONE), measure_texture(noise(), NONE)
    assert tonal.key_clarity > 0.6
    assert tonal.key_clarity > noisy.key_clarity + 0.2
    assert tonal.pitch_class_entropy < 3.0 < noisy.pitch_class_entropy < np.log2(12) + 0.01
    assert tonal.spectral_flatness < 0.01 < 0.3 < noisy.spectral_flatness


def test_what_comes_again_is_found_and_what_does_not_is_not() -> None:
    rng = np.random.default_rng(2)

    def melody(pitches: np.ndarray) -> Samples:
        parts = [
            np.sin(2 * np.pi * 220 * 2 ** (p / 12) * SECONDS[: RATE // 2]) for p in pitches
        ]
        sound: Samples = (0.2 * np.concatenate(parts)).astype(np.float32)
        return sound

    figure = np.array([0, 7, 4, 9])
    again = measure_texture(melody(np.tile(figure, 6)), NONE)
    never = measure_texture(melody(rng.permutation(24)), NONE)
    assert again.repetition > never.repetition + 0.3


def test_dynamics_are_those_of_the_sound() -> None:
    envelope = np.where(SECONDS < 4, 0.01, 1.0)
    sound = (chord(440.0) * envelope).astype(np.float32)
    texture = measure_texture(sound, NONE)
    assert texture.dynamic_range_db == pytest.approx(40, abs=1)
    assert texture.silent_fraction == 0
    quiet = measure_texture(
        (chord(440.0) * np.where(SECONDS < 4, 1e-4, 1.0)).astype(np.float32), NONE
    )
    assert quiet.silent_fraction == pytest.approx(0.5, abs=0.05)


def test_loudness_that_follows_the_motion_is_told_from_loudness_that_does_not() -> None:
    energy = np.linspace(0.1, 1, 128)
    rising = (noise() * np.interp(SECONDS, np.arange(128) / 16, energy)).astype(np.float32)
    assert loudness_motion_correlation(rising, energy) > 0.9
    assert loudness_motion_correlation(rising, energy[::-1]) < -0.9
    assert loudness_motion_correlation(rising, np.full(128, 0.5)) == 0


def test_beats_of_a_metronome_are_met() -> None:
    sound = np.zeros(16 * RATE, dtype=np.float32)
    true_s = np.arange(0.5, 15.9, 0.5)
    rng = np.random.default_rng(0)
    for beat_s in true_s:
        at = round(beat_s * RATE)
        sound[at : at + 600] += np.linspace(1, 0, 600) * rng.normal(size=600)
    found = track_beats(sound)
    assert beat_f_measure(true_s, found) > 0.9
    assert beat_f_measure(true_s, found + 0.25) < 0.1
    assert tempo_stability(found) > 0.95
    assert beat_f_measure(true_s, NONE) == 0


def test_tempo_that_wanders_is_not_steady() -> None:
    assert tempo_stability(np.cumsum(np.random.default_rng(0).uniform(0.3, 0.9, 40))) < 0.85
    assert tempo_stability(np.array([1.0, 2.0])) == 0


def test_harmonies_are_near_themselves_and_far_from_others() -> None:
    assert chroma_distance(chord(*C_MAJOR), chord(*C_MAJOR)) < 1e-6
    assert chroma_distance(chord(*C_MAJOR), chord(*F_SHARP)) > 0.5


@pytest.mark.parametrize("samples", [np.zeros(8 * RATE), np.ones(100)])
def test_silence_and_scraps_are_refused(samples: np.ndarray) -> None:
    with pytest.raises(InputError):
        measure_texture(samples.astype(np.float32), NONE)
