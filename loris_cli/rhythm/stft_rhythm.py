"""Rhythm from a short-time Fourier transform of the pose, for comparison with the paper's.

    poses relative to the hips -> directogram -> its differences -> STFT -> energy -> peaks

LORIS, App. C, describes this as the method of Su et al., "How Does it Sound?" (NeurIPS 2021).
The histogram is computed from joint positions instead of displacements, and the rhythm from the
spectrum of its changes. Peak picking is not described there. Here it is the paper's rule
(Eq. 7) with windows three times as long, applied to the energy above frequency zero.
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
"""STFT window: eight frames at 16 fps, of which an impact spans two or three."""
PEAK_WINDOW_SCALE = 3
"""Factor of the peak picking windows, because each value covers eight frames. For performers
that sway, with one impact per second, factors 2 and 3 detect all impacts; 1 and 4 miss some."""
MIN_CHANGE_BODY_SIZES = 0.05
"""Minimum change of the histogram, summed over the joints, below which a performer is at rest:
detector drift reaches this level."""


def rhythm_from_stft(keypoints: Array, *, fps: float = POSE_FPS, cuts: Cuts = ()) -> Rhythm:
    """Compute the rhythm of a performer from the changes of the pose's shape.

    Args:
        keypoints: ``(frames, joints, 3)``, as for `rhythm_from_poses`.
        fps: frames per second.
        cuts: frames that show a different performer than the previous frame.

    Returns:
        Peaks at the maxima of the energy, and the energy as the envelope, one value per frame.

    Raises:
        InputError: the array has the wrong shape.
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
    """Return the energy of pose changes around each frame.

    Args:
        positions: ``(frames, 17, 2)``.
        window_frames: length of the STFT window.

    Returns:
        ``(frames,)``, in the unit of the positions.
    """
    if not len(positions):
        return np.zeros(0)
    hips = positions[:, HIP_JOINTS].mean(axis=1, keepdims=True)
    # Opposite directions differ for positions, unlike for displacements, hence 360 degrees.
    shape = directogram(positions - hips, angle_range_deg=360.0)
    offsets = np.diff(shape, axis=0, prepend=shape[:1])
    before = window_frames // 2
    padded = np.pad(offsets, ((before, window_frames - before - 1), (0, 0)))
    taper = np.hanning(window_frames + 1)[:window_frames]
    spectra = np.abs(np.fft.rfft(sliding_window_view(padded, window_frames, axis=0) * taper))
    return np.asarray(np.sqrt(np.square(spectra[..., 1:]).sum(axis=(1, 2))) / taper.sum())
