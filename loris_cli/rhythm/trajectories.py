"""Rhythm of moving points: the joints of a performer, or the cells of a video frame.

positions -> motion -> envelope -> peaks -> impacts, and again at lower rates to fill gaps
"""

from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from loris_cli.array_types import Array
from loris_cli.rhythm.directogram import directogram, frame_displacements, onset_envelope
from loris_cli.rhythm.impact_timing import PeakPlacement, interpolate_peaks, locate_impacts
from loris_cli.rhythm.peak_picking import FrameIndices, pick_peaks

MAX_GAP_S = 2.0
"""Longest time without a peak; a longer gap is filled with slower peaks."""

SUBSAMPLING_FACTORS = (2, 4)
"""The paper's rule is applied again at these fractions of the frame rate."""

GARROTE_THRESHOLD_SIGMAS = 2.0
"""Displacements below this many standard deviations of their noise are taken for noise."""

MIN_PEAK_DROP_SIGMAS, MIN_CLIP_DROP_SIGMAS = 5.0, 10.0
"""Smallest drop of speed at a peak, and at the hardest peak of a clip, in standard deviations
of the noise. Performers at rest reach 8 (docs/rhythm.md)."""

# The same in body sizes per frame: the noise does not include what a detector loses for a
# moment, or its slow drift.
MIN_PEAK_DROP_BODY_SIZES = 0.035
MIN_SLOW_PEAK_DROP_BODY_SIZES = 0.05
MIN_CLIP_DROP_BODY_SIZES = 0.1


@dataclass(frozen=True, kw_only=True)
class ImpactPeaks:
    """Peaks in frames, rising, as parallel arrays ``(peaks,)``."""

    frames: Array
    speed_drops: Array
    is_local_max: NDArray[np.bool_]
    """Whether the drop of speed is the greatest around."""
    weights: Array
    """Factor of the strength: below 1 for slower peaks that fill gaps."""

    def select(self, index: FrameIndices | NDArray[np.bool_] | list[int]) -> "ImpactPeaks":
        """Return the peaks of an index or a mask."""
        return ImpactPeaks(**{f.name: getattr(self, f.name)[index] for f in fields(self)})


def detect_trajectory_peaks(
    positions: Array,
    weights: Array,
    *,
    body_size: float,
    peak_placement: PeakPlacement = "impact",
    paper_exact: bool = False,
    fill_gaps: bool = True,
    fps: float = 16.0,
) -> tuple[Array, Array, Array]:
    """Return times, strengths and the onset envelope of moving points.

    Args:
        positions: ``(frames, points, 2)``, finite.
        weights: how far each motion is to be trusted, 0 to 1, ``(frames, points)``.
        body_size: of the performer, in the unit of the positions.
        peak_placement: where a peak is put in time.
        paper_exact: the paper to the letter: no noise is taken out, no peak is too weak.
        fill_gaps: look for slower peaks where the paper's rule finds none.
        fps: frames a second.

    Returns:
        times in seconds ``(peaks,)``, strengths ``(peaks,)`` from 0 to 1, and the envelope
        ``(frames,)`` before its normalisation.
    """
    noise = np.zeros(positions.shape[1]) if paper_exact else estimate_noise_std(positions)
    envelope, peaks = _detect_peaks(positions, weights, noise, peak_placement)
    if not paper_exact:
        peaks = _discard_weak_peaks(peaks, noise, MIN_PEAK_DROP_BODY_SIZES, body_size)
    for factor in SUBSAMPLING_FACTORS if fill_gaps and not paper_exact else ():
        # What the paper's rule finds in every second or fourth frame alone.
        width = factor / 2
        smooth = gaussian_filter1d(positions, width, axis=0, mode="nearest")[::factor]
        smooth_noise = noise / np.sqrt(2 * np.sqrt(np.pi) * width)
        _, slow = _detect_peaks(smooth, weights[::factor], smooth_noise, peak_placement)
        slow = _discard_weak_peaks(slow, smooth_noise, MIN_SLOW_PEAK_DROP_BODY_SIZES, body_size)
        slow = replace(
            slow,
            frames=slow.frames * factor,
            # The drop of an even deceleration grows with the square of the interval.
            speed_drops=slow.speed_drops / factor**2,
            weights=slow.weights / factor,
        )
        peaks = _fill_peak_gaps(peaks, slow, len(positions), MAX_GAP_S * fps)
    # A few hard impacts must not make all others inaudible, hence not the maximum.
    drops = peaks.speed_drops
    hardest = float(np.quantile(drops, 0.95)) if len(drops) else 0.0
    strengths = (drops / max(hardest, 1e-12)).clip(0, 1) * peaks.weights
    last_s = max(len(positions) - 1, 0) / fps
    return (peaks.frames / fps).clip(0, last_s), strengths, envelope


