"""Log-magnitude spectrograms and their inversion."""

import numpy as np
import pytest
import torch

from loris_cli.array_types import Array, Float32Array, Samples
from loris_cli.audio.magnitudes import (
    MAGNITUDE_OFFSET,
    compute_bin_weights,
    compute_log_magnitude,
    invert_log_magnitude,
)
from loris_cli.audio.mel import FINE_MEL_CONFIG, HOP_LENGTH
from loris_cli.config import SAMPLE_RATE_HZ

N_FFT = FINE_MEL_CONFIG.n_fft


def make_notes() -> Array:
    """Return two seconds of decaying notes."""
    time_s = np.arange(2 * SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    samples = np.zeros(len(time_s))
    for k, frequency_hz in enumerate((196.0, 247.0, 294.0, 392.0, 494.0)):
        age_s = time_s - 0.35 * k
        envelope = np.where(age_s >= 0, np.exp(-4 * age_s.clip(0)), 0)
        for harmonic in range(1, 6):
            phase = 2 * np.pi * frequency_hz * harmonic * age_s
            samples += 0.2 / harmonic * envelope * np.sin(phase)
    return samples


def invert_frames(frames: Float32Array) -> Samples:
    """Return the audio of ``(bins, frames)``."""
    samples: Samples = invert_log_magnitude(torch.from_numpy(frames)[None])[0].numpy()
    return samples


def test_frames_are_those_of_the_stft() -> None:
    samples = make_notes().astype(np.float32)
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


def test_inverted_frames_have_the_same_magnitudes() -> None:
    samples = make_notes().astype(np.float32)
    frames = compute_log_magnitude(samples, N_FFT)
    inverted = invert_frames(frames)
    assert inverted.shape == ((frames.shape[1] - 1) * HOP_LENGTH,)
    found = np.exp(compute_log_magnitude(inverted, N_FFT))
    error = np.linalg.norm(found - np.exp(frames)) / np.linalg.norm(np.exp(frames))
    assert error < 0.06


@pytest.mark.parametrize("n_frames", [5, 8])
def test_silence_is_inverted_to_silence(n_frames: int) -> None:
    frames = np.full((N_FFT // 2 + 1, n_frames), np.log(MAGNITUDE_OFFSET), dtype=np.float32)
    inverted = invert_frames(frames)
    assert len(inverted) == (n_frames - 1) * HOP_LENGTH
    assert np.abs(inverted).max(initial=0.0) < 1e-6


def test_inversion_is_deterministic() -> None:
    frames = compute_log_magnitude(make_notes().astype(np.float32), N_FFT)
    assert invert_frames(frames).tobytes() == invert_frames(frames).tobytes()


def test_rows_of_a_batch_are_inverted_independently() -> None:
    frames = torch.from_numpy(compute_log_magnitude(make_notes().astype(np.float32), N_FFT))
    batch = invert_log_magnitude(torch.stack([frames, frames.flip(1)]))
    for row, expected in zip(batch, (frames, frames.flip(1)), strict=True):
        assert torch.equal(row, invert_log_magnitude(expected[None])[0])


def test_gradient_descent_on_magnitudes_reduces_the_error_of_the_audio() -> None:
    samples = torch.from_numpy(make_notes()[:12_000].astype(np.float32))
    frames = torch.from_numpy(compute_log_magnitude(samples.numpy(), N_FFT))[None]
    rng = torch.Generator().manual_seed(0)
    blurred = (frames + 0.3 * torch.randn(frames.shape, generator=rng)).requires_grad_()
    optimizer = torch.optim.Adam([blurred], 0.02)
    errors = []
    for _ in range(10):
        found = invert_log_magnitude(blurred)[0]
        spectra = [
            torch.stft(x, 512, window=torch.hann_window(512), return_complex=True).abs()
            for x in (found, samples[: len(found)])
        ]
        error = (spectra[0] - spectra[1]).square().mean()
        optimizer.zero_grad()
        error.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        errors.append(error.item())
    assert blurred.isfinite().all()
    assert errors[-1] < 0.8 * errors[0]


def test_gradient_is_finite_in_silence() -> None:
    frames = torch.full((1, N_FFT // 2 + 1, 8), float(np.log(MAGNITUDE_OFFSET)))
    invert_log_magnitude(frames.requires_grad_()).square().sum().backward()  # type: ignore[no-untyped-call]
    assert frames.grad is not None
    assert frames.grad.isfinite().all()


def test_bin_weights_follow_the_mel_axis() -> None:
    weights = compute_bin_weights(FINE_MEL_CONFIG)
    assert weights.shape == (N_FFT // 2 + 1, 1)
    assert float(weights.mean()) == pytest.approx(1.0)
    low_hz, high_hz = (round(f * N_FFT / SAMPLE_RATE_HZ) for f in (500, 8000))
    # Slaney's mels are linear below 1 kHz; 15 mels per kHz; at 8 kHz 1.8.
    assert float(weights[low_hz] / weights[high_hz]) == pytest.approx(15 / 1.82, rel=0.1)
