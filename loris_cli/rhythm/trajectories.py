"""The rhythm of points that move: the joints of a body, or the cells of a picture.

positions -> motion -> envelope -> peaks -> impacts, and again, slower, where none was found
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from loris_cli.rhythm.directogram import directogram, frame_displacements, onset_envelope
from loris_cli.rhythm.impact_timing import (
    FrameIndices,
    PeakPlacement,
    interpolate_peak_frames,
    locate_impacts,
)
from loris_cli.rhythm.peak_picking import pick_peaks

Array = NDArray[np.float64]

MAX_GAP_S = 2.0
"""Where no peak was found for so long, slower ones are looked for."""

SUBSAMPLING_FACTORS = (2, 4)
"""The paper's rule is tried again at these fractions of the frame rate."""

GARROTE_THRESHOLD_SIGMAS = 2.0
"""Motions below so many standard deviations of their noise are taken for noise."""

MIN_PEAK_DROP_SIGMAS, MIN_CLIP_DROP_SIGMAS = 5.0, 10.0
"""A peak must drop by so many standard deviations of the noise, the hardest of a clip by the
second number. Bodies at rest reach 8 (docs/rhythm.md)."""

MIN_PEAK_DROP_BODY_SIZES, MIN_SLOW_PEAK_DROP_BODY_SIZES, MIN_CLIP_DROP_BODY_SIZES = (
    0.035,
    0.05,
    0.1,
)
"""The same in sizes of the body, in one frame: of what a detector loses for a moment, or lets
wander, the noise says too little."""


@dataclass(frozen=True, kw_only=True)
class ImpactPeaks:
    """Moments in frames, the drop of speed in each, and whether it is the greatest around."""

    frames: Array
    speed_drops: Array
    is_local_max: NDArray[np.bool_]


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
    """Times, strengths and the envelope of moving points.

    Args:
        positions: ``(frames, points, 2)``, finite.
        weights: how far each motion is to be trusted, 0 to 1, ``(frames, points)``.
        body_size: of the body, in the unit of the positions.
        peak_placement: where a peak is put in time.
        paper_exact: the paper to the letter: no noise is taken out, no peak is too weak.
        fill_gaps: look for slower peaks where the paper's rule finds none.
        fps: frames a second.

    Returns:
        times in seconds ``(peaks,)``, strengths ``(peaks,)`` from 0 to 1, and the envelope
        ``(frames,)`` before its normalisation.
    """
    noise = np.zeros(positions.shape[1]) if paper_exact else estimate_noise_std(positions)
    envelope, momentum, motions = _compute_motion(positions, weights, noise)
    found = _locate_peaks(envelope, momentum, motions, peak_placement)
    if not paper_exact:
        found = _discard_weak_peaks(
            found, float(np.median(noise)), MIN_PEAK_DROP_BODY_SIZES, body_size
        )
    marks = np.ones(len(found.frames))
    if fill_gaps and not paper_exact:
        for factor in SUBSAMPLING_FACTORS:
            # What the paper's rule finds when only every second or fourth frame is seen.
            width = factor / 2
            calm = gaussian_filter1d(positions, width, axis=0, mode="nearest")[::factor]
            left = noise / np.sqrt(2 * np.sqrt(np.pi) * width)  # what the filter leaves of it
            movement = _compute_motion(calm, weights[::factor], left)
            slow = _locate_peaks(*movement, peak_placement)
            slow = _discard_weak_peaks(
                slow, float(np.median(left)), MIN_SLOW_PEAK_DROP_BODY_SIZES, body_size
            )
            # The drop of an even deceleration grows with the square of the interval.
            slow = replace(
                slow, frames=slow.frames * factor, speed_drops=slow.speed_drops / factor**2
            )
            found, marks = _fill_peak_gaps(found, marks, slow, 1 / factor, len(positions), fps)
    # A few hard blows must not make all others inaudible, hence not the maximum.
    hardest = float(np.quantile(found.speed_drops, 0.95)) if len(found.speed_drops) else 0.0
    strengths = (found.speed_drops / max(hardest, 1e-12)).clip(0, 1) * marks
    last_s = max(len(positions) - 1, 0) / fps
    return (found.frames / fps).clip(0, last_s), strengths, envelope


