"""Phases of an STFT from its magnitudes alone.

For a window close to a Gaussian the derivatives of the phase follow from those of the
logarithmic magnitude (Prusa, Balazs and Sondergaard, "A Noniterative Method for Reconstruction
of Phase from STFT Magnitude", 2017, Eq. 15 and 16). With ``s = log M(k, t)``, hop ``a``, window
length ``N`` and the width ``g`` of the window:

    d phase / dt = a N / g * ds/dk + 2 pi a k / N      per frame
    d phase / dk = -g / (a N) * ds/dt - pi             per bin, frames centred on their samples

Their method integrates from bin to bin in the order of the magnitudes, with a heap: 2 s for 6 s
of audio. Here the bins between two spectral valleys form a region. The phase of a region is
integrated along time at its strongest stationary bin, and along frequency within the region.
All regions of a frame are computed at once, which takes a twentieth of the time.
"""

import numpy as np
from numpy.typing import NDArray

from loris_cli.array_types import Array, Float32Array

HANN_WIDTH = 0.25645
"""Width of the Gaussian that fits a Hann window, by the square of its length (Prusa et al.,
2017, table I)."""
MIN_MAGNITUDE = 1e-10
STATIONARY_RATIO = 0.5
"""A region continues along time if the minimum of its magnitude and the one before reaches this
fraction of its peak. Otherwise it begins there, and takes its phase from the nearest region of
the frame that continues: components of an attack are in phase. On eight pieces a ratio of 0.5
gives the lowest perceptual distance of 0.05 to 0.9."""


def estimate_phases(magnitude: Float32Array, hop_length: int) -> NDArray[np.complex64]:
    """Estimate phases from magnitudes.

    Args:
        magnitude: STFT magnitudes with a Hann window, ``(n_fft / 2 + 1, frames)``; frame ``k``
            is centred on sample ``k * hop_length``.
        hop_length: samples per frame.

    Returns:
        complex numbers of modulus 1, of the same shape.
    """
    frames = np.maximum(magnitude.T, MIN_MAGNITUDE).astype(np.float64)
    n_frames, n_bins = frames.shape
    along_time, along_frequency = _differentiate_phase(frames, hop_length)
    anchors = _find_anchors(frames)
    # Phase at a bin minus that at its anchor, in the frame, and from the frame before.
    offsets = along_frequency - np.take_along_axis(along_frequency, anchors, axis=1)
    offsets[1:] += np.take_along_axis(along_time[1:], anchors[1:], axis=1)
    phases = np.empty((n_frames, n_bins))
    phases[0] = offsets[0]
    for k in range(1, n_frames):
        phases[k] = phases[k - 1, anchors[k]] + offsets[k]
    result: NDArray[np.complex64] = np.exp(1j * phases.T).astype(np.complex64)
    return result


def _differentiate_phase(frames: Array, hop_length: int) -> tuple[Array, Array]:
    """Return the phase difference to the frame before, and the phase integrated over bins.

    Args:
        frames: magnitudes, ``(frames, bins)``.
        hop_length: samples per frame.

    Returns:
        ``(frames, bins)`` each. The first row of the differences has no meaning.
    """
    n_fft = 2 * (frames.shape[1] - 1)
    ratio = HANN_WIDTH * n_fft / hop_length
    logarithm = np.log(frames)
    centre = 2 * np.pi * hop_length / n_fft * np.arange(frames.shape[1])
    per_frame = np.gradient(logarithm, axis=1) / ratio + centre
    along_time = np.zeros_like(frames)
    along_time[1:] = (per_frame[1:] + per_frame[:-1]) / 2
    per_bin = np.full_like(frames, -np.pi)
    if len(frames) > 1:
        per_bin -= ratio * np.gradient(logarithm, axis=0)
    along_frequency = np.zeros_like(frames)
    along_frequency[:, 1:] = np.cumsum((per_bin[:, 1:] + per_bin[:, :-1]) / 2, axis=1)
    return along_time, along_frequency


def _find_anchors(frames: Array) -> NDArray[np.int64]:
    """Return the bin from which the phase of each bin is integrated, ``(frames, bins)``."""
    n_frames, n_bins = frames.shape
    is_first = np.zeros(frames.shape, dtype=bool)
    is_first[:, 0] = True
    inner = frames[:, 1:-1]
    is_first[:, 1:-1] = (inner < frames[:, :-2]) & (inner <= frames[:, 2:])  # a valley
    starts = np.flatnonzero(is_first)
    region = np.cumsum(is_first.ravel()) - 1
    stationary = np.zeros_like(frames)
    stationary[1:] = np.minimum(frames[1:], frames[:-1])
    strongest = np.maximum.reduceat(stationary.ravel(), starts)
    peaks = np.maximum.reduceat(frames.ravel(), starts)
    positions = np.flatnonzero(stationary.ravel() == strongest[region])[::-1]
    anchors = np.empty(len(starts), dtype=np.int64)
    anchors[region[positions]] = positions  # the last one written is the first position
    source = _find_nearest_continuing(
        anchors, strongest >= STATIONARY_RATIO * peaks, n_bins=n_bins
    )
    result: NDArray[np.int64] = (anchors[source][region] % n_bins).reshape(n_frames, n_bins)
    return result


def _find_nearest_continuing(
    anchors: NDArray[np.int64], continues: NDArray[np.bool_], *, n_bins: int
) -> NDArray[np.int64]:
    """Return for each region the nearest one of its frame that continues, else itself.

    Args:
        anchors: anchor of each region as an index into the flat spectrogram.
        continues: which regions continue along time.
        n_bins: bins per frame.
    """
    index = np.arange(len(anchors))
    frame, bins = np.divmod(anchors, n_bins)
    below = np.maximum.accumulate(np.where(continues, index, -1))
    above = np.minimum.accumulate(np.where(continues, index, len(index))[::-1])[::-1]

    def measure_distance(candidate: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the distance in bins; ``n_bins`` if there is none in the same frame."""
        clipped = candidate.clip(0, len(index) - 1)
        is_valid = (candidate == clipped) & (frame[clipped] == frame)
        return np.where(is_valid, np.abs(bins[clipped] - bins), n_bins)

    distance_below, distance_above = measure_distance(below), measure_distance(above)
    nearest = np.where(distance_below <= distance_above, below, above)
    return np.where(np.minimum(distance_below, distance_above) < n_bins, nearest, index)
