"""Phase differences of an STFT between neighbouring frames and bins, and their integration.

    spectra -> differences along time and frequency -> phases

The phase of a spectrum depends on the position of the window, but its differences do not:
that along time is the frequency of a component, that along frequency is the position of its
energy in the window. A network can therefore estimate them. They are relative to those of a
stationary tone at the centre of the bin, and of an impulse at the centre of the frame, so that
they vary slowly.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from loris_cli.array_types import Float32Array
from loris_cli.audio.mel import HOP_LENGTH

MIN_MODULUS = 1e-9
PRIOR_CONFIDENCE = 1e-3
"""Confidence that a bin has a stationary tone, for bins of which nothing else is known."""
NEIGHBOURS = 3
"""Bins on either side whose phases are averaged to find that of a bin."""


class PhaseDifferences(NamedTuple):
    """Parts of complex numbers: the angle is a difference of phase, the modulus its confidence.

    Differences along time are from the frame before, relative to a tone; those along frequency
    are from the bin below, relative to an impulse. All are ``(..., bins, frames)``. The modulus
    is 0..1, and 0 in the first frame or bin.
    """

    time_real: Tensor
    time_imag: Tensor
    frequency_real: Tensor
    frequency_imag: Tensor


def compute_phase_differences(real: Tensor, imag: Tensor) -> PhaseDifferences:
    """Return the phase differences of spectra, all of modulus 1.

    Real arithmetic lets `torch.compile` fuse the operations.

    Args:
        real: real part of an STFT, ``(..., bins, frames)``, frames centred on their samples.
        imag: imaginary part.
    """
    scale = (real.square() + imag.square()).clamp(min=MIN_MODULUS**2).rsqrt()
    real, imag = real * scale, imag * scale
    advance = compute_tone_advance(real.shape[-2]).to(real.device)[:, None]
    step_real, step_imag = _multiply_conjugate(
        (real[..., 1:], imag[..., 1:]), (real[..., :-1], imag[..., :-1])
    )
    step_real, step_imag = _multiply_conjugate(
        (step_real, step_imag), (advance.cos(), advance.sin())
    )
    rise_real, rise_imag = _multiply_conjugate(
        (real[..., 1:, :], imag[..., 1:, :]), (real[..., :-1, :], imag[..., :-1, :])
    )
    return PhaseDifferences(
        functional.pad(step_real, (1, 0)),
        functional.pad(step_imag, (1, 0)),
        functional.pad(-rise_real, (0, 0, 1, 0)),
        functional.pad(-rise_imag, (0, 0, 1, 0)),
    )


def _multiply_conjugate(
    a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """Return real and imaginary part of the product of a and the conjugate of b."""
    return a[0] * b[0] + a[1] * b[1], a[1] * b[0] - a[0] * b[1]


def compute_tone_advance(n_bins: int) -> Tensor:
    """Return the phase advance per frame of a tone at the centre of each bin, ``(bins,)``."""
    cycles = HOP_LENGTH / (2 * (n_bins - 1)) * torch.arange(n_bins, dtype=torch.float64)
    return (2 * math.pi * (cycles % 1)).float()


def integrate_phases(
    magnitude: Float32Array, differences: PhaseDifferences
) -> NDArray[np.complex64]:
    """Return phases with given differences.

    The phase of a bin is that of the sum of its own prediction from the frame before and those
    of its neighbours, which are shifted by the differences along frequency. Each prediction is
    weighted by its magnitude and its confidence.

    Args:
        magnitude: STFT magnitudes, ``(bins, frames)``.
        differences: ``(bins, frames)`` each.

    Returns:
        complex numbers of modulus 1, ``(bins, frames)``.
    """
    n_bins, n_frames = magnitude.shape
    along_time = torch.complex(differences.time_real, differences.time_imag)
    along_frequency = torch.complex(differences.frequency_real, differences.frequency_imag)
    advance = compute_tone_advance(n_bins)[:, None]
    along_time = along_time + PRIOR_CONFIDENCE
    steps = (torch.polar(torch.ones_like(advance), advance) * along_time).numpy().T.copy()
    steps[1:] *= np.minimum(magnitude.T[1:], magnitude.T[:-1]) + np.float32(MIN_MODULUS)
    upward = np.ascontiguousarray(-along_frequency.numpy().T)[:, 1:]
    downward = upward.conj()
    phases = np.empty((n_frames, n_bins), dtype=np.complex64)
    first = np.cumsum(np.angle(upward[0]), dtype=np.float64)
    phases[0, 0], phases[0, 1:] = 1, np.exp(1j * first)
    for k in range(1, n_frames):
        own = phases[k - 1] * steps[k]
        total, above, below = own.copy(), own, own
        for distance in range(1, NEIGHBOURS + 1):
            above = above[:-1] * upward[k, distance - 1 :]
            below = below[1:] * downward[k, : n_bins - distance]
            total[distance:] += above
            total[:-distance] += below
        phases[k] = total / (np.abs(total) + np.float32(1e-30))
    return phases.T
