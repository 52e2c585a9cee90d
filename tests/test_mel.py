"""Log-mel spectrograms, and the inversion of log-magnitudes."""

import numpy as np
import pytest
import torch

from loris_cli.array_types import Samples
from loris_cli.audio.magnitudes import (
    MAGNITUDE_OFFSET,
    compute_log_magnitude,
    invert_log_magnitude,
)
from loris_cli.audio.mel import (
    DEFAULT_MEL_CONFIG,
    FINE_MEL_CONFIG,
    HOP_LENGTH,
    LOG_OFFSET,
    MEL_FPS,
    MelConfig,
    compute_log_mel,
    compute_mel_filterbank,
)
from loris_cli.audio.onsets import detect_onsets
from loris_cli.system.librosa_import import librosa

pytestmark = pytest.mark.numpy1

TIMES_S = np.arange(22_050) / 22_050


def make_sines(*frequencies_hz: float) -> Samples:
    """Sum of sines of amplitude 1, of 1 s."""
    sines = [np.sin(2 * np.pi * frequency_hz * TIMES_S) for frequency_hz in frequencies_hz]
    samples: Samples = np.sum(sines, axis=0).astype(np.float32)
    return samples


def make_notes(duration_s: int, *onsets_s: float) -> Samples:
    """Decaying notes over quiet noise."""
    samples = 3e-4 * np.random.default_rng(0).normal(size=22_050 * duration_s)
    note = 0.3 * np.exp(-12 * TIMES_S) * np.sin(2 * np.pi * 440 * TIMES_S)
    for onset_s in onsets_s:
        start = round(onset_s * 22_050)
        samples[start : start + len(note)] += note[: len(samples) - start]
    return samples.astype(np.float32)


def test_tone_is_loudest_in_the_band_of_its_frequency() -> None:
    frames = compute_log_mel(make_sines(1000))

    centres = librosa.mel_frequencies(130, fmin=0, fmax=11_025)[1:-1]
    loudest = centres[frames[:, 40].argmax()]
    assert loudest == pytest.approx(1000, rel=0.04)


def test_log_mel_of_silence_is_the_log_offset() -> None:
    frames = compute_log_mel(np.zeros(4096, dtype=np.float32))

    np.testing.assert_allclose(frames, np.log(LOG_OFFSET), rtol=1e-6)
    assert frames.shape == (len(compute_mel_filterbank()), 4096 // HOP_LENGTH + 1)


def test_inverted_log_magnitudes_have_the_same_length_and_onsets() -> None:
    samples = make_notes(3, 0.6, 1.4, 2.2)

    frames = torch.from_numpy(compute_log_magnitude(samples, 1536))
    inverted = invert_log_magnitude(frames[None])[0].numpy()

    assert len(inverted) == len(samples) // HOP_LENGTH * HOP_LENGTH
    assert len(detect_onsets(samples)) == 3
    np.testing.assert_allclose(detect_onsets(inverted), detect_onsets(samples), atol=0.025)


def test_mel_frame_rate_is_86_13_hz() -> None:
    assert pytest.approx(86.13, abs=0.01) == MEL_FPS


def test_estimated_phases_are_as_consistent_as_those_of_griffin_lim() -> None:
    rng = np.random.default_rng(0)
    samples = make_sines(220, 277, 330) * np.exp(-3 * TIMES_S)
    samples = (0.2 * samples + 0.002 * rng.normal(size=22_050)).astype(np.float32)
    frames = compute_log_magnitude(samples, 1536)
    magnitude = np.exp(frames) - MAGNITUDE_OFFSET

    inverted = invert_log_magnitude(torch.from_numpy(frames)[None])[0].numpy()
    expected = librosa.griffinlim(
        magnitude, n_iter=24, hop_length=HOP_LENGTH, n_fft=1536, random_state=0
    )

    def measure_spectral_error(samples: np.ndarray) -> float:
        error = np.abs(librosa.stft(samples, n_fft=1536, hop_length=HOP_LENGTH)) - magnitude
        return float(np.linalg.norm(error) / np.linalg.norm(magnitude))

    expected_error = measure_spectral_error(expected)
    assert measure_spectral_error(inverted) == pytest.approx(expected_error, rel=0.15)


@pytest.mark.parametrize(
    "mel_config", [DEFAULT_MEL_CONFIG, FINE_MEL_CONFIG], ids=["default", "fine"]
)
def test_level_of_a_tone_is_independent_of_the_fft_size(mel_config: MelConfig) -> None:
    tone = make_sines(1000)
    longer = MelConfig(n_fft=2 * mel_config.n_fft, n_mels=mel_config.n_mels)

    level, expected = (
        compute_log_mel(tone, config)[:, 40].max() for config in (mel_config, longer)
    )

    assert level == pytest.approx(expected, abs=0.4)


def test_fine_bands_separate_low_notes_a_whole_tone_apart() -> None:
    c3_hz, d3_hz = 130.8, 146.8
    low, high = (
        compute_log_mel(make_sines(hz), FINE_MEL_CONFIG)[:20, 40].argmax()
        for hz in (c3_hz, d3_hz)
    )

    assert low < high


@pytest.mark.parametrize(("n_fft", "n_mels"), [(64, 8), (1024, 0), (1024, 400), (10**6, 128)])
def test_invalid_mel_configurations_are_rejected(n_fft: int, n_mels: int) -> None:
    with pytest.raises(ValueError, match=f"{n_mels}.*{n_fft}"):
        MelConfig(n_fft=n_fft, n_mels=n_mels)


@pytest.mark.parametrize("mel_config", [MelConfig(), FINE_MEL_CONFIG, MelConfig(n_mels=40)])
def test_log_mel_equals_that_of_librosa(mel_config: MelConfig) -> None:
    scale = np.float32(MelConfig().n_fft / mel_config.n_fft)
    filters = scale * librosa.filters.mel(
        sr=22_050, n_fft=mel_config.n_fft, n_mels=mel_config.n_mels
    )
    np.testing.assert_allclose(compute_mel_filterbank(mel_config), filters, atol=1e-9)
    for n_samples in (300_000, 256 * 9, 500):
        samples = np.random.default_rng(0).normal(size=n_samples).astype(np.float32)
        padded = np.pad(samples, 4096)
        spectrum = librosa.stft(padded, n_fft=mel_config.n_fft, hop_length=HOP_LENGTH)
        expected = np.log(filters @ np.abs(spectrum) + LOG_OFFSET)[:, 16:-16]
        log_mel = compute_log_mel(samples, mel_config)
        np.testing.assert_allclose(log_mel, expected, atol=2e-5)
