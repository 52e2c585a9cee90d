"""Peak picking on an onset envelope.

    onset envelope -> peak frames

LORIS, Eq. 7, based on Boeck, Krebs and Schedl, "Evaluating the Online Capabilities of Onset
Detection Methods" (ISMIR 2012).
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from loris_cli.array_types import Array

FrameIndices = NDArray[np.intp]


@dataclass(frozen=True, kw_only=True)
class PeakPickingParams:
    """Windows and thresholds of Eq. 7, in frames; defaults from Sec. 5.1 of the paper."""

    max_radius: int = 3
    mean_radius: int = 2
    delta: float = 0.2
    delta_is_relative: bool = True
    wait: int = 1

    def scale_windows(self, factor: int) -> "PeakPickingParams":
        """Return the parameters with all windows multiplied by ``factor``."""
        windows = ("max_radius", "mean_radius", "wait")
        return replace(self, **{name: getattr(self, name) * factor for name in windows})


PAPER_PEAK_PICKING = PeakPickingParams()


def pick_peaks(envelope: Array, params: PeakPickingParams = PAPER_PEAK_PICKING) -> FrameIndices:
    """Return the frames that are local maxima and exceed the local mean, Eq. 7.

    Windows are centred, include both ends and are truncated at the edges of the clip. Zero is
    never a peak: with a threshold relative to the local maximum, every frame without motion
    would be one.

    Args:
        envelope: ``(frames,)``, non-negative.
        params: windows and thresholds.

    Returns:
        Increasing frame indices, more than ``params.wait`` apart. Of two closer peaks, the
        earlier one is retained.
    """
    if not len(envelope):
        return np.zeros(0, dtype=np.intp)
    wide = np.pad(envelope, params.max_radius, constant_values=-np.inf)
    greatest = sliding_window_view(wide, 2 * params.max_radius + 1).max(axis=-1)
    window = np.ones(2 * params.mean_radius + 1)
    middle = slice(params.mean_radius, params.mean_radius + len(envelope))
    count = np.convolve(np.ones_like(envelope), window)[middle]
    mean = np.convolve(envelope, window)[middle] / count
    delta = params.delta * (greatest if params.delta_is_relative else 1.0)
    # Without the tolerance, a value equal to its threshold would depend on rounding errors.
    above = envelope >= mean + delta - 1e-12
    candidates = np.flatnonzero((envelope == greatest) & above & (envelope > 0))
    peaks: list[int] = []
    for frame in candidates.tolist():
        if not peaks or frame - peaks[-1] > params.wait:
            peaks.append(frame)
    return np.array(peaks, dtype=np.intp)


def pick_peaks_official(envelope: Array) -> FrameIndices:
    """Return the peaks of the released code, including its faults.

    The windows extend forward only, ``[n, n + 5]`` for the maximum and ``[n, n + 3]`` for the
    mean. The threshold is a tenth of the mean of the whole clip. Of two adjacent peaks the
    later one is retained. The last five frames never contain a peak. The released networks were
    trained on these peaks (docs/differences.md, R3 to R6).

    Args:
        envelope: onset envelope without its two leading zeros, ``(frames - 2,)``.

    Returns:
        Increasing indices into ``envelope``.
    """
    if len(envelope) < 6:
        return np.zeros(0, dtype=np.intp)
    greatest = sliding_window_view(envelope, 6).max(axis=-1)
    mean = sliding_window_view(envelope, 4).mean(axis=-1)[: len(greatest)]
    value = envelope[: len(greatest)]
    is_peak = (value == greatest) & (value >= mean + 0.1 * envelope.mean()) & (value > 0)
    is_peak[:-1] &= ~is_peak[1:]
    return np.flatnonzero(is_peak)
