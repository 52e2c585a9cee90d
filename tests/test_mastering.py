"""Mastering of training music."""

from dataclasses import replace

import numpy as np
import pytest

from loris_cli.array_types import Samples
from loris_cli.composition.mastering import (
    EQUALIZER_HZ,
    MasteringSettings,
    draw_mastering,
    master,
)

RATE_HZ = 22_050


def make_tone(frequency_hz: float, amplitude: float = 0.3, duration_s: float = 1.0) -> Samples:
    """Return a sine."""
    time_s = np.arange(round(duration_s * RATE_HZ)) / RATE_HZ
    return (amplitude * np.sin(2 * np.pi * frequency_hz * time_s)).astype(np.float32)


def measure_level_db(samples: Samples) -> float:
    """Return the level of the middle half."""
    quarter = len(samples) // 4
    return float(10 * np.log10(np.square(samples[quarter:-quarter]).mean()))


def test_default_settings_change_nothing() -> None:
    tone = make_tone(440.0)
    np.testing.assert_array_equal(master(tone, MasteringSettings(), rate_hz=RATE_HZ), tone)


@pytest.mark.parametrize("band", [2, 3, 4, 5])
def test_equalizer_has_the_gain_of_its_bands(band: int) -> None:
    gains_db = np.array([0.0, 3.0, -6.0, 4.0, -2.0, 5.0, -8.0])
    tone = make_tone(EQUALIZER_HZ[band])
    out = master(tone, MasteringSettings(equalizer_db=gains_db), rate_hz=RATE_HZ)
    gain_db = measure_level_db(out) - measure_level_db(tone)
    assert gain_db == pytest.approx(gains_db[band], abs=1.0)


def test_equalizer_does_not_delay() -> None:
    click = np.zeros(RATE_HZ, dtype=np.float32)
    click[5000] = 1.0
    gains_db = np.full(len(EQUALIZER_HZ), 3.0)
    gains_db[0] = -3.0
    out = master(click, MasteringSettings(equalizer_db=gains_db), rate_hz=RATE_HZ)
    assert int(np.abs(out).argmax()) == 5000


def test_compressor_reduces_the_distance_of_levels_by_its_ratio() -> None:
    loud, quiet = make_tone(500.0, 0.5), make_tone(500.0, 0.05)
    settings = MasteringSettings(threshold_db=-40.0, ratio=4.0)
    out = master(np.concatenate([loud, quiet]), settings, rate_hz=RATE_HZ)
    before = measure_level_db(loud) - measure_level_db(quiet)
    after = measure_level_db(out[: len(loud)]) - measure_level_db(out[len(loud) :])
    assert after == pytest.approx(before / 4, abs=0.3)


def test_compressor_leaves_levels_below_the_threshold() -> None:
    tone = make_tone(500.0)
    settings = MasteringSettings(threshold_db=20.0, ratio=4.0)
    np.testing.assert_allclose(master(tone, settings, rate_hz=RATE_HZ), tone, atol=1e-6)


def test_compressor_acts_after_its_attack_and_ends_with_its_release() -> None:
    quiet, loud = make_tone(500.0, 0.05), make_tone(500.0, 0.5)
    settings = MasteringSettings(threshold_db=-10.0, ratio=4.0, attack_s=0.05, release_s=0.1)
    samples = np.concatenate([quiet, loud, quiet])
    out = master(samples, settings, rate_hz=RATE_HZ)
    start, end = len(quiet), 2 * len(quiet)

    def measure_gain(first_s: float, last_s: float, origin: int) -> float:
        window = slice(origin + round(first_s * RATE_HZ), origin + round(last_s * RATE_HZ))
        return float(np.abs(out[window]).sum() / np.abs(samples[window]).sum())

    assert measure_gain(0.0, 0.01, start) > 1.5 * measure_gain(0.3, 0.5, start)
    assert measure_gain(0.0, 0.02, end) < 0.7 * measure_gain(0.6, 0.8, end)


def test_saturation_keeps_the_peak_and_adds_odd_harmonics() -> None:
    tone = make_tone(500.0)
    out = master(tone, MasteringSettings(drive=1.5), rate_hz=RATE_HZ)
    assert np.abs(out).max() == pytest.approx(np.abs(tone).max(), rel=1e-3)
    spectrum = np.abs(np.fft.rfft(out * np.hanning(len(out))))
    assert spectrum[1500] > 0.02 * spectrum[500]
    assert spectrum[1000] < 1e-3 * spectrum[500]


def test_silence_remains_silence() -> None:
    settings = replace(draw_mastering(5), ratio=3.0, drive=1.0)
    assert not master(np.zeros(1000, dtype=np.float32), settings, rate_hz=RATE_HZ).any()


def test_seed_determines_the_settings_and_most_differ() -> None:
    drawn = [draw_mastering(seed) for seed in range(40)]
    np.testing.assert_array_equal(draw_mastering(3).equalizer_db, drawn[3].equalizer_db)
    mastered = [settings for settings in drawn if settings.ratio > 1]
    assert 24 <= len(mastered) < 40
    assert len({settings.ratio for settings in mastered}) == len(mastered)
