"""The rhythm that a sound has of its own, for music that no body and no score tells of.

sound -> onsets -> peaks and strengths; loudness -> energy
"""

import numpy as np
from numpy.typing import NDArray

from loris_cli.audio.accents import compute_audio_energy
from loris_cli.audio.onsets import ONSET_HOP_LENGTH, compute_onset_envelope, detect_onsets
from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.models.generator_interface import ClipFeatures
from loris_cli.soundtrack.clip_features import MIN_ACCENT_STRENGTH
from loris_cli.soundtrack.latent_generator import ATTACK_LATENCY_S


def extract_pseudo_rhythm(
    samples: NDArray[np.float32], *, genre: str | None = None
) -> ClipFeatures:
    """A pseudo-rhythm: the sound's own onsets in the place of a body's peaks.

    Args:
        samples: mono at 22,050 Hz, ``(samples,)``, half a second at least.
        genre: of the sound, if it is known.

    Returns:
        peaks where notes begin (their attack is heard some time later), all of them, where
        `loris_cli.audio.accents` takes accents alone; strengths by how much of the spectrum
        begins there; energy by the loudness.
    """
    rise = compute_onset_envelope(samples)
    onsets_s = detect_onsets(samples, onset_envelope=rise)
    index = (
        np.round(onsets_s * SAMPLE_RATE_HZ / ONSET_HOP_LENGTH)
        .astype(int)
        .clip(max=len(rise) - 1)
    )
    # The delay of the detector was taken off: the rise itself lies a frame or two later.
    strengths = np.array([float(rise[k : k + 4].max()) for k in index])
    return ClipFeatures(
        duration_s=len(samples) / SAMPLE_RATE_HZ,
        peaks_s=np.maximum(onsets_s - ATTACK_LATENCY_S, 0.0),
        strengths=MIN_ACCENT_STRENGTH
        + (1 - MIN_ACCENT_STRENGTH) * strengths / max(strengths.max(initial=0.0), 1e-9),
        energy=compute_audio_energy(samples),
        genre=genre,
    )
