"""Music metrics on audio with known values."""

import numpy as np
import pytest
from music_metrics import chroma_distance, loudness_motion_correlation, tempo_stability

from loris_cli.array_types import Samples
from loris_cli.audio.beat_tracking import track_beats
from loris_cli.errors import InputError
from loris_cli.evaluation.metrics.music import AudioTexture, measure_texture
from loris_cli.evaluation.metrics.sync import beat_f_measure

pytestmark = pytest.mark.numpy1

RATE = 22_050
TIMES_S = np.arange(8 * RATE) / RATE
NO_TIMES_S = np.empty(0)
C_MAJOR_HZ, F_SHARP_MAJOR_HZ = (261.6, 329.6, 392.0), (370.0, 466.2, 554.4)


def make_chord(*frequencies_hz: float, level_std: float = 0.0) -> Samples:
    """Sum of sines of 8 s whose levels vary independently."""
    rng = np.random.default_rng(0)
    total = np.zeros(len(TIMES_S))
    for frequency_hz in frequencies_hz:
        levels = 1 + level_std * rng.normal(size=65)
        level = np.interp(TIMES_S, np.linspace(0, 8, 65), levels.clip(0))
        total += level * np.sin(2 * np.pi * frequency_hz * TIMES_S)
    samples: Samples = (0.1 * total).astype(np.float32)
    return samples


def make_melody(semitones: np.ndarray) -> Samples:
    """Notes of 0.5 s, given in semitones above 220 Hz."""
    notes = [
        np.sin(2 * np.pi * 220 * 2 ** (semitone / 12) * TIMES_S[: RATE // 2])
        for semitone in semitones
    ]
    samples: Samples = (0.2 * np.concatenate(notes)).astype(np.float32)
    return samples


def make_noise() -> Samples:
    return (0.1 * np.random.default_rng(1).normal(size=len(TIMES_S))).astype(np.float32)


def test_pitch_stability_is_high_for_constant_and_low_for_varying_levels() -> None:
    constant, varying = (
        measure_texture(make_chord(*C_MAJOR_HZ, level_std=level_std), NO_TIMES_S)
        for level_std in (0.0, 0.8)
    )
    assert constant.pitch_stability > 0.99
    assert varying.pitch_stability < 0.95


def test_pitch_stability_is_zero_if_onsets_are_everywhere() -> None:
    texture = measure_texture(make_chord(*C_MAJOR_HZ), np.arange(0, 8, 0.1))
    assert texture.pitch_stability == 0


def test_chord_has_a_clear_key_and_low_entropy_and_noise_has_not() -> None:
    tonal, noisy = (
        measure_texture(samples, NO_TIMES_S)
        for samples in (make_chord(*C_MAJOR_HZ), make_noise())
    )
    assert tonal.key_clarity > 0.6
    assert tonal.key_clarity > noisy.key_clarity + 0.2
    assert tonal.pitch_class_entropy < 3.0 < noisy.pitch_class_entropy < np.log2(12) + 0.01
    assert tonal.spectral_flatness < 0.01 < 0.3 < noisy.spectral_flatness


def test_repetition_is_high_for_a_repeated_figure() -> None:
    figure = np.array([0, 7, 4, 9])
    repeated = measure_texture(make_melody(np.tile(figure, 6)), NO_TIMES_S)
    unrepeated = measure_texture(
        make_melody(np.random.default_rng(2).permutation(24)), NO_TIMES_S
    )
    assert repeated.repetition > unrepeated.repetition + 0.3


def measure_with_quiet_half(gain: float) -> AudioTexture:
    """AudioTexture of a tone whose first half has this gain."""
    samples = make_chord(440.0) * np.where(TIMES_S < 4, gain, 1.0)
    return measure_texture(samples.astype(np.float32), NO_TIMES_S)


def test_dynamic_range_is_the_level_difference_of_the_halves() -> None:
    texture = measure_with_quiet_half(0.01)
    assert texture.dynamic_range_db == pytest.approx(40, abs=1)
    assert texture.silent_fraction == 0


def test_silent_fraction_is_one_half_if_one_half_is_silent() -> None:
    assert measure_with_quiet_half(1e-4).silent_fraction == pytest.approx(0.5, abs=0.05)


def test_loudness_motion_correlation_has_the_sign_of_the_relation() -> None:
    energy = np.linspace(0.1, 1, 128)
    gain = np.interp(TIMES_S, np.arange(128) / 16, energy)
    rising = (make_noise() * gain).astype(np.float32)
    assert loudness_motion_correlation(rising, energy) > 0.9
    assert loudness_motion_correlation(rising, energy[::-1]) < -0.9
    assert loudness_motion_correlation(rising, np.full(128, 0.5)) == 0


def test_tracked_beats_of_a_metronome_match_its_times() -> None:
    samples = np.zeros(16 * RATE, dtype=np.float32)
    reference_s = np.arange(0.5, 15.9, 0.5)
    rng = np.random.default_rng(0)
    for beat_s in reference_s:
        start = round(beat_s * RATE)
        samples[start : start + 600] += np.linspace(1, 0, 600) * rng.normal(size=600)
    beats_s = track_beats(samples)
    assert beat_f_measure(reference_s, beats_s) > 0.9
    assert beat_f_measure(reference_s, beats_s + 0.25) < 0.1
    assert tempo_stability(beats_s) > 0.95


def test_beat_f_measure_without_beats_is_zero() -> None:
    assert beat_f_measure(np.arange(0.5, 15.9, 0.5), NO_TIMES_S) == 0


def test_tempo_stability_is_low_for_irregular_beats_and_zero_for_two() -> None:
    assert tempo_stability(np.cumsum(np.random.default_rng(0).uniform(0.3, 0.9, 40))) < 0.85
    assert tempo_stability(np.array([1.0, 2.0])) == 0


def test_chroma_distance_is_zero_for_equal_and_large_for_distant_chords() -> None:
    c_major, f_sharp_major = make_chord(*C_MAJOR_HZ), make_chord(*F_SHARP_MAJOR_HZ)
    assert chroma_distance(c_major, c_major) < 1e-6
    assert chroma_distance(c_major, f_sharp_major) > 0.5


@pytest.mark.parametrize(
    "samples",
    [
        pytest.param(np.zeros(8 * RATE), id="silent"),
        pytest.param(np.ones(3 * RATE), id="too short"),
    ],
)
def test_silent_or_short_audio_is_rejected(samples: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"\b4 s\b"):
        measure_texture(samples.astype(np.float32), NO_TIMES_S)