def _compute_motion(
    positions: Array, weights: Array, noise_std: Array
) -> tuple[Array, Array, Array]:
    """Envelope, motion without noise, and motion as measured."""
    motions = frame_displacements(positions)
    momentum = garrote_shrink(motions, noise_std) * weights[..., None]
    return onset_envelope(directogram(momentum)), momentum, motions


def resample_trajectories(
    positions: Array, timestamps_s: Array, *, n_frames: int, fps: float
) -> Array:
    """Where points are at ``k / fps``, from where they were when seen.

    Straight lines between the pictures: they keep the centre of gravity of every change of
    speed, which is what an impact is timed by.

    Args:
        positions: ``(pictures, points, 2)``.
        timestamps_s: not falling, ``(pictures,)``; a picture that is seen twice counts once.
        n_frames: frames of the result.
        fps: frames a second of the result.

    Returns:
        ``(n_frames, points, 2)``; before the first picture and after the last nothing moves.
    """
    fresh = np.diff(timestamps_s, prepend=-np.inf) > 1e-9
    times, known = timestamps_s[fresh], positions[fresh]
    wanted = np.arange(n_frames) / fps
    right = np.searchsorted(times, wanted).clip(0, len(times) - 1)
    left = (right - 1).clip(min=0)
    step = np.maximum(times[right] - times[left], 1e-9)
    share = ((wanted - times[left]) / step).clip(0, 1)[:, None, None]
    between: Array = known[left] * (1 - share) + known[right] * share
    return between


