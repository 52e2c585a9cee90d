"""Rhythm of a body's shape by a short-time Fourier transform, to compare with the paper's.

    poses about the hips -> directogram of poses -> its differences -> STFT -> energy -> peaks

LORIS, App. C, tells of it as the way of Su et al., "How Does it Sound?" (NeurIPS 2021): the
histogram is of where the joints are, not of where they go, and it is the spectrum of its
changes that marks the points. How they are picked is not told there; here it is the paper's
own rule (Eq. 7), three times as slow, on the energy above frequency zero.
"""

from collections.abc import Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from loris_cli.config import POSE_FPS
from loris_cli.rhythm.directogram import directogram, normalize_by_max
from loris_cli.rhythm.impact_timing import interpolate_peak_frames
from loris_cli.rhythm.peak_picking import PAPER_PEAK_PICKING, pick_peaks
from loris_cli.rhythm.pose_rhythm import estimate_body_size, split_positions_and_scores
from loris_cli.rhythm.rhythm_file import Rhythm
from loris_cli.rhythm.trajectories import remove_cut_jumps, remove_outliers

Array = NDArray[np.float64]

STFT_WINDOW_S = 0.5
"""Of the transform: a strike at 16 fps is in two or three of its eight frames."""
PEAK_WINDOW_SCALE = 3
"""How much wider the rule's windows are: eight frames are smeared into each value. Of bodies
that sway and strike once a second 2 and 3 find all strikes, 1 and 4 lose them."""
LEFT_HIP, RIGHT_HIP = 11, 12
MIN_CHANGE_BODY_SIZES = 0.05
"""A body whose histogram never changes by more of its size, added over the joints, is at rest:
a detector's wandering reaches that."""


def rhythm_from_stft(
    keypoints: Array,
    *,
    fps: float = POSE_FPS,
    cuts: Sequence[int] | NDArray[np.int64] = (),
) -> Rhythm:
    """The moments at which the shape of a body changes most.

    Args:
        keypoints: ``(frames, joints, 3)``, as for `rhythm_from_poses`.
        fps: frames a second.
        cuts: frames that show another body than the frame before.

    Returns:
        Peaks at the tops of the energy, and it as the envelope, one value a frame.

    Raises:
        InputError: the array is not of that shape.
    """
    positions, scores = split_positions_and_scores(keypoints)
    size = estimate_body_size(positions, scores)
    whole = remove_outliers(
        remove_cut_jumps(positions, np.asarray(cuts, dtype=np.intp), body_size=size),
        body_size=size,
    )
    energy = pose_change_energy(whole, round(STFT_WINDOW_S * fps))
    if energy.max(initial=0.0) < MIN_CHANGE_BODY_SIZES * size:
        energy = np.zeros_like(energy)
    envelope = normalize_by_max(energy)
    frames = pick_peaks(envelope, PAPER_PEAK_PICKING.scale_windows(PEAK_WINDOW_SCALE))
    return Rhythm(
        times_s=interpolate_peak_frames(frames, envelope) / fps,
        strengths=envelope[frames],
        envelope=envelope,
        envelope_rate_hz=fps,
        method="stft",
        compat="paper",
        duration_s=len(positions) / fps,
    )


def pose_change_energy(positions: Array, window_frames: int) -> Array:
    """Energy of the changes of a body's shape around each frame, ``(frames,)``, in its unit.

    Args:
        positions: ``(frames, 17, 2)``.
        window_frames: frames of the transform.
    """
    if not len(positions):
        return np.zeros(0)
    hips = positions[:, [LEFT_HIP, RIGHT_HIP]].mean(axis=1, keepdims=True)
    # Of a place, unlike of a way, the opposite direction is another one: the full turn.
    shape = directogram(positions - hips, angle_range_deg=360.0)
    offsets = np.diff(shape, axis=0, prepend=shape[:1])
    padded = np.pad(
        offsets, ((window_frames // 2, window_frames - window_frames // 2 - 1), (0, 0))
    )
    taper = np.hanning(window_frames + 1)[:window_frames]
    spectra = np.abs(np.fft.rfft(sliding_window_view(padded, window_frames, axis=0) * taper))
    energy: Array = np.sqrt(np.square(spectra[..., 1:]).sum(axis=(1, 2))) / taper.sum()
    return energy
