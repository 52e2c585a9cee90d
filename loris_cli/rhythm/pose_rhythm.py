"""Rhythm and motion energy of a performer from keypoints.

keypoints -> positions -> rhythm
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d, median_filter

from loris_cli.array_types import Array
from loris_cli.config import POSE_FPS
from loris_cli.errors import InputError
from loris_cli.rhythm import trajectories
from loris_cli.rhythm.directogram import (
    Compat,
    directogram,
    frame_displacements,
    normalize_by_max,
    onset_envelope,
)
from loris_cli.rhythm.impact_timing import PeakPlacement
from loris_cli.rhythm.peak_picking import pick_peaks, pick_peaks_official
from loris_cli.rhythm.rhythm_file import Rhythm
from loris_cli.rhythm.trajectories import resample_positions

Cuts = Sequence[int] | NDArray[np.int64]


def rhythm_from_poses(
    keypoints: Array,
    *,
    fps: float = POSE_FPS,
    compat: Compat = "paper",
    peak_placement: PeakPlacement = "impact",
    paper_exact: bool = False,
    fill_gaps: bool = True,
    source_times_s: Array | None = None,
    cuts: Cuts = (),
) -> Rhythm:
    """Compute the rhythm of a performer: times and strengths of the impacts in the motion.

    Args:
        keypoints: x and y in pixels and a score from 0 to 1, ``(frames, joints, 3)``.
            Non-finite positions are interpolated over time.
        fps: frames per second.
        compat: ``"paper"``; ``"official"`` for the bins and peaks of the released code; or
            ``"strict"`` for Eq. 4 to 7 only. With the last two, peaks are on frames and the
            options below have no effect.
        peak_placement: ``"impact"`` places a peak where the motion stops, ``"onset"`` at the
            maximum of the envelope, as in the paper.
        paper_exact: disable all additions to the paper: score weights, denoising, the minimum
            peak strength and gap filling (docs/differences.md, R7).
        fill_gaps: add slower peaks where the paper's rule finds none for two seconds.
        source_times_s: presentation time of the video frame of each pose, ``(frames,)``, if
            known. The pose at ``k / fps`` is then interpolated between two frames. Otherwise
            the sampled frame is up to one interval old, by a varying amount: at 25 fps this
            adds a spurious rhythm, and peaks are late by half an interval.
        cuts: frames that show a different performer than the previous frame.

    Returns:
        Peaks, and an envelope with one value per frame; its first two values are zero.

    Raises:
        InputError: the array has the wrong shape.
    """
    positions, scores = split_positions_and_scores(keypoints)
    if compat == "official":
        displacements = frame_displacements(positions.astype(np.float32).astype(np.float64))
        histogram = directogram(displacements, compat="official")
        envelope = normalize_by_max(onset_envelope(histogram))
        frames = pick_peaks_official(envelope[2:]) + 2
        times, strengths = frames / fps, envelope[frames]
    elif compat == "strict":
        envelope = normalize_by_max(onset_envelope(directogram(frame_displacements(positions))))
        frames = pick_peaks(envelope)
        times, strengths = frames / fps, envelope[frames]
    else:
        if paper_exact:
            weights, body_size = np.ones_like(scores), 1.0
        else:
            weights = np.minimum(scores, np.concatenate([scores[:1], scores[:-1]]))
            positions, body_size = clean_positions(positions, scores, cuts)
        if source_times_s is not None and len(positions):
            positions = resample_positions(
                positions, source_times_s, n_frames=len(positions), fps=fps
            )
        times, strengths, onsets = trajectories.detect_trajectory_peaks(
            positions,
            weights,
            body_size=body_size,
            peak_placement=peak_placement,
            paper_exact=paper_exact,
            fill_gaps=fill_gaps,
            fps=fps,
        )
        envelope = normalize_by_max(onsets)
    return Rhythm(
        times_s=times,
        strengths=strengths,
        envelope=envelope,
        envelope_rate_hz=fps,
        method="directogram",
        compat=compat,
        duration_s=len(positions) / fps,
    )


def frame_timestamps(n_frames: int, frame_interval_s: float, *, fps: float = POSE_FPS) -> Array:
    """Return the times of the frames displayed at ``k / fps``, ``(n_frames,)``, if constant."""
    # The tolerance includes a frame presented exactly at k / fps despite rounding.
    intervals = np.floor(np.arange(n_frames) / fps / frame_interval_s + 1e-3)
    return np.asarray(intervals * frame_interval_s)


def motion_energy(keypoints: Array, fps: float = POSE_FPS, *, cuts: Cuts = ()) -> Array:
    """Return the motion energy of a performer, from 0 at rest to 1 at the maximum.

    The energy is the mean joint speed in body sizes per second, smoothed over about a third of
    a second and divided by its 98th percentile, which is less sensitive to outliers than the
    maximum.

    Args:
        keypoints: ``(frames, joints, 3)``, as for ``rhythm_from_poses``.
        fps: frames per second.
        cuts: frames that show a different performer than the previous frame.

    Returns:
        ``(frames,)``, 0 to 1.
    """
    positions, scores = split_positions_and_scores(keypoints)
    if not len(positions):
        return np.zeros(0)
    sizes = np.linalg.norm(np.ptp(positions, axis=1), axis=-1)
    # Normalization by the local size excludes zooms from the motion.
    sizes = median_filter(sizes, 2 * round(fps) + 1, mode="nearest")
    cleaned, _ = clean_positions(positions, scores, cuts)
    noise_std = trajectories.estimate_noise_std(cleaned)
    displacements = trajectories.garrote_shrink(frame_displacements(cleaned), noise_std)
    speeds = np.linalg.norm(displacements, axis=-1)
    speed = (speeds * scores).mean(axis=-1) * fps / np.maximum(sizes, 1.0)
    smooth = gaussian_filter1d(speed, 0.15 * fps, mode="nearest")
    # A standing, swaying person reaches 0.02 body sizes per second, which must count as rest.
    maximum = max(float(np.quantile(smooth, 0.98)), 0.05)
    return np.asarray((smooth / maximum).clip(0, 1))


def pose_directogram(keypoints: Array) -> Array:
    """Return the paper's directogram of raw poses.

    Args:
        keypoints: ``(frames, joints, 3)``, as for ``rhythm_from_poses``.

    Returns:
        ``(frames, 10)``, in pixels per frame.
    """
    return directogram(frame_displacements(split_positions_and_scores(keypoints)[0]))


def clean_positions(positions: Array, scores: Array, cuts: Cuts) -> tuple[Array, float]:
    """Remove jumps at cuts and outliers.

    Args:
        positions: ``(frames, joints, 2)``, in pixels.
        scores: ``(frames, joints)``, 0 to 1.
        cuts: frames that show a different performer than the previous frame, ``(cuts,)``.

    Returns:
        Cleaned positions, same shape, and the body size in pixels.
    """
    body_size = estimate_body_size(positions, scores)
    cut_frames = np.asarray(cuts, dtype=np.intp)
    continuous = trajectories.remove_cut_jumps(positions, cut_frames, body_size=body_size)
    return trajectories.remove_outliers(continuous, body_size=body_size), body_size


def estimate_body_size(positions: Array, scores: Array) -> float:
    """Return the median diagonal of the bounding box of detected joints, in pixels.

    Args:
        positions: ``(frames, joints, 2)``, in pixels.
        scores: ``(frames, joints)``, 0 to 1; joints above 0.1 count as detected.

    Returns:
        Body size, at least 1; 1 if no joint is detected.
    """
    is_detected = (scores > 0.1)[..., None]
    low = np.where(is_detected, positions, np.inf).min(axis=1, initial=np.inf)
    high = np.where(is_detected, positions, -np.inf).max(axis=1, initial=-np.inf)
    sizes = np.linalg.norm((high - low)[is_detected.any(axis=(1, 2))], axis=-1)
    return max(float(np.median(sizes)), 1.0) if len(sizes) else 1.0


def split_positions_and_scores(keypoints: Array) -> tuple[Array, Array]:
    """Split keypoints; non-finite positions are interpolated and get score 0.

    Args:
        keypoints: x and y in pixels and a score, ``(frames, joints, 3)``.

    Returns:
        Positions ``(frames, joints, 2)`` and scores ``(frames, joints)``, 0 to 1.

    Raises:
        InputError: the array has the wrong shape.
    """
    keypoints = np.asarray(keypoints, dtype=np.float64)
    if keypoints.ndim != 3 or keypoints.shape[-1] != 3:
        message = f"keypoints have shape {keypoints.shape}, expected (frames, joints, 3)"
        raise InputError(message, hint="extract poses with `loris pose VIDEO`")
    scores = np.nan_to_num(keypoints[..., 2], nan=0.0, posinf=0.0, neginf=0.0).clip(0, 1)
    positions = keypoints[..., :2].copy()
    is_missing = np.asarray(~np.isfinite(positions).all(axis=-1))
    scores[is_missing] = 0.0
    for joint in np.flatnonzero(is_missing.any(axis=0)):
        missing = np.flatnonzero(is_missing[:, joint])
        known = np.flatnonzero(~is_missing[:, joint])
        for column in positions[:, joint].T:
            column[missing] = np.interp(missing, known, column[known]) if len(known) else 0.0
    return positions, scores
