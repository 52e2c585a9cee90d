"""Phases estimated from STFT magnitudes."""

import numpy as np
import pytest
import torch

from loris_cli.array_types import Array, Samples
from loris_cli.audio.mel import HOP_LENGTH
from loris_cli.audio.phase import estimate_phases
from loris_cli.config import SAMPLE_RATE_HZ

N_FFT = 1536


def compute_spectrum(samples: Array | Samples) -> torch.Tensor:
    """Return the STFT of samples, ``(bins, frames)``."""
    window = torch.hann_window(N_FFT)
    tensor = torch.from_numpy(samples.astype(np.float32))
    return torch.stft(tensor, N_FFT, HOP_LENGTH, window=window, return_complex=True)


def synthesize_chord(duration_s: float = 2.0) -> Array:
    """Return decaying notes that begin one after the other."""
    time_s = np.arange(round(duration_s * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    samples = np.zeros(len(time_s))
    for k, frequency_hz in enumerate((220.0, 277.2, 329.6, 440.0)):
        age_s = time_s - 0.3 * k
        envelope = np.where(age_s >= 0, np.exp(-3 * age_s.clip(0)), 0)
        samples += 0.2 * envelope * np.sin(2 * np.pi * frequency_hz * age_s)
    return samples


def estimate(magnitude: torch.Tensor) -> torch.Tensor:
    """Return the estimated phases of magnitudes, ``(bins, frames)``, in radians."""
    return estimate_phases(magnitude.clamp(min=1e-10).log()[None], HOP_LENGTH)[0]


def invert_spectrum(magnitude: torch.Tensor, phases: torch.Tensor) -> Samples:
    """Return the samples of a spectrum."""
    window = torch.hann_window(N_FFT)
    samples: Samples = torch.istft(
        torch.polar(magnitude, phases), N_FFT, HOP_LENGTH, window=window
    ).numpy()
    return samples


def measure_inconsistency(magnitude: torch.Tensor, phases: torch.Tensor) -> float:
    """Return the spectral convergence after one inverse and forward STFT."""
    rebuilt = compute_spectrum(invert_spectrum(magnitude, phases)).abs()
    return float((rebuilt - magnitude).norm() / magnitude.norm())


@pytest.mark.parametrize("frequency_hz", [215.0, 440.0, 3000.0])
def test_phase_of_a_tone_advances_with_its_frequency(frequency_hz: float) -> None:
    time_s = np.arange(SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    magnitude = compute_spectrum(np.sin(2 * np.pi * frequency_hz * time_s)).abs()
    phases = estimate(magnitude).numpy()
    peak = int(magnitude[:, 40].argmax())
    steps = np.diff(phases[peak, 10:70])
    expected = 2 * np.pi * frequency_hz * HOP_LENGTH / SAMPLE_RATE_HZ
    error = np.angle(np.exp(1j * (steps - expected)))
    assert np.abs(error).max() < 0.02


@pytest.mark.parametrize("position", [9000, 9064, 9180])
def test_a_click_remains_short(position: int) -> None:
    samples = np.zeros(SAMPLE_RATE_HZ)
    samples[position] = 1.0
    magnitude = compute_spectrum(samples).abs()
    phases = estimate(magnitude)
    power = invert_spectrum(magnitude, phases) ** 2
    assert abs(int(power.argmax()) - position) <= HOP_LENGTH // 2
    # Random phases spread a click over the window: 0.1 of its power is in this range.
    assert power[position - 80 : position + 80].sum() > 0.45 * power.sum()


def test_phases_of_notes_are_more_consistent_than_random_ones() -> None:
    magnitude = compute_spectrum(synthesize_chord()).abs()
    random = (
        2 * torch.pi * torch.rand(magnitude.shape, generator=torch.Generator().manual_seed(0))
    )
    assert measure_inconsistency(magnitude, estimate(magnitude)) < 0.15
    assert measure_inconsistency(magnitude, random) > 0.5


@pytest.mark.parametrize("shape", [(769, 1), (769, 2), (769, 40), (33, 7)])
def test_phases_of_silence_are_finite(shape: tuple[int, int]) -> None:
    phases = estimate(torch.zeros(shape))
    assert phases.shape == shape
    assert phases.isfinite().all()


def test_level_does_not_change_the_phases() -> None:
    magnitude = compute_spectrum(synthesize_chord()).abs()
    quiet, loud = estimate(0.5 * magnitude), estimate(magnitude)
    is_strong = magnitude > 1e-2 * magnitude.max()
    assert torch.sin((quiet - loud) / 2)[is_strong].abs().max() < 5e-3
