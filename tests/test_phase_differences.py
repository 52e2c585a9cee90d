"""Phase differences of an STFT, and phases integrated from them."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from builders import make_decaying_notes

from loris_cli.array_types import Array
from loris_cli.audio.mel import HOP_LENGTH, iterate_spectra, run_griffin_lim
from loris_cli.audio.phase_differences import (
    PhaseDifferences,
    compute_phase_differences,
    compute_tone_advance,
    integrate_phases,
)
from loris_cli.config import SAMPLE_RATE_HZ

N_FFT = 1536
N_BINS = N_FFT // 2 + 1


@dataclass(frozen=True)
class Analysis:
    """Magnitudes and phase differences of samples."""

    magnitude: torch.Tensor
    differences: PhaseDifferences


def analyse(samples: Array) -> Analysis:
    spectra = np.concatenate([*iterate_spectra(samples.astype(np.float32), N_FFT)]).T.copy()
    real, imag = torch.from_numpy(spectra.real), torch.from_numpy(spectra.imag)
    return Analysis(torch.hypot(real, imag), compute_phase_differences(real, imag))


def resynthesize(analysis: Analysis) -> Array:
    phases = integrate_phases(analysis.magnitude.numpy(), analysis.differences)
    return run_griffin_lim(analysis.magnitude, torch.from_numpy(phases), 0)


def correlate(samples: Array, other: Array) -> float:
    """Return the cosine of two signals of nearly equal length."""
    n_samples = min(len(samples), len(other))
    a, b = samples[:n_samples], other[:n_samples]
    return float(np.dot(a, b) / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.mark.parametrize("frequency_hz", [215.0, 440.0, 3000.0])
def test_difference_along_time_is_the_frequency_of_a_tone(frequency_hz: float) -> None:
    time_s = np.arange(SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    analysis = analyse(np.sin(2 * np.pi * frequency_hz * time_s))
    peak = int(analysis.magnitude[:, 40].argmax())
    differences = analysis.differences
    angle = torch.atan2(differences.time_imag, differences.time_real)[peak, 10:70]
    found = (angle + compute_tone_advance(N_BINS)[peak]) / (2 * np.pi)
    cycles = frequency_hz * HOP_LENGTH / SAMPLE_RATE_HZ
    error = (found - cycles + 0.5) % 1 - 0.5
    assert error.abs().max() < 1e-3


@pytest.mark.parametrize("offset", [-300, 0, 90])
def test_difference_along_frequency_is_the_position_of_a_click(offset: int) -> None:
    samples = np.zeros(SAMPLE_RATE_HZ)
    samples[40 * HOP_LENGTH + offset] = 1.0
    differences = analyse(samples).differences
    angle = torch.atan2(differences.frequency_imag, differences.frequency_real)[1:, 40]
    np.testing.assert_allclose(angle, -2 * np.pi * offset / N_FFT, atol=1e-3)


def test_first_frame_and_first_bin_have_no_confidence() -> None:
    differences = analyse(make_decaying_notes(0.5)).differences
    along_time = torch.hypot(differences.time_real, differences.time_imag)
    along_frequency = torch.hypot(differences.frequency_real, differences.frequency_imag)
    assert not along_time[:, 0].any()
    assert not along_frequency[0].any()
    np.testing.assert_allclose(along_time[:, 1:], 1, atol=0.02)
    np.testing.assert_allclose(along_frequency[1:], 1, atol=0.02)


def test_audio_is_recovered_from_magnitudes_and_differences() -> None:
    samples = make_decaying_notes(2.0)
    # The phase of the first frame is free, and that of the notes with it.
    assert abs(correlate(resynthesize(analyse(samples)), samples)) > 0.999


def test_uncertain_wrong_differences_do_less_harm_than_certain_ones() -> None:
    samples = make_decaying_notes(2.0)
    exact = analyse(samples)
    generator = torch.Generator().manual_seed(0)
    is_wrong = torch.rand(exact.magnitude.shape, generator=generator) < 0.3

    def measure_inconsistency(confidence: float) -> float:
        """Return the spectral convergence with three of ten differences negated."""
        changed = (torch.where(is_wrong, -confidence * x, x) for x in exact.differences)
        audio = resynthesize(Analysis(exact.magnitude, PhaseDifferences(*changed)))
        rebuilt = analyse(audio).magnitude
        expected = exact.magnitude[:, : rebuilt.shape[1]]
        return float((rebuilt - expected).norm() / expected.norm())

    assert measure_inconsistency(0.01) < 0.65 * measure_inconsistency(1.0)


@pytest.mark.parametrize("shape", [(769, 1), (769, 2), (769, 40), (33, 7)])
def test_phases_of_silence_have_modulus_one(shape: tuple[int, int]) -> None:
    zeros = torch.zeros(shape)
    phases = integrate_phases(zeros.numpy(), PhaseDifferences(zeros, zeros, zeros, zeros))
    assert phases.shape == shape
    np.testing.assert_allclose(np.abs(phases), 1, atol=1e-5)
