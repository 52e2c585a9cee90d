"""Rhythm of point trajectories: the joints of a performer, or the cells of a video frame.

positions -> motion -> envelope -> peaks -> impacts; repeated at lower rates to fill gaps
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
"""Longer gaps between peaks are filled with peaks of slower motion."""

SUBSAMPLING_FACTORS = (2, 4)
"""Factors of the frame rate reduction at which peak picking is repeated for slower motion."""

BLOCK_FRAMES, BLOCK_MARGIN_FRAMES = 2048, 16
"""Length of the blocks of motion, which limit the memory for long videos, and their overlap:
more than `locate_impacts` reads before and after a peak."""

BLOCK_POINTS = 16
"""Points whose noise is estimated together."""

GARROTE_THRESHOLD_SIGMAS = 2.0
"""Displacements below this number of standard deviations of their noise are set to zero."""

MIN_PEAK_DROP_SIGMAS, MIN_CLIP_DROP_SIGMAS = 5.0, 10.0
"""Minimum speed drop of a peak, and of the strongest peak of a clip, in standard deviations of
the noise. Performers at rest reach 8 (docs/experiments/rhythm.md)."""

# The same limits in body sizes per frame, because the noise estimate does not include short
# detection failures and slow detector drift.
MIN_PEAK_DROP_BODY_SIZES = 0.035
MIN_SLOW_PEAK_DROP_BODY_SIZES = 0.05
MIN_CLIP_DROP_BODY_SIZES = 0.1


@dataclass(frozen=True, kw_only=True)
class ImpactPeaks:
    """Peaks as parallel arrays ``(peaks,)``, in increasing order of time."""

    frames: Array
    speed_drops: Array
    is_local_max: NDArray[np.bool_]
    """Whether the speed drop is a local maximum."""
    weights: Array
    """Factor of the strength; below 1 for slower peaks that fill gaps."""

    def select(self, index: FrameIndices | NDArray[np.bool_] | list[int]) -> "ImpactPeaks":
        """Return the peaks selected by indices or a mask."""
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
    """Detect peaks in the motion of points.

    Args:
        positions: ``(frames, points, 2)``, finite.
        weights: confidence of each displacement, 0 to 1, ``(frames, points)``.
        body_size: size of the performer, in the unit of the positions.
        peak_placement: placement of peaks, at the impact or at the maximum of the envelope.
        paper_exact: disable denoising, the minimum peak strength and gap filling.
        fill_gaps: add peaks of slower motion in long gaps.
        fps: frames per second.

    Returns:
        Times in seconds ``(peaks,)``; strengths ``(peaks,)``, 0 to 1; and the onset envelope
        ``(frames,)``, not normalized.
    """
    noise = np.zeros(positions.shape[1]) if paper_exact else estimate_noise_std(positions)
    envelope, peaks = _detect_peaks(positions, weights, noise, peak_placement)
    if not paper_exact:
        peaks = _discard_weak_peaks(peaks, noise, MIN_PEAK_DROP_BODY_SIZES, body_size)
    for factor in SUBSAMPLING_FACTORS if fill_gaps and not paper_exact else ():
        # Apply the paper's rule to every second, then to every fourth frame.
        width = factor / 2
        smooth = gaussian_filter1d(positions, width, axis=0, mode="nearest")[::factor].copy()
        smooth_noise = noise / np.sqrt(2 * np.sqrt(np.pi) * width)
        _, slow = _detect_peaks(smooth, weights[::factor], smooth_noise, peak_placement)
        slow = _discard_weak_peaks(slow, smooth_noise, MIN_SLOW_PEAK_DROP_BODY_SIZES, body_size)
        slow = replace(
            slow,
            frames=slow.frames * factor,
            # At constant deceleration, the drop is proportional to the squared interval.
            speed_drops=slow.speed_drops / factor**2,
            weights=slow.weights / factor,
        )
        peaks = _fill_peak_gaps(peaks, slow, len(positions), MAX_GAP_S * fps)
    # Dividing by the maximum would make most peaks too weak if a clip has a few hard impacts.
    drops = peaks.speed_drops
    hardest = float(np.quantile(drops, 0.95)) if len(drops) else 0.0
    strengths = (drops / max(hardest, 1e-12)).clip(0, 1) * peaks.weights
    last_s = max(len(positions) - 1, 0) / fps
    return (peaks.frames / fps).clip(0, last_s), strengths, envelope


def resample_positions(positions: Array, times_s: Array, *, n_frames: int, fps: float) -> Array:
    """Resample positions from given times to ``k / fps`` by linear interpolation.

    Linear interpolation preserves the centroid of every change of speed, which determines the
    time of an impact.

    Args:
        positions: ``(input frames, points, 2)``.
        times_s: non-decreasing times, ``(input frames,)``; repeated frames are dropped.
        n_frames: number of output frames.
        fps: frame rate of the output.

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
    """Estimate the standard deviation of each point's noise, along one axis.

    Third differences remove smooth motion and multiply the variance of white noise by 20. The
    estimate uses the lower quartile of their magnitudes, since a point is nearly at rest at
    least a quarter of the time, even in a dance. The lower quartile of a Rayleigh distribution
    is 0.7585 standard deviations.

    Args:
        positions: ``(frames, points, 2)``.

    Returns:
        ``(points,)``, in the unit of the positions; zero for fewer than four frames.
    """
    if len(positions) < 4:
        return np.zeros(positions.shape[1])
    quartiles = []
    for start in range(0, positions.shape[1], BLOCK_POINTS):
        block = positions[:, start : start + BLOCK_POINTS]
        third = block[3:] - block[:-3] + 3 * (block[1:-2] - block[2:-1])
        quartiles.append(np.quantile(_squared_lengths(third), 0.25, axis=0))
    return np.asarray(np.sqrt(np.concatenate(quartiles) / 20) / 0.7585)


