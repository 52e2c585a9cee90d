"""Spectra as log-magnitudes and phase differences, and their inversion."""

import numpy as np
import pytest
import torch
from builders import make_decaying_notes

from loris_cli.array_types import Array, Float32Array
from loris_cli.audio.mel import FINE_MEL_CONFIG, HOP_LENGTH, iterate_spectra
from loris_cli.audio.phase_differences import compute_phase_differences
from loris_cli.audio.spectrum_frames import (
    CHANNELS_PER_BIN,
    MAGNITUDE_OFFSET,
    compute_bin_weights,
    compute_log_magnitude,
    invert_spectrum_frames,
    split_spectrum_frames,
)
from loris_cli.config import SAMPLE_RATE_HZ

N_FFT = FINE_MEL_CONFIG.n_fft


def test_frames_are_those_of_the_stft() -> None:
    samples = make_decaying_notes(2.0).astype(np.float32)
    spectrum = torch.stft(
        torch.from_numpy(samples),
        N_FFT,
        HOP_LENGTH,
        window=torch.hann_window(N_FFT),
        pad_mode="constant",
        return_complex=True,
    )
    expected = (spectrum.abs() + MAGNITUDE_OFFSET).log().numpy()
    np.testing.assert_allclose(compute_log_magnitude(samples, N_FFT), expected, atol=2e-3)


def make_frames(samples: Array) -> Float32Array:
    """Return the spectrum frames of samples, ``(5 * bins, frames)``."""
    spectra = np.concatenate([*iterate_spectra(samples.astype(np.float32), N_FFT)]).T.copy()
    differences = compute_phase_differences(
        torch.from_numpy(spectra.real), torch.from_numpy(spectra.imag)
    )
    magnitude = compute_log_magnitude(samples.astype(np.float32), N_FFT)
    return np.concatenate([magnitude, *(part.numpy() for part in differences)])


def test_inverted_frames_have_the_same_magnitudes() -> None:
    frames = make_frames(make_decaying_notes(2.0))
    inverted = invert_spectrum_frames(frames)
    assert inverted.shape == ((frames.shape[1] - 1) * HOP_LENGTH,)
    found = np.exp(compute_log_magnitude(inverted, N_FFT))
    expected = np.exp(frames[: N_FFT // 2 + 1])
    assert np.linalg.norm(found - expected) / np.linalg.norm(expected) < 0.02


def test_frames_are_split_into_magnitudes_and_differences() -> None:
    frames = torch.arange(10.0)[:, None].expand(10, 3)
    magnitude, differences = split_spectrum_frames(frames)
    assert magnitude[:, 0].tolist() == [0, 1]
    assert [part[:, 0].tolist() for part in differences] == [[2, 3], [4, 5], [6, 7], [8, 9]]


@pytest.mark.parametrize("n_frames", [5, 8])
def test_silence_is_inverted_to_silence(n_frames: int) -> None:
    frames = np.zeros((CHANNELS_PER_BIN * (N_FFT // 2 + 1), n_frames), dtype=np.float32)
    frames[: N_FFT // 2 + 1] = np.log(MAGNITUDE_OFFSET)
    inverted = invert_spectrum_frames(frames)
    assert len(inverted) == (n_frames - 1) * HOP_LENGTH
    assert np.abs(inverted).max(initial=0.0) < 1e-6


def test_inversion_is_deterministic() -> None:
    frames = make_frames(make_decaying_notes(1.0))
    assert invert_spectrum_frames(frames).tobytes() == invert_spectrum_frames(frames).tobytes()


def test_bin_weights_follow_the_mel_axis() -> None:
    weights = compute_bin_weights(FINE_MEL_CONFIG)
    assert weights.shape == (N_FFT // 2 + 1, 1)
    assert float(weights.mean()) == pytest.approx(1.0)
    low_hz, high_hz = (round(f * N_FFT / SAMPLE_RATE_HZ) for f in (500, 8000))
    # Slaney's mels are linear below 1 kHz; 15 mels per kHz; at 8 kHz 1.8.
    assert float(weights[low_hz] / weights[high_hz]) == pytest.approx(15 / 1.82, rel=0.1)
