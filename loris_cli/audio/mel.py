"""Sound as log-mel frames, and back.

    waveform -> STFT magnitude -> mel bands -> log    and    log-mel -> magnitude -> Griffin-Lim

Only the magnitude is kept: measured on made-up music, the way there and back keeps onsets to
within 50 ms at F 0.99, so phase is not what limits the timing of a soundtrack.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray

from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.system.librosa_import import librosa

Array = NDArray[np.float32]

HOP_LENGTH = 256
MEL_FPS = SAMPLE_RATE_HZ / HOP_LENGTH
LOG_OFFSET = 1e-3
"""Added before the logarithm: some 78 dB below a full-scale tone."""
GRIFFIN_LIM_MOMENTUM = 0.99
MEL_INVERSION_ITERATIONS = 20


@dataclass(frozen=True, kw_only=True)
class MelConfig:
    """How finely a spectrum is looked at: in time and frequency together, and in frequency."""

    n_fft: int = 1024
    """Samples of a frame's window."""
    n_mels: int = 128

    def __post_init__(self) -> None:
        """Refuse windows with gaps between them, and more bands than there are bins.

        Raises:
            ValueError: either is so.
        """
        if (
            not 2 * HOP_LENGTH <= self.n_fft <= 32 * HOP_LENGTH
            or not 1 <= self.n_mels <= self.n_fft // 4
        ):
            raise ValueError(f"no log-mel of {self.n_mels} bands of {self.n_fft} samples")


DEFAULT_MEL_CONFIG = MelConfig()
"""The specification's; all figures on log-mel frames are of these."""
FINE_MEL_CONFIG = MelConfig(n_fft=1536, n_mels=160)
"""Keeps low notes apart: of ten made-up pieces there and back, key clarity 0.61 for 0.55 (0.65
before), pitch steadiness 0.79 for 0.78 (0.83); 2,048 samples blur onsets and gain no more."""


@cache
def compute_mel_filterbank(mel_config: MelConfig = DEFAULT_MEL_CONFIG) -> Array:
    """Slaney's mel filters, ``(n_mels, n_fft / 2 + 1)``."""
    weights: Array = librosa.filters.mel(
        sr=SAMPLE_RATE_HZ, n_fft=mel_config.n_fft, n_mels=mel_config.n_mels
    )
    return weights * np.float32(
        DEFAULT_MEL_CONFIG.n_fft / mel_config.n_fft
    )  # a tone is as loud in each


@cache
def _compute_inverse_filterbank(mel_config: MelConfig) -> Array:
    return np.linalg.pinv(compute_mel_filterbank(mel_config)).astype(np.float32)


def compute_log_mel(samples: Array, mel_config: MelConfig = DEFAULT_MEL_CONFIG) -> Array:
    """Log-mel frames; frame ``k`` is centred on sample ``k * 256``.

    Args:
        samples: mono sound at 22,050 Hz, ``(samples,)``.
        mel_config: how finely.

    Returns:
        natural logarithm of the mel magnitude, ``(n_mels, samples // 256 + 1)``.
    """
    spectrum = librosa.stft(
        samples.astype(np.float32), n_fft=mel_config.n_fft, hop_length=HOP_LENGTH
    )
    frames: Array = np.log(
        compute_mel_filterbank(mel_config) @ np.abs(spectrum) + LOG_OFFSET
    ).astype(np.float32)
    return frames


@torch.inference_mode()
def mel_to_linear(log_mel: Array, mel_config: MelConfig = DEFAULT_MEL_CONFIG) -> torch.Tensor:
    """A spectrum whose bands are these.

    The pseudo-inverse, with what is negative cut off, and from there multiplicative updates
    that bring its bands nearer to the given ones in Kullback and Leibler's sense (Richardson,
    1972; Lee and Seung, 2001): of four made-up pieces key clarity rose from 0.56 to 0.60 (0.66
    with the true spectrum).

    Args:
        log_mel: as `compute_log_mel` gives them, ``(n_mels, frames)``.
        mel_config: of the frames.

    Returns:
        magnitudes, ``(n_fft / 2 + 1, frames)``, not negative.
    """
    wanted = torch.from_numpy(np.maximum(np.exp(log_mel.astype(np.float32)) - LOG_OFFSET, 0))
    filters = torch.from_numpy(compute_mel_filterbank(mel_config))
    tiny = 1e-9
    spread = filters.sum(dim=0)[:, None] + tiny
    magnitude = (torch.from_numpy(_compute_inverse_filterbank(mel_config)) @ wanted).clamp(
        min=1e-4
    )
    for _ in range(MEL_INVERSION_ITERATIONS):
        magnitude *= filters.T @ (wanted / (filters @ magnitude + tiny)) / spread
    return magnitude


@torch.inference_mode()
def invert_log_mel(
    log_mel: Array,
    mel_config: MelConfig = DEFAULT_MEL_CONFIG,
    *,
    n_iter: int = 32,
    seed: int = 0,
) -> Array:
    """Sound whose log-mel frames are about these (Griffin and Lim, 1984).

    The fast form with momentum (Perraudin, Balazs and Sondergaard, 2013), as librosa has it; in
    torch, whose transforms need no compiling at the first call.

    Args:
        log_mel: as `compute_log_mel` gives them, ``(n_mels, frames)``.
        mel_config: of the frames.
        n_iter: rounds of phase estimation.
        seed: of the first phases.

    Returns:
        ``((frames - 1) * 256,)`` samples.
    """
    magnitude = mel_to_linear(log_mel, mel_config)
    n_fft = mel_config.n_fft
    window = torch.hann_window(n_fft)
    generator = torch.Generator().manual_seed(seed)
    turn = 2 * torch.pi * torch.rand(magnitude.shape, generator=generator)
    phases = torch.polar(torch.ones_like(magnitude), turn)
    before = torch.zeros_like(phases)
    for _ in range(n_iter):
        samples = torch.istft(magnitude * phases, n_fft, HOP_LENGTH, window=window)
        again = torch.stft(samples, n_fft, HOP_LENGTH, window=window, return_complex=True)
        phases = again - GRIFFIN_LIM_MOMENTUM / (1 + GRIFFIN_LIM_MOMENTUM) * before
        phases /= phases.abs() + 1e-16
        before = again
    sound: Array = torch.istft(magnitude * phases, n_fft, HOP_LENGTH, window=window).numpy()
    return sound