def garrote_shrink(displacements: Array, noise_std: Array) -> Array:
    """Denoise displacements by shrinkage: short ones become zero, long ones hardly change.

    The factor is the non-negative garrote of Breiman (1995), 1 - (threshold / length)^2.

    Args:
        displacements: ``(frames, points, 2)``.
        noise_std: standard deviation of the position noise, ``(points,)``.

    Returns:
        Shrunk displacements, same shape.
    """
    # The variance of a difference of two positions is twice that of one position.
    threshold = GARROTE_THRESHOLD_SIGMAS * np.sqrt(2) * noise_std
    factor = 1 - threshold**2 / np.maximum(_squared_lengths(displacements), 1e-12)
    return np.asarray(displacements * factor.clip(min=0)[..., None])


def remove_outliers(positions: Array, *, body_size: float) -> Array:
    """Replace outliers, single frames in which the detector lost a point.

    A position is an outlier if the point moves at constant velocity through five frames except
    for the middle one. An impact is never an outlier, because the velocity differs after a stop
    or a rebound. A median filter over three frames would attenuate every rebound.

    Args:
        positions: ``(frames, points, 2)``.
        body_size: size of the performer, in the unit of the positions.

    Returns:
        Positions, same shape; an outlier is replaced by the midpoint of its neighbours.
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
    """Remove jumps at cuts from trajectories.

    A frame in which most points jump by more than half the body size is also treated as a cut:
    at 16 fps this is eight body sizes per second, faster than a person can move.

    Args:
        positions: ``(frames, points, 2)``.
        cuts: frames that show another performer or another camera position than the previous
            frame.
        body_size: size of the performer, in the unit of the positions.

    Returns:
        Positions, same shape; the displacement into a cut frame is zero.
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
    """Compute the onset envelope of moving points, and its peaks with their times."""
    starts = range(0, max(len(positions), 1), BLOCK_FRAMES)
    histograms = []
    for start in starts:
        denoised, _ = _block_motion(positions, weights, noise_std, start, start + BLOCK_FRAMES)
        histograms.append(directogram(denoised))
    envelope = onset_envelope(np.concatenate(histograms))
    picked = pick_peaks(envelope)
    impacts = []
    for start in starts:
        inside = picked[(picked >= start) & (picked < start + BLOCK_FRAMES)]
        first = max(start - BLOCK_MARGIN_FRAMES, 0)
        stop = start + BLOCK_FRAMES + BLOCK_MARGIN_FRAMES
        motion = _block_motion(positions, weights, noise_std, first, stop)
        block_frames, block_drops, are_local_max = locate_impacts(inside - first, *motion)
        impacts.append((block_frames + first, block_drops, are_local_max))
    columns = (np.concatenate(column) for column in zip(*impacts, strict=True))
    frames, drops, is_local_max = columns
    if peak_placement == "onset":
        frames = interpolate_peaks(picked, envelope)
    peaks = ImpactPeaks(
        frames=frames,
        speed_drops=drops,
        is_local_max=is_local_max,
        weights=np.ones(len(frames)),
    ).select(np.argsort(frames, kind="stable"))
    frames, drops = peaks.frames, peaks.speed_drops
    # Two peaks may map to the same impact: one from the approach, one from the rebound.
    selected: list[int] = []
    for i in range(len(frames)):
        if not selected or frames[i] - frames[selected[-1]] >= 1:
            selected.append(i)
        elif drops[i] > drops[selected[-1]]:
            selected[-1] = i
    return envelope, peaks.select(selected)


def _block_motion(
    positions: Array, weights: Array, noise_std: Array, start: int, stop: int
) -> tuple[Array, Array]:
    """Return the denoised, weighted displacements and the displacements of a frame range."""
    rows = positions[max(start - 1, 0) : stop]
    displacements = frame_displacements(rows)[min(start, 1) :]
    denoised = garrote_shrink(displacements, noise_std) * weights[start:stop, :, None]
    return denoised, displacements


def _discard_weak_peaks(
    peaks: ImpactPeaks, noise_std: Array, min_drop_body_sizes: float, body_size: float
) -> ImpactPeaks:
    """Discard peaks that do not end in an impact or do not exceed the noise."""
    noise = float(np.median(noise_std))
    min_drop = max(MIN_PEAK_DROP_SIGMAS * noise, min_drop_body_sizes * body_size)
    min_clip_drop = max(MIN_CLIP_DROP_SIGMAS * noise, MIN_CLIP_DROP_BODY_SIZES * body_size)
    strong = peaks.is_local_max & (peaks.speed_drops >= min_drop)
    strong &= peaks.speed_drops[strong].max(initial=0.0) >= min_clip_drop
    return peaks.select(strong)


def _fill_peak_gaps(
    peaks: ImpactPeaks, slow_peaks: ImpactPeaks, n_frames: int, max_gap_frames: float
) -> ImpactPeaks:
    """Add slow peaks in long gaps, away from the peaks at both ends of the gap."""
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