def resample_positions(positions: Array, times_s: Array, *, n_frames: int, fps: float) -> Array:
    """Interpolate positions at ``k / fps`` from those at given times.

    Linear between the frames: that keeps the centre of gravity of every change of speed, which
    is what an impact is timed by.

    Args:
        positions: ``(input frames, points, 2)``.
        times_s: not falling, ``(input frames,)``; a repeated frame counts once.
        n_frames: frames of the result.
        fps: frames a second of the result.

    Returns:
        ``(n_frames, points, 2)``; constant before the first input frame and after the last.
    """
    is_new = np.diff(times_s, prepend=-np.inf) > 1e-9
    times, known = times_s[is_new], positions[is_new]
    ticks_s = np.arange(n_frames) / fps
    right = np.searchsorted(times, ticks_s).clip(0, len(times) - 1)
    left = (right - 1).clip(min=0)
    step = np.maximum(times[right] - times[left], 1e-9)
    fraction = ((ticks_s - times[left]) / step).clip(0, 1)[:, None, None]
    return np.asarray(known[left] * (1 - fraction) + known[right] * fraction)


def estimate_noise_std(positions: Array) -> Array:
    """Return the standard deviation of the error of each point, along one axis.

    Third differences take out what moves smoothly and leave white noise 20 times as strong in
    power. Of their lengths the lower quartile counts, since a point is calm for a quarter of
    the time even in a dance; of a Rayleigh distribution it is 0.7585 standard deviations.

    Args:
        positions: ``(frames, points, 2)``.

    Returns:
        ``(points,)``, in the unit of the positions; zero for fewer than four frames.
    """
    if len(positions) < 4:
        return np.zeros(positions.shape[1])
    third = positions[3:] - positions[:-3] + 3 * (positions[1:-2] - positions[2:-1])
    quartile = np.quantile(_squared_lengths(third), 0.25, axis=0)
    return np.asarray(np.sqrt(quartile / 20) / 0.7585)


def garrote_shrink(displacements: Array, noise_std: Array) -> Array:
    """Shrink displacements by their noise: short ones to zero, long ones hardly.

    The non-negative garrote of Breiman (1995), 1 - (threshold / length)^2.

    Args:
        displacements: ``(frames, points, 2)``.
        noise_std: standard deviation of the positions, ``(points,)``.

    Returns:
        Shaped like ``displacements``.
    """
    # A difference of two positions has the errors of both, hence the root of two.
    threshold = GARROTE_THRESHOLD_SIGMAS * np.sqrt(2) * noise_std
    factor = 1 - threshold**2 / np.maximum(_squared_lengths(displacements), 1e-12)
    return np.asarray(displacements * factor.clip(min=0)[..., None])


def remove_outliers(positions: Array, *, body_size: float) -> Array:
    """Replace the positions of single frames in which a detector lost a point.

    A point that moves steadily through five frames but for the middle one is an outlier there.
    An impact is never taken for an outlier: after a stop or a rebound the motion is another. A
    plain median over three frames would blunt every rebound.

    Args:
        positions: ``(frames, points, 2)``.
        body_size: of the performer, in the unit of the positions.

    Returns:
        Shaped like ``positions``; an outlier is put midway between its neighbours.
    """
    if len(positions) < 5:
        return positions
    a, b, c, d, e = (positions[i : len(positions) - 4 + i] for i in range(5))
    step = (d - b) / 2
    tolerance = (5 * estimate_noise_std(positions) + 0.01 * body_size) ** 2
    is_outlier = _squared_lengths(c - (b + d) / 2) > tolerance
    for before_or_after in (b - a, e - d):
        is_outlier &= _squared_lengths(before_or_after - step) < tolerance
    cleaned = positions.copy()
    cleaned[2:-2][is_outlier] = ((b + d) / 2)[is_outlier]
    return cleaned


