"""The rhythm of a body, and how lively it is.

keypoints -> positions -> rhythm
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d, median_filter

from loris_cli.config import POSE_FPS
from loris_cli.errors import InputError
from loris_cli.rhythm.directogram import (
    Compat,
    directogram,
    frame_displacements,
    normalize_by_max,
    onset_envelope,
)
from loris_cli.rhythm.impact_timing import PeakPlacement
from loris_cli.rhythm.peak_picking import pick_peaks_official
from loris_cli.rhythm.rhythm_file import Rhythm
from loris_cli.rhythm.trajectories import (
    detect_trajectory_peaks,
    estimate_noise_std,
    garrote_shrink,
    remove_cut_jumps,
    remove_outliers,
    resample_trajectories,
)

Array = NDArray[np.float64]


def rhythm_from_poses(
    keypoints: Array,
    *,
    fps: float = POSE_FPS,
    compat: Compat = "paper",
    peak_placement: PeakPlacement = "impact",
    paper_exact: bool = False,
    fill_gaps: bool = True,
    frame_interval_s: float | None = None,
    cuts: Sequence[int] | NDArray[np.int64] = (),
) -> Rhythm:
    """The moments at which a body stresses its movement.

    Args:
        keypoints: x and y in pixels and a score from 0 to 1, ``(frames, joints, 3)``. What is
            not finite is filled in from the frames around it.
        fps: frames a second.
        compat: ``"paper"``, or ``"official"`` for what the released code computes: its bins and
            its peaks, each at its frame. The options below then have no say.
        peak_placement: ``"impact"`` puts a peak where the movement stops, ``"onset"`` at the top of
            the envelope, as the paper does.
        paper_exact: the paper to the letter: every joint weighs the same, no noise is taken out, no
            peak is too weak and no gap is filled.
        fill_gaps: look for slower peaks where the paper's rule finds none for two seconds.
        frame_interval_s: time between pictures of the video, where known. The body at ``k / fps`` is
            then taken from between two pictures. Without it the picture on the screen is up to
            one interval old, and unevenly so: at 25 a second that looks like a rhythm of its
            own, and peaks are late by half an interval.
        cuts: frames that show another body than the frame before.

    Returns:
        Peaks and an envelope with one value a frame, the first two of them zero.

    Raises:
        InputError: the array is not of that shape.
    """
    positions, scores = split_positions_and_scores(keypoints)
    size = estimate_body_size(positions, scores)
    if compat == "official":
        moved = frame_displacements(positions.astype(np.float32).astype(np.float64))
        envelope = normalize_by_max(onset_envelope(directogram(moved, compat="official")))
        frames = pick_peaks_official(envelope[2:]) + 2
        times, strengths = frames / fps, envelope[frames]
    else:
        if not paper_exact:
            positions = remove_cut_jumps(
                positions, np.asarray(cuts, dtype=np.intp), body_size=size
            )
            positions = remove_outliers(positions, body_size=size)
        if frame_interval_s is not None and len(positions):
            shown = frame_timestamps(len(positions), frame_interval_s, fps=fps)
            positions = resample_trajectories(
                positions, shown, n_frames=len(positions), fps=fps
            )
        both = np.minimum(scores, np.concatenate([scores[:1], scores[:-1]]))
        times, strengths, rise = detect_trajectory_peaks(
            positions,
            np.ones_like(scores) if paper_exact else both,
            body_size=size,
            peak_placement=peak_placement,
            paper_exact=paper_exact,
            fill_gaps=fill_gaps,
            fps=fps,
        )
        envelope = normalize_by_max(rise)
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
    """When the pictures were taken that are on the screen at ``k / fps``, ``(n_frames,)``."""
    # A picture that is due at the very moment counts, although its time has been rounded.
    shown: Array = (
        np.floor(np.arange(n_frames) / fps / frame_interval_s + 1e-3) * frame_interval_s
    )
    return shown


def motion_energy(
    keypoints: Array, fps: float = POSE_FPS, *, cuts: Sequence[int] | NDArray[np.int64] = ()
) -> Array:
    """How lively a body is: 0 at rest, 1 in its liveliest moments.

    Mean speed of the joints in body sizes a second, over about a third of a second, beside the
    98th percentile of the clip: one wild frame must not make the rest look still.

    Args:
        keypoints: ``(frames, joints, 3)``, as for ``rhythm_from_poses``.
        fps: frames a second.
        cuts: frames that show another body than the frame before.

    Returns:
        ``(frames,)``, 0 to 1.
    """
    positions, scores = split_positions_and_scores(keypoints)
    if not len(positions):
        return np.zeros(0)
    sizes = np.linalg.norm(np.ptp(positions, axis=1), axis=-1)
    sizes = median_filter(sizes, 2 * round(fps) + 1, mode="nearest")  # a zoom is no movement
    size = estimate_body_size(positions, scores)
    whole = remove_cut_jumps(positions, np.asarray(cuts, dtype=np.intp), body_size=size)
    whole = remove_outliers(whole, body_size=size)
    moved = np.linalg.norm(
        garrote_shrink(frame_displacements(whole), estimate_noise_std(whole)), axis=-1
    )
    speed = (moved * scores).mean(axis=-1) * fps / np.maximum(sizes, 1.0)
    smooth = gaussian_filter1d(speed, 0.15 * fps, mode="nearest")
    # Someone who stands and sways reaches 0.02 sizes a second: that is rest, not a climax.
    liveliest = max(float(np.quantile(smooth, 0.98)), 0.05)
    energy: Array = (smooth / liveliest).clip(0, 1)
    return energy


def pose_directogram(keypoints: Array) -> Array:
    """The paper's directogram of poses as they are, ``(frames, bins)``: for the eye."""
    return directogram(frame_displacements(split_positions_and_scores(keypoints)[0]))


def estimate_body_size(positions: Array, scores: Array) -> float:
    """Diagonal of the box around the joints that are seen, in pixels; the median over time."""
    is_seen = (scores > 0.1)[..., None]
    low = np.where(is_seen, positions, np.inf).min(axis=1, initial=np.inf)
    high = np.where(is_seen, positions, -np.inf).max(axis=1, initial=-np.inf)
    sizes = np.linalg.norm((high - low)[is_seen.any(axis=(1, 2))], axis=-1)
    return max(float(np.median(sizes)), 1.0) if len(sizes) else 1.0


def split_positions_and_scores(keypoints: Array) -> tuple[Array, Array]:
    """Positions and scores, without holes."""
    keypoints = np.asarray(keypoints, dtype=np.float64)
    if keypoints.ndim != 3 or keypoints.shape[-1] != 3:
        raise InputError(
            f"poses are {keypoints.shape}, not (frames, joints, 3)",
            hint="make them with `loris pose`",
        )
    scores = np.nan_to_num(keypoints[..., 2], nan=0.0, posinf=0.0, neginf=0.0).clip(0, 1)
    positions = keypoints[..., :2].copy()
    holes = ~np.isfinite(positions[..., 0]) | ~np.isfinite(positions[..., 1])
    index = np.arange(len(positions))
    for joint in np.flatnonzero(holes.any(axis=0)):
        hole = holes[:, joint]
        for axis in range(2):
            column = positions[:, joint, axis]
            known = column[~hole] if not hole.all() else np.zeros(1)
            at = index[~hole] if not hole.all() else np.zeros(1)
            column[hole] = np.interp(index[hole], at, known)
        scores[hole, joint] = 0.0
    return positions, scores
