"""Mastering of training music: equalizer, compressor and saturation.

    seed -> settings;  mono audio -> equalizer -> compressor -> saturation

Recorded music is mastered; the output of a synthesizer is not. Varied mastering prevents that a
network learns one spectral balance and one dynamic range.
"""

from dataclasses import dataclass, field

import numpy as np
import scipy  # its submodules load at their first use: scipy.signal takes half a second

from loris_cli.array_types import Array, Samples

EQUALIZER_HZ = (60.0, 150.0, 400.0, 1000.0, 2500.0, 5000.0, 10_000.0)
EQUALIZER_STD_DB, EQUALIZER_LIMIT_DB = 3.0, 8.0
EQUALIZER_TAPS = 511
"""Length of the filter: 23 ms at 22,050 Hz, for a resolution of about 100 Hz."""
CONTROL_SAMPLES = 32
"""Samples per value of the compressor's level: 1.5 ms at 22,050 Hz."""
KNEE_DB = 6.0
MIN_LEVEL = 1e-5
UNMASTERED_PROBABILITY = 0.2
SEED_STREAM = 102


@dataclass(frozen=True, kw_only=True)
class MasteringSettings:
    """Settings of the chain; the defaults change nothing."""

    equalizer_db: Array = field(default_factory=lambda: np.zeros(len(EQUALIZER_HZ)))
    """Gain at each frequency of `EQUALIZER_HZ`."""
    threshold_db: float = 0.0
    """Level above the mean power at which compression begins."""
    ratio: float = 1.0
    """Input by output level above the threshold, in dB; 1 for no compression."""
    attack_s: float = 0.01
    release_s: float = 0.1
    drive: float = 0.0
    """Gain before the saturation, relative to the peak; 0 for none."""


def draw_mastering(seed: int) -> MasteringSettings:
    """Draw the settings of a training piece; some pieces are not mastered."""
    rng = np.random.default_rng([seed, SEED_STREAM])
    if rng.random() < UNMASTERED_PROBABILITY:
        return MasteringSettings()
    gains_db = EQUALIZER_STD_DB * rng.standard_normal(len(EQUALIZER_HZ))
    return MasteringSettings(
        equalizer_db=gains_db.clip(-EQUALIZER_LIMIT_DB, EQUALIZER_LIMIT_DB),
        threshold_db=rng.uniform(-6.0, 6.0),
        ratio=rng.uniform(1.0, 5.0),
        attack_s=rng.uniform(0.003, 0.03),
        release_s=rng.uniform(0.05, 0.4),
        drive=max(rng.uniform(-1.0, 1.5), 0.0),
    )


def master(samples: Samples, settings: MasteringSettings, *, rate_hz: int) -> Samples:
    """Apply the chain.

    Args:
        samples: mono audio, ``(samples,)``.
        settings: settings of the chain.
        rate_hz: sampling rate.

    Returns:
        audio of the same length and without delay; the level is not restored.
    """
    if not samples.any():
        return samples
    out = samples
    if settings.equalizer_db.any():
        out = _equalize(out, settings.equalizer_db, rate_hz)
    if settings.ratio > 1:
        out = out * _compute_compressor_gain(out, settings, rate_hz)
    if settings.drive > 0:
        peak = np.abs(out).max()
        out = np.tanh(settings.drive * out / peak) * (peak / np.tanh(settings.drive))
    return np.asarray(out, dtype=np.float32)


def _equalize(samples: Samples, gains_db: Array, rate_hz: int) -> Samples:
    """Filter with a linear-phase filter; gains are interpolated over the octaves."""
    grid_hz = np.linspace(0, rate_hz / 2, 257)
    octaves = np.log2(np.maximum(grid_hz, EQUALIZER_HZ[0]))
    gain_db = np.interp(octaves, np.log2(EQUALIZER_HZ), gains_db)
    taps = scipy.signal.firwin2(EQUALIZER_TAPS, grid_hz, 10 ** (gain_db / 20), fs=rate_hz)
    filtered: Samples = scipy.signal.oaconvolve(samples, taps.astype(np.float32), mode="same")
    return filtered


def _compute_compressor_gain(
    samples: Samples, settings: MasteringSettings, rate_hz: int
) -> Samples:
    """Return the gain of a feed-forward compressor with a soft knee.

    Giannoulis, Massberg and Reiss, "Digital Dynamic Range Compressor Design" (2012): Eq. 4 for
    the knee and Eq. 16 for the smoothing of the gain reduction.
    """
    n_blocks = -(-len(samples) // CONTROL_SAMPLES)
    padded = np.pad(np.abs(samples), (0, n_blocks * CONTROL_SAMPLES - len(samples)))
    level = padded.reshape(n_blocks, CONTROL_SAMPLES).max(axis=1)
    rms_db = 10 * np.log10(np.square(samples, dtype=np.float64).mean())
    excess_db = 20 * np.log10(np.maximum(level, MIN_LEVEL)) - rms_db - settings.threshold_db
    knee_db = (excess_db + KNEE_DB / 2).clip(0, KNEE_DB) ** 2 / (2 * KNEE_DB)
    over_db = np.where(excess_db > KNEE_DB / 2, excess_db, knee_db)
    reduction_db = (1 - 1 / settings.ratio) * over_db
    block_s = CONTROL_SAMPLES / rate_hz
    attack, release = (
        float(np.exp(-block_s / time_s)) for time_s in (settings.attack_s, settings.release_s)
    )
    smoothed = np.empty(n_blocks)
    state = 0.0
    for k, target in enumerate(reduction_db.tolist()):
        state = target + (attack if target > state else release) * (state - target)
        smoothed[k] = state
    centres = (np.arange(n_blocks) + 0.5) * CONTROL_SAMPLES
    gain_db = np.interp(np.arange(len(samples)), centres, -smoothed)
    gain: Samples = (10 ** (gain_db / 20)).astype(np.float32)
    return gain