def remove_cut_jumps(positions: Array, cuts: FrameIndices, *, body_size: float) -> Array:
    """Return trajectories without the jumps at cuts.

    A frame into which most points jump half the size of the performer counts as a cut, too:
    that is eight body sizes a second, faster than any person moves.

    Args:
        positions: ``(frames, points, 2)``.
        cuts: frames that show another performer, or the same from elsewhere.
        body_size: of the performer, in the unit of the positions.

    Returns:
        Shaped like ``positions``; the motion into a cut is zero.
    """
    displacements = frame_displacements(positions)
    far = _squared_lengths(displacements) > (body_size / 2) ** 2
    is_cut = 2 * far.sum(axis=-1) > far.shape[1]
    is_cut[cuts] = True
    if not is_cut.any():
        return positions
    jumps = np.where(is_cut[:, None, None], displacements, 0.0)
    return np.asarray(positions - np.cumsum(jumps, axis=0))


def _squared_lengths(vectors: Array) -> Array:
    return np.asarray(np.einsum("fpd,fpd->fp", vectors, vectors))


def _detect_peaks(
    positions: Array, weights: Array, noise_std: Array, peak_placement: PeakPlacement
) -> tuple[Array, ImpactPeaks]:
    """Onset envelope of moving points, and its peaks, each at its time."""
    displacements = frame_displacements(positions)
    denoised = garrote_shrink(displacements, noise_std) * weights[..., None]
    envelope = onset_envelope(directogram(denoised))
    picked = pick_peaks(envelope)
    frames, drops, is_local_max = locate_impacts(picked, denoised, displacements)
    if peak_placement == "onset":
        frames = interpolate_peaks(picked, envelope)
    peaks = ImpactPeaks(
        frames=frames,
        speed_drops=drops,
        is_local_max=is_local_max,
        weights=np.ones(len(frames)),
    ).select(np.argsort(frames, kind="stable"))
    frames, drops = peaks.frames, peaks.speed_drops
    # Two peaks may share an impact: a rise on the way and a rise at the rebound.
    selected: list[int] = []
    for i in range(len(frames)):
        if not selected or frames[i] - frames[selected[-1]] >= 1:
            selected.append(i)
        elif drops[i] > drops[selected[-1]]:
            selected[-1] = i
    return envelope, peaks.select(selected)


def _discard_weak_peaks(
    peaks: ImpactPeaks, noise_std: Array, min_drop_body_sizes: float, body_size: float
) -> ImpactPeaks:
    """Keep the peaks that end in an impact and exceed the noise."""
    noise = float(np.median(noise_std))
    min_drop = max(MIN_PEAK_DROP_SIGMAS * noise, min_drop_body_sizes * body_size)
    min_clip_drop = max(MIN_CLIP_DROP_SIGMAS * noise, MIN_CLIP_DROP_BODY_SIZES * body_size)
    strong = peaks.is_local_max & (peaks.speed_drops >= min_drop)
    strong &= peaks.speed_drops[strong].max(initial=0.0) >= min_clip_drop
    return peaks.select(strong)


def _fill_peak_gaps(
    peaks: ImpactPeaks, slow_peaks: ImpactPeaks, n_frames: int, max_gap_frames: float
) -> ImpactPeaks:
    """Add slow peaks inside long gaps, at a distance from the peaks that bound them."""
    bounds = np.concatenate([[-np.inf], peaks.frames, [np.inf]])
    nearest = np.searchsorted(peaks.frames, slow_peaks.frames)
    left, right = bounds[nearest], bounds[nearest + 1]
    gap = right.clip(max=n_frames) - left.clip(min=0)
    distance = np.minimum(slow_peaks.frames - left, right - slow_peaks.frames)
    added = slow_peaks.select((gap > max_gap_frames) & (distance > max_gap_frames / 4))
    merged = ImpactPeaks(
        **{
            f.name: np.concatenate([getattr(peaks, f.name), getattr(added, f.name)])
            for f in fields(peaks)
        }
    )
    return merged.select(np.argsort(merged.frames, kind="stable"))