def estimate_noise_std(positions: Array) -> Array:
    """Standard deviation of the error of each point, along one axis.

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
    squares = np.einsum("fpd,fpd->fp", third, third)
    quartile: Array = np.sqrt(np.quantile(squares, 0.25, axis=0) / 20) / 0.7585
    return quartile


def garrote_shrink(displacements: Array, noise_std: Array) -> Array:
    """Motion without what may be noise: nothing of the short ways, nearly all of the long.

    The non-negative garrote of Breiman (1995), 1 - (threshold / length)^2.

    Args:
        displacements: ``(frames, points, 2)``.
        noise_std: standard deviation of the positions, ``(points,)``.

    Returns:
        Shaped like ``displacements``.
    """
    threshold = (
        GARROTE_THRESHOLD_SIGMAS * np.sqrt(2) * noise_std
    )  # a difference of two positions has both errors
    squares = np.einsum("fpd,fpd->fp", displacements, displacements)
    kept = 1 - threshold**2 / np.maximum(squares, 1e-12)
    momentum: Array = displacements * kept.clip(min=0)[..., None]
    return momentum


def remove_outliers(positions: Array, *, body_size: float) -> Array:
    """Positions without the single frames in which a detector lost a point.

    A point that moves steadily through five frames but for the middle one has slipped there.
    A strike is never taken for a slip: after a stop or a rebound nothing goes on as before. A
    plain median over three frames would blunt every rebound.

    Args:
        positions: ``(frames, points, 2)``.
        body_size: of the body, in the unit of the positions.

    Returns:
        Shaped like ``positions``; a slip is put midway between its neighbours.
    """
    if len(positions) < 5:
        return positions
    a, b, c, d, e = (positions[i : len(positions) - 4 + i] for i in range(5))
    step = (d - b) / 2
    tolerance = (5 * estimate_noise_std(positions) + 0.01 * body_size) ** 2

    def squares(vectors: Array) -> Array:
        return np.asarray(np.einsum("fpd,fpd->fp", vectors, vectors))

    steady = (squares(b - a - step) < tolerance) & (squares(e - d - step) < tolerance)
    slipped = steady & (squares(c - (b + d) / 2) > tolerance)
    mended = positions.copy()
    mended[2:-2][slipped] = ((b + d) / 2)[slipped]
    return mended


def remove_cut_jumps(positions: Array, cuts: FrameIndices, *, body_size: float) -> Array:
    """The paths of the points without the jumps at cuts.

    A frame into which most points jump half the size of the body counts as a cut, too: that
    is eight body sizes a second, which nobody moves at.

    Args:
        positions: ``(frames, points, 2)``.
        cuts: frames that show another body, or the same from elsewhere.
        body_size: of the body, in the unit of the positions.

    Returns:
        Shaped like ``positions``; the motion into a cut is zero.
    """
    motions = frame_displacements(positions)
    far = np.einsum("fpd,fpd->fp", motions, motions) > (body_size / 2) ** 2
    is_cut = 2 * far.sum(axis=-1) > far.shape[1]
    is_cut[cuts] = True
    if not is_cut.any():
        return positions
    jumps = np.where(is_cut[:, None, None], motions, 0.0)
    whole: Array = positions - np.cumsum(jumps, axis=0)
    return whole


def _locate_peaks(
    envelope: Array,
    denoised_displacements: Array,
    displacements: Array,
    peak_placement: PeakPlacement,
) -> ImpactPeaks:
    """Pick the peaks of an envelope and put each at its time."""
    frames = pick_peaks(envelope)
    at, drops, summits = locate_impacts(frames, denoised_displacements, displacements)
    if peak_placement == "onset":
        at = interpolate_peak_frames(frames, envelope)
    order = np.argsort(at, kind="stable")
    at, drops, summits = at[order], drops[order], summits[order]
    # Two peaks may share an impact: a rise on the way and a rise at the rebound.
    kept: list[int] = []
    for i in range(len(at)):
        if not kept or at[i] - at[kept[-1]] >= 1:
            kept.append(i)
        elif drops[i] > drops[kept[-1]]:
            kept[-1] = i
    return ImpactPeaks(frames=at[kept], speed_drops=drops[kept], is_local_max=summits[kept])


def _discard_weak_peaks(
    peaks: ImpactPeaks, noise_std: float, min_drop_body_sizes: float, body_size: float
) -> ImpactPeaks:
    """Only the peaks that end in an impact and are more than noise."""
    least = max(MIN_PEAK_DROP_SIGMAS * noise_std, min_drop_body_sizes * body_size)
    stays = peaks.is_local_max & (peaks.speed_drops >= least)
    if peaks.speed_drops[stays].max(initial=0.0) < max(
        MIN_CLIP_DROP_SIGMAS * noise_std, MIN_CLIP_DROP_BODY_SIZES * body_size
    ):
        stays[:] = False
    return ImpactPeaks(
        frames=peaks.frames[stays],
        speed_drops=peaks.speed_drops[stays],
        is_local_max=peaks.is_local_max[stays],
    )


def _fill_peak_gaps(
    peaks: ImpactPeaks,
    weights: Array,
    slow_peaks: ImpactPeaks,
    slow_weight: float,
    n_frames: int,
    fps: float,
) -> tuple[ImpactPeaks, Array]:
    """Add slow peaks inside the gaps, at a distance from the peaks that bound them."""
    bounds = np.concatenate([[-np.inf], peaks.frames, [np.inf]])
    nearest = np.searchsorted(peaks.frames, slow_peaks.frames)
    left, right = bounds[nearest], bounds[nearest + 1]
    gap = right.clip(max=n_frames) - left.clip(min=0)
    apart = np.minimum(slow_peaks.frames - left, right - slow_peaks.frames)
    chosen = (gap > MAX_GAP_S * fps) & (apart > MAX_GAP_S * fps / 4)
    frames = np.concatenate([peaks.frames, slow_peaks.frames[chosen]])
    drops = np.concatenate([peaks.speed_drops, slow_peaks.speed_drops[chosen]])
    summits = np.concatenate([peaks.is_local_max, slow_peaks.is_local_max[chosen]])
    weights = np.concatenate([weights, np.full(int(chosen.sum()), slow_weight)])
    order = np.argsort(frames, kind="stable")
    whole = ImpactPeaks(
        frames=frames[order], speed_drops=drops[order], is_local_max=summits[order]
    )
    return whole, weights[order]
