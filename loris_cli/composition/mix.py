"""Mix of a synthesized score: channel volumes, reverb and tone.

    seed -> mix settings;  dry audio -> reverb -> tone filter

Reverb is a convolution with decaying noise. Its level is that of fluidsynth's reverb in the
training music: 25 dB below the dry sound for a level of 0.25 and a room size of 0.5.
"""

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import scipy  # its submodules load at their first use: scipy.signal takes half a second

from loris_cli.array_types import Array, Float32Array, Samples

REVERB_PREDELAY_S = 0.012
REVERB_MIN_DECAY_S, REVERB_DECAY_RANGE_S = 0.5, 2.0
"""Decay time (60 dB) of a room of size 0, and its increase up to size 1."""
REVERB_GAIN = 0.18
"""Ratio of reverb to dry sound for level 1 and a decay time of one second."""
REVERB_DAMPING = 0.55
"""Coefficient of the low-pass filter of the reverb."""
REVERB_SEED = 15


@dataclass(frozen=True, kw_only=True)
class MixSettings:
    """Reverb, balance and tone of a mix."""

    reverb_level: float = 0.25
    """0..1."""
    reverb_room_size: float = 0.5
    """0..1."""
    channel_volumes: Array = field(default_factory=lambda: np.full(16, 110 / 127))
    """Volume of each MIDI channel, ``(16,)``, 0..1."""
    spectral_tilt: float = 0.0
    """Coefficient of a first-order filter; positive is darker, negative brighter."""


def draw_mix(seed: int) -> MixSettings:
    """Draw the mix settings of a training piece."""
    rng = np.random.default_rng([seed, 1])
    return MixSettings(
        reverb_level=rng.uniform(0.0, 0.5),
        reverb_room_size=rng.uniform(0.2, 0.8),
        channel_volumes=110 / 127 * rng.uniform(0.5, 1.0, 16),
        spectral_tilt=rng.uniform(-0.35, 0.35),
    )


class MixEffects:
    """Reverb and tone filter for consecutive blocks of audio."""

    def __init__(self, mix: MixSettings, *, n_channels: int, rate_hz: int) -> None:
        """Build the filters; the reverb of left and right is independent."""
        self._level = np.float32(mix.reverb_level)
        self._responses = build_impulse_response(mix.reverb_room_size, n_channels, rate_hz)
        self._reverb_tail = np.zeros((n_channels, 0), dtype=np.float32)
        self._tone = np.array([1.0, mix.spectral_tilt], dtype=np.float32)
        self._tone_state = np.zeros((n_channels, 1), dtype=np.float32)

    def process(self, block: Samples) -> Samples:
        """Return a block with effects, including the reverb of earlier blocks.

        Args:
            block: ``(channels, samples)``.
        """
        if self._level > 0:
            block = self._add_reverb(block)
        filtered, self._tone_state = scipy.signal.lfilter(
            self._tone, [1.0], block, zi=self._tone_state
        )
        return np.asarray(filtered, dtype=np.float32)

    def _add_reverb(self, block: Samples) -> Samples:
        n_samples, n_tail = block.shape[1], self._reverb_tail.shape[1]
        wet = scipy.signal.oaconvolve(block, self._level * self._responses, axes=1)
        wet = np.pad(wet, ((0, 0), (0, max(n_tail - wet.shape[1], 0))))
        wet[:, :n_tail] += self._reverb_tail
        self._reverb_tail = wet[:, n_samples:]
        return np.asarray(block + wet[:, :n_samples])


@lru_cache(maxsize=8)
def build_impulse_response(room_size: float, n_channels: int, rate_hz: int) -> Float32Array:
    """Return the impulse response of a room at level 1, ``(channels, samples)``."""
    decay_s = REVERB_MIN_DECAY_S + REVERB_DECAY_RANGE_S * room_size
    times_s = np.arange(round(decay_s * rate_hz)) / rate_hz
    noise = np.random.default_rng(REVERB_SEED).standard_normal((n_channels, len(times_s)))
    response = scipy.signal.lfilter([1 - REVERB_DAMPING], [1, -REVERB_DAMPING], noise, axis=1)
    response *= 10 ** (-3 * times_s / decay_s)
    energy = np.square(response).sum(axis=1, keepdims=True)
    response *= REVERB_GAIN * np.sqrt(decay_s / energy)
    predelay = np.zeros((n_channels, round(REVERB_PREDELAY_S * rate_hz)))
    return np.concatenate([predelay, response], axis=1).astype(np.float32)
