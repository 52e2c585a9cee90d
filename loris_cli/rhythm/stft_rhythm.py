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
from loris_cli.rhythm.directogram import directogram, normalised
from loris_cli.rhythm.impact_timing import onsets
from loris_cli.rhythm.peak_picking import PAPER, pick_peaks
from loris_cli.rhythm.pose_rhythm import body_size, split
from loris_cli.rhythm.rhythm_file import Rhythm
from loris_cli.rhythm.trajectories import joined, without_slips

Array = NDArray[np.float64]

WINDOW_S = 0.5
"""Of the transform: a strike at 16 fps is in two or three of its eight frames."""
SLOWER = 3
"""How much wider the rule's windows are: eight frames are smeared into each value. Of bodies
that sway and strike once a second 2 and 3 find all strikes, 1 and 4 lose them."""
LEFT_HIP, RIGHT_HIP = 11, 12
STILL = 0.05
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
    positions, scores = split(keypoints)
    size = body_size(positions, scores)
    whole = without_slips(
        joined(positions, np.asarray(cuts, dtype=np.intp), size=size), size=size
    )
    energy = changes(whole, round(WINDOW_S * fps))
    if energy.max(initial=0.0) < STILL * size:
        energy = np.zeros_like(energy)
    envelope = normalised(energy)
    frames = pick_peaks(envelope, PAPER.widened(SLOWER))
    return Rhythm(
        times_s=onsets(frames, envelope) / fps,
        strengths=envelope[frames],
        envelope=envelope,
        envelope_rate_hz=fps,
        method="stft",
        compat="paper",
        duration_s=len(positions) / fps,
    )


def changes(positions: Array, window: int) -> Array:
    """Energy of the changes of a body's shape around each frame, ``(frames,)``, in its unit.

    Args:
        positions: ``(frames, 17, 2)``.
        window: frames of the transform.
    """
    if not len(positions):
        return np.zeros(0)
    hips = positions[:, [LEFT_HIP, RIGHT_HIP]].mean(axis=1, keepdims=True)
    # Of a place, unlike of a way, the opposite direction is another one: the full turn.
    shape = directogram(positions - hips, turn=360.0)
    offsets = np.diff(shape, axis=0, prepend=shape[:1])
    padded = np.pad(offsets, ((window // 2, window - window // 2 - 1), (0, 0)))
    taper = np.hanning(window + 1)[:window]
    spectra = np.abs(np.fft.rfft(sliding_window_view(padded, window, axis=0) * taper))
    energy: Array = np.sqrt(np.square(spectra[..., 1:]).sum(axis=(1, 2))) / taper.sum()
    return energy
