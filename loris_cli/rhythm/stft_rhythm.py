"""Rhythm by a short-time Fourier transform of the pose, to compare with the paper's.

    poses relative to the hips -> directogram -> its differences -> STFT -> energy -> peaks

LORIS, App. C, describes it as the method of Su et al., "How Does it Sound?" (NeurIPS 2021): the
histogram is of the positions of the joints, not of their displacements, and the spectrum of its
changes marks the points. The peak picking is not described there; here it is the paper's
own rule (Eq. 7), three times as slow, on the energy above frequency zero.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from loris_cli.array_types import Array
from loris_cli.config import POSE_FPS
from loris_cli.pose.keypoints import HIP_JOINTS
from loris_cli.rhythm.directogram import directogram, normalize_by_max
from loris_cli.rhythm.impact_timing import interpolate_peaks
from loris_cli.rhythm.peak_picking import PAPER_PEAK_PICKING, pick_peaks
from loris_cli.rhythm.pose_rhythm import Cuts, clean_positions, split_positions_and_scores
from loris_cli.rhythm.rhythm_file import Rhythm

STFT_WINDOW_S = 0.5
"""Window of the transform: a strike at 16 fps is in two or three of its eight frames."""
PEAK_WINDOW_SCALE = 3
"""Factor of the windows of the peak picking: each value is of eight frames. For performers
that sway and strike once a second 2 and 3 find all strikes, 1 and 4 lose them."""
MIN_CHANGE_BODY_SIZES = 0.05
"""A performer whose histogram never changes by more than this, summed over the joints, is at
rest: the drift of a detector reaches that."""


def rhythm_from_stft(keypoints: Array, *, fps: float = POSE_FPS, cuts: Cuts = ()) -> Rhythm:
    """Return the rhythm of a pose: the times at which its shape changes most.

    Args:
        keypoints: ``(frames, joints, 3)``, as for `rhythm_from_poses`.
        fps: frames a second.
        cuts: frames that show another performer than the frame before.

    Returns:
        Peaks at the maxima of the energy, and the energy as the envelope, one value a frame.

    Raises:
        InputError: the array is not of that shape.
    """
    positions, scores = split_positions_and_scores(keypoints)
    positions, body_size = clean_positions(positions, scores, cuts)
    energy = pose_change_energy(positions, round(STFT_WINDOW_S * fps))
    if energy.max(initial=0.0) < MIN_CHANGE_BODY_SIZES * body_size:
        energy = np.zeros_like(energy)
    envelope = normalize_by_max(energy)
    frames = pick_peaks(envelope, PAPER_PEAK_PICKING.scale_windows(PEAK_WINDOW_SCALE))
    return Rhythm(
        times_s=interpolate_peaks(frames, envelope) / fps,
        strengths=envelope[frames],
        envelope=envelope,
        envelope_rate_hz=fps,
        method="stft",
        compat="paper",
        duration_s=len(positions) / fps,
    )


def pose_change_energy(positions: Array, window_frames: int) -> Array:
    """Return the energy of the changes of a pose around each frame, ``(frames,)``, in its unit.

    Args:
        positions: ``(frames, 17, 2)``.
        window_frames: frames of the transform.
    """
    if not len(positions):
        return np.zeros(0)
    hips = positions[:, HIP_JOINTS].mean(axis=1, keepdims=True)
    # For positions, unlike displacements, opposite directions differ: the full turn.
    shape = directogram(positions - hips, angle_range_deg=360.0)
    offsets = np.diff(shape, axis=0, prepend=shape[:1])
    before = window_frames // 2
    padded = np.pad(offsets, ((before, window_frames - before - 1), (0, 0)))
    taper = np.hanning(window_frames + 1)[:window_frames]
    spectra = np.abs(np.fft.rfft(sliding_window_view(padded, window_frames, axis=0) * taper))
    return np.asarray(np.sqrt(np.square(spectra[..., 1:]).sum(axis=(1, 2))) / taper.sum())
