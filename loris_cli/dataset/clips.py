"""What a clip of a data set holds: its sound, and the truth about it."""

from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from loris_cli.conditioning import ClipFeatures
from loris_cli.dataset.manifest import Clip


def read_sound(data: Path, clip: Clip) -> NDArray[np.float32]:
    """A clip's sound, mono at 22,050 Hz, ``(samples,)``."""
    samples, _ = soundfile.read(data / clip.audio, dtype="float32")
    sound: NDArray[np.float32] = samples
    return sound


def read_features(data: Path, clip: Clip) -> ClipFeatures:
    """The truth about a clip, as a generator is told it."""
    with np.load(data / clip.rhythm, allow_pickle=False) as arrays:
        return ClipFeatures(
            duration_s=clip.duration_s,
            peaks_s=arrays["accents_s"],
            strengths=arrays["strengths"],
            energy=arrays["energy"],
            genre=clip.genre,
        )
