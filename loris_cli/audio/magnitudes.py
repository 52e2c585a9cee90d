"""Log-magnitude spectrograms and their inversion.

waveform -> STFT -> log-magnitude    and    log-magnitude -> phases -> waveform

Hop and window are those of log-mel spectrograms (`audio.mel`).
"""

import numpy as np
import torch
from torch import Tensor

from loris_cli.array_types import Float32Array, Samples
from loris_cli.audio.mel import (
    HOP_LENGTH,
    MelConfig,
    compute_mel_filterbank,
    iterate_spectra,
)
from loris_cli.audio.phase import estimate_phases

MAGNITUDE_OFFSET = 1e-2
"""Offset added before the logarithm, about 92 dB below a full-scale tone of 1,536 samples."""
MIN_MAGNITUDE = 1e-10
MIN_BIN_WEIGHT = 0.1
"""Lower limit of the weight of a bin, so that errors at high frequencies count."""


def compute_log_magnitude(samples: Samples, n_fft: int) -> Float32Array:
    """Compute log-magnitude frames; frame ``k`` is centred on sample ``k * 256``.

    Args:
        samples: mono audio at 22,050 Hz, ``(samples,)``.
        n_fft: window length in samples.

    Returns:
        natural logarithm of magnitude plus offset, ``(n_fft / 2 + 1, samples // 256 + 1)``.
    """
    blocks = [
        np.log(np.abs(spectra).T + np.float32(MAGNITUDE_OFFSET))
        for spectra in iterate_spectra(samples, n_fft)
    ]
    return np.concatenate(blocks, axis=1)


def invert_log_magnitude(log_magnitude: Tensor) -> Tensor:
    """Reconstruct audio from log-magnitude frames; differentiable.

    No rounds of Griffin-Lim follow: eight raise the Zimtohrli MOS of true magnitudes from 4.72
    to 4.81, but lower that of decoded ones, which are smooth where sound is noisy, from 3.95 to
    3.73.

    Args:
        log_magnitude: frames from `compute_log_magnitude`,
            ``(batch, n_fft / 2 + 1, frames)``, on the CPU.

    Returns:
        audio at 22,050 Hz, ``(batch, (frames - 1) * 256)``.
    """
    magnitude = (log_magnitude.exp() - MAGNITUDE_OFFSET).clamp(min=0)
    # The gradient is that of the logarithm with the offset, which is finite in silence.
    without_offset = magnitude.clamp(min=MIN_MAGNITUDE).log()
    logarithm = log_magnitude + (without_offset - log_magnitude).detach()
    phases = estimate_phases(logarithm, HOP_LENGTH)
    n_fft = 2 * (magnitude.shape[1] - 1)
    window = torch.hann_window(n_fft)
    return torch.istft(torch.polar(magnitude, phases), n_fft, HOP_LENGTH, window=window)


def compute_bin_weights(mel_config: MelConfig) -> Tensor:
    """Return weights of the STFT bins in proportion to their mel bands, with mean 1.

    Linear bins are dense at high frequencies, where hearing resolves least. The weight of a
    bin is the part of the mel axis that it covers.

    Returns:
        ``(n_fft / 2 + 1, 1)``
    """
    filters = torch.from_numpy(compute_mel_filterbank(mel_config))
    weights = (filters / filters.sum(dim=1, keepdim=True)).sum(dim=0)
    weights = (weights / weights.mean()).clamp(min=MIN_BIN_WEIGHT)
    return (weights / weights.mean())[:, None]
