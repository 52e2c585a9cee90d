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

from loris_cli.array_types import Float32Array
from loris_cli.audio.mel import HOP_LENGTH

MIN_MODULUS = 1e-9
NEIGHBOURS = 3
"""Bins on either side whose phases are averaged to find that of a bin."""


class PhaseDifferences(NamedTuple):
    """Complex numbers: the angle is a difference of phase, the modulus its confidence, 0..1."""

    along_time: Tensor
    """From the frame before, relative to a tone, ``(..., bins, frames)``; of modulus 0 in the
    first frame."""
    along_frequency: Tensor
    """From the bin below, relative to an impulse; of modulus 0 in the first bin."""


def compute_phase_differences(spectra: Tensor) -> PhaseDifferences:
    """Return the phase differences of spectra, all of modulus 1.

    Args:
        spectra: complex STFT, ``(..., bins, frames)``, frames centred on their samples.
    """
    unit = spectra / spectra.abs().clamp(min=MIN_MODULUS)
    along_time, along_frequency = torch.zeros_like(unit), torch.zeros_like(unit)
    tone = compute_tone_advance(unit.shape[-2]).to(unit)
    along_time[..., 1:] = unit[..., 1:] * unit[..., :-1].conj() * tone.conj()[:, None]
    along_frequency[..., 1:, :] = -unit[..., 1:, :] * unit[..., :-1, :].conj()
    return PhaseDifferences(along_time, along_frequency)


def compute_tone_advance(n_bins: int) -> Tensor:
    """Return the phase advance of a tone at the centre of each bin, complex, ``(bins,)``."""
    cycles = HOP_LENGTH / (2 * (n_bins - 1)) * torch.arange(n_bins, dtype=torch.float64)
    angle = 2 * math.pi * (cycles % 1)
    return torch.polar(torch.ones_like(angle), angle).to(torch.complex64)


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
    advance = compute_tone_advance(n_bins)[:, None] * differences.along_time
    steps = np.ascontiguousarray(advance.numpy().T)
    steps[1:] *= np.minimum(magnitude.T[1:], magnitude.T[:-1]) + np.float32(MIN_MODULUS)
    upward = np.ascontiguousarray(-differences.along_frequency.numpy().T)[:, 1:]
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
