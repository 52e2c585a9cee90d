"""Distances between magnitude spectrograms, as losses.

target and output -> magnitudes at three resolutions -> convergence and log distance
"""

import torch
from torch import Tensor

RESOLUTIONS = ((2048, 240, 1200), (1024, 120, 600), (512, 50, 240))
"""FFT size, hop and window length in samples (Jukebox, App. B.1)."""
MIN_POWER = 1e-8
"""Smallest power of a bin, where the gradient of the magnitude is bounded."""
LOG_OFFSET = 0.02
"""Offset before the logarithm, about 75 dB below a full-scale tone."""


def compute_magnitudes(samples: Tensor, resolution: tuple[int, int, int]) -> Tensor:
    """Return STFT magnitudes.

    Args:
        samples: ``(batch, samples)``, more than half an FFT size.
        resolution: FFT size, hop and window length in samples.

    Returns:
        ``(batch, bins, frames)``
    """
    n_fft, hop, n_window = resolution
    window = torch.hann_window(n_window, device=samples.device)
    spectrum = torch.stft(
        samples, n_fft, hop, win_length=n_window, window=window, return_complex=True
    )
    # A sum over a last dimension of two would take ten times as long on a CPU.
    power = spectrum.real.square() + spectrum.imag.square()
    magnitudes: Tensor = power.clamp(min=MIN_POWER).sqrt()
    return magnitudes


def spectral_convergence(target: Tensor, output: Tensor) -> Tensor:
    """Return the distance of spectrograms relative to the target.

    It is the spectral loss of Jukebox (Sec. 3.3), with the norm of the batch in place of that
    of the data set (docs/differences.md, V4).

    Args:
        target: magnitudes, ``(batch, bins, frames)``.
        output: magnitudes of the same shape.

    Returns:
        mean over the batch, a scalar; 0 if they are equal, 1 for a silent output.
    """
    scale = target.flatten(1).norm(dim=1).mean()
    difference = (target - output).flatten(1).norm(dim=1).mean()
    distance: Tensor = difference / (scale + LOG_OFFSET)
    return distance


def log_distance(target: Tensor, output: Tensor) -> Tensor:
    """Return the mean absolute difference of natural logarithms of magnitudes, a scalar."""
    return ((target + LOG_OFFSET).log() - (output + LOG_OFFSET).log()).abs().mean()


def multi_resolution_loss(target: Tensor, output: Tensor, *, log_weight: float) -> Tensor:
    """Return the mean over `RESOLUTIONS` of convergence and weighted log distance.

    Args:
        target: ``(batch, samples)``.
        output: ``(batch, samples)``.
        log_weight: weight of the log distance; 0 leaves it out.
    """
    loss = torch.zeros((), device=target.device)
    for resolution in RESOLUTIONS:
        magnitudes = [compute_magnitudes(x, resolution) for x in (target, output)]
        loss = loss + spectral_convergence(*magnitudes)
        if log_weight:
            loss = loss + log_weight * log_distance(*magnitudes)
    return loss / len(RESOLUTIONS)
