"""Log-mel spectrograms and their inversion.

    waveform -> STFT magnitude -> mel bands -> log    and    log-mel -> magnitude -> Griffin-Lim

The phase is discarded. On synthetic music, the onsets after the round trip match the original
ones within 50 ms at F 0.99, so the missing phase does not limit the timing of a soundtrack.

librosa is not used: its import compiles kernels, which takes seconds on a new machine.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.signal import get_window
from torch import Tensor

from loris_cli.array_types import Array, Float32Array, Samples
from loris_cli.config import SAMPLE_RATE_HZ

HOP_LENGTH = 256
MEL_FPS = SAMPLE_RATE_HZ / HOP_LENGTH
LOG_OFFSET = 1e-3
"""Offset added before the logarithm, about 78 dB below a full-scale tone."""
GRIFFIN_LIM_MOMENTUM = 0.99
MEL_INVERSION_ITERATIONS = 20
LINEAR_MELS, MEL_LOG_STEP = 15.0, math.log(6.4) / 27
"""Mels below 1 kHz, and the step of the logarithm above it (Slaney's Auditory Toolbox)."""
BLOCK_FRAMES = 1024
"""Frames transformed at a time, which limits the memory."""


@dataclass(frozen=True, kw_only=True)
class MelConfig:
    """Window length and number of bands of a mel spectrogram."""

    n_fft: int = 1024
    """Window length of a frame, in samples."""
    n_mels: int = 128

    def __post_init__(self) -> None:
        """Check that windows overlap and that the STFT has enough bins for the mel bands.

        Raises:
            ValueError: the window length or the number of bands is out of range.
        """
        window_fits = 2 * HOP_LENGTH <= self.n_fft <= 32 * HOP_LENGTH
        if not window_fits or not 1 <= self.n_mels <= self.n_fft // 4:
            raise ValueError(
                f"invalid mel configuration: n_mels={self.n_mels}, n_fft={self.n_fft};"
                " expected 512 <= n_fft <= 8192 and 1 <= n_mels <= n_fft / 4"
            )


DEFAULT_MEL_CONFIG = MelConfig()
"""Default configuration, used for the Fréchet distances on log-mel frames."""
FINE_MEL_CONFIG = MelConfig(n_fft=1536, n_mels=160)
"""Higher frequency resolution for low notes. After the round trip of ten synthetic pieces, key
clarity is 0.61 instead of 0.55 (original 0.65) and pitch stability is 0.79 instead of 0.78
(original 0.83). Windows of 2,048 samples blur onsets without a further gain."""


@cache
def compute_mel_filterbank(mel_config: MelConfig = DEFAULT_MEL_CONFIG) -> Float32Array:
    """Return Slaney's mel filter bank, ``(n_mels, n_fft / 2 + 1)``."""
    n_fft, n_mels = mel_config.n_fft, mel_config.n_mels
    edges_hz = _mel_to_hz(np.linspace(0, _hz_to_mel(SAMPLE_RATE_HZ / 2), n_mels + 2))
    lower_hz, centre_hz, upper_hz = (edges_hz[k : n_mels + k, None] for k in range(3))
    bins_hz = np.fft.rfftfreq(n_fft, 1 / SAMPLE_RATE_HZ)
    rising = (bins_hz - lower_hz) / (centre_hz - lower_hz)
    falling = (upper_hz - bins_hz) / (upper_hz - centre_hz)
    triangles = np.maximum(0, np.minimum(rising, falling)).astype(np.float32)
    weights: Float32Array = (triangles * (2 / (upper_hz - lower_hz))).astype(np.float32)
    # Scale by the window length so that a tone has the same level for every window length.
    return weights * np.float32(DEFAULT_MEL_CONFIG.n_fft / n_fft)


def _hz_to_mel(frequency_hz: float) -> float:
    """Return the Slaney mels of a frequency above 1 kHz, where they are logarithmic."""
    return LINEAR_MELS + math.log(frequency_hz / 1000) / MEL_LOG_STEP


def _mel_to_hz(mels: Array) -> Array:
    """Return the frequencies of Slaney mels, linear below 1 kHz and logarithmic above."""
    logarithmic = 1000 * np.exp(MEL_LOG_STEP * (mels - LINEAR_MELS))
    return np.where(mels < LINEAR_MELS, mels * 1000 / LINEAR_MELS, logarithmic)


@cache
def _compute_inverse_filterbank(mel_config: MelConfig) -> Float32Array:
    return np.linalg.pinv(compute_mel_filterbank(mel_config)).astype(np.float32)


def compute_log_mel(
    samples: Samples, mel_config: MelConfig = DEFAULT_MEL_CONFIG
) -> Float32Array:
    """Compute log-mel frames; frame ``k`` is centred on sample ``k * 256``.

    Args:
        samples: mono audio at 22,050 Hz, ``(samples,)``.
        mel_config: window length and number of bands.

    Returns:
        natural logarithm of the mel magnitude, ``(n_mels, samples // 256 + 1)``.
    """
    filters = compute_mel_filterbank(mel_config)
    blocks = [
        np.log(filters @ np.abs(spectra).T + LOG_OFFSET, dtype=np.float32)
        for spectra in iterate_spectra(samples, mel_config.n_fft)
    ]
    return np.concatenate(blocks, axis=1)


def iterate_spectra(samples: Samples, n_fft: int) -> Iterator[NDArray[np.complex64]]:
    """Yield the spectra of consecutive frames in blocks, ``(frames, n_fft / 2 + 1)``.

    Args:
        samples: mono audio, ``(samples,)``; frame ``k`` is centred on sample ``k * 256``.
        n_fft: length of the Hann window in samples.
    """
    padded = np.pad(samples.astype(np.float32), n_fft // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, n_fft)[::HOP_LENGTH]
    window = get_window("hann", n_fft)
    for k in range(0, len(frames), BLOCK_FRAMES):
        yield np.fft.rfft(window * frames[k : k + BLOCK_FRAMES]).astype(np.complex64)


@torch.inference_mode()
def mel_to_linear(log_mel: Float32Array, mel_config: MelConfig = DEFAULT_MEL_CONFIG) -> Tensor:
    """Estimate the linear magnitude spectrogram of log-mel frames.

    The initial estimate is the pseudo-inverse with negative values clipped. Multiplicative
    updates then decrease the Kullback-Leibler divergence between its mel bands and the target
    (Richardson, 1972; Lee and Seung, 2001). On four synthetic pieces the updates raised key
    clarity from 0.56 to 0.60 (0.66 with the original spectrum).

    Args:
        log_mel: log-mel frames from `compute_log_mel`, ``(n_mels, frames)``.
        mel_config: configuration of the frames.

    Returns:
        non-negative magnitudes, ``(n_fft / 2 + 1, frames)``.
    """
    target = torch.from_numpy(np.maximum(np.exp(log_mel.astype(np.float32)) - LOG_OFFSET, 0))
    filters = torch.from_numpy(compute_mel_filterbank(mel_config))
    inverse = torch.from_numpy(_compute_inverse_filterbank(mel_config))
    eps = 1e-9
    filter_sums = filters.sum(dim=0)[:, None] + eps
    magnitude = (inverse @ target).clamp(min=1e-4)
    for _ in range(MEL_INVERSION_ITERATIONS):
        magnitude *= filters.T @ (target / (filters @ magnitude + eps)) / filter_sums
    return magnitude


@torch.inference_mode()
def invert_log_mel(
    log_mel: Float32Array,
    mel_config: MelConfig = DEFAULT_MEL_CONFIG,
    *,
    n_iter: int = 32,
    seed: int = 0,
) -> Samples:
    """Reconstruct audio from log-mel frames by Griffin-Lim, from random phases.

    Args:
        log_mel: log-mel frames from `compute_log_mel`, ``(n_mels, frames)``.
        mel_config: configuration of the frames.
        n_iter: number of phase estimation iterations.
        seed: random seed of the initial phases.

    Returns:
        mono audio at 22,050 Hz, ``((frames - 1) * 256,)``.
    """
    magnitude = mel_to_linear(log_mel, mel_config)
    generator = torch.Generator().manual_seed(seed)
    angles = 2 * torch.pi * torch.rand(magnitude.shape, generator=generator)
    return run_griffin_lim(magnitude, torch.polar(torch.ones_like(magnitude), angles), n_iter)


@torch.inference_mode()
def run_griffin_lim(magnitude: Tensor, phases: Tensor, n_iter: int) -> Samples:
    """Reconstruct audio from magnitudes by Griffin-Lim (1984).

    This is the fast variant with momentum (Perraudin, Balazs and Sondergaard, 2013), as in
    librosa. It uses torch, whose transforms need no compilation at the first call.

    Args:
        magnitude: STFT magnitudes with a Hann window, ``(n_fft / 2 + 1, frames)``.
        phases: initial phases, complex numbers of modulus 1, of the same shape.
        n_iter: number of phase estimation iterations.

    Returns:
        mono audio at 22,050 Hz, ``((frames - 1) * 256,)``.
    """
    n_fft = 2 * (len(magnitude) - 1)
    window = torch.hann_window(n_fft)
    previous = torch.zeros_like(phases)
    for _ in range(n_iter):
        samples = torch.istft(magnitude * phases, n_fft, HOP_LENGTH, window=window)
        rebuilt = torch.stft(samples, n_fft, HOP_LENGTH, window=window, return_complex=True)
        phases = rebuilt - GRIFFIN_LIM_MOMENTUM / (1 + GRIFFIN_LIM_MOMENTUM) * previous
        phases /= phases.abs() + 1e-16
        previous = rebuilt
    samples = torch.istft(magnitude * phases, n_fft, HOP_LENGTH, window=window)
    return np.asarray(samples.numpy())
