"""Accents, beats and energy of an audio clip.

audio -> onset envelope -> accents and beats; audio -> loudness -> energy

Onsets and beats are detected by librosa or madmom. The strength of an accent is always the
height of librosa's onset envelope.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from loris_cli.array_types import Array, Samples
from loris_cli.audio import madmom_process
from loris_cli.audio.onsets import ONSET_HOP_LENGTH, compute_onset_envelope
from loris_cli.config import POSE_FPS, SAMPLE_RATE_HZ
from loris_cli.system.librosa_import import librosa

OnsetDetector = Literal["librosa", "madmom"]

MIN_ACCENT_GAP_S = 0.2
"""An accent is the strongest onset within this time on both sides. At a fast tempo this selects
beats rather than their subdivisions."""
PEAK_DELTA = 0.08
"""Minimum height of an onset above the envelope's moving average, relative to its maximum."""
ENVELOPE_DELAY_S = 0.0125
"""Measured delay of the maximum of librosa's envelope after the first sample of a click."""
ENVELOPE_RISE_FRAMES = 4
"""The envelope reaches its maximum within this many frames (46 ms) of an onset."""
FULL_ENERGY_QUANTILE = 0.98
FULL_STRENGTH_QUANTILE = 0.9
"""Accents at or above this quantile of the accent heights of their clip have strength 1."""


@dataclass(frozen=True, kw_only=True)
class AccentAnalysis:
    """Accents, beats and energy of an audio clip."""

    accents_s: Array
    """Accent times, ``(accents,)``, ascending."""
    strengths: Array
    """Accent strengths, ``(accents,)``, 0..1."""
    beats_s: Array
    """Beat times, ``(beats,)``, ascending; empty if no beat is detected."""
    energy: Array
    """Relative loudness at 16 Hz, ``(frames,)``, 0..1."""


def detect_accents(samples: Samples, detector: OnsetDetector = "librosa") -> AccentAnalysis:
    """Detect accents and beats and measure the energy of an audio clip.

    Args:
        samples: mono at 22,050 Hz, ``(samples,)``.
        detector: library that detects onsets and beats.

    Raises:
        MissingDependencyError: madmom is selected but not installed.
        LorisError: madmom failed.
    """
    envelope = compute_onset_envelope(samples)
    times_s = heights = beats_s = np.zeros(0)
    if envelope.any() and detector == "madmom":
        events = madmom_process.detect_events(samples, "onsets", "beats")
        times_s, heights = select_accents(events["onsets"], envelope)
        beats_s = events["beats"]
    elif envelope.any():
        times_s, heights, beats_s = _detect_with_librosa(envelope)
    full = float(np.quantile(heights, FULL_STRENGTH_QUANTILE)) if len(heights) else 1.0
    return AccentAnalysis(
        accents_s=times_s,
        strengths=(heights / full).clip(0, 1),
        beats_s=beats_s,
        energy=compute_audio_energy(samples),
    )


def _detect_with_librosa(envelope: Samples) -> tuple[Array, Array, Array]:
    """Return the accent times, the envelope height at each accent, and the beat times."""
    gap = round(MIN_ACCENT_GAP_S * SAMPLE_RATE_HZ / ONSET_HOP_LENGTH)
    names = ("pre_max", "post_max", "pre_avg", "post_avg", "wait")
    windows: dict[str, Any] = dict.fromkeys(names, gap)
    peaks = librosa.util.peak_pick(envelope / envelope.max(), delta=PEAK_DELTA, **windows)
    _, beats_s = librosa.beat.beat_track(
        onset_envelope=envelope, sr=SAMPLE_RATE_HZ, hop_length=ONSET_HOP_LENGTH, units="time"
    )
    heights = envelope[peaks].astype(np.float64)
    times_s = np.maximum(peaks * ONSET_HOP_LENGTH / SAMPLE_RATE_HZ - ENVELOPE_DELAY_S, 0.0)
    return times_s, heights, np.maximum(np.asarray(beats_s, np.float64) - ENVELOPE_DELAY_S, 0.0)


def select_accents(onsets_s: Array, envelope: Samples) -> tuple[Array, Array]:
    """Select the onsets that are accents.

    Args:
        onsets_s: onset times, ``(onsets,)``, ascending.
        envelope: onset envelope, ``(frames,)``.

    Returns:
        accent times in seconds and the envelope height at each accent, both ``(accents,)``.
    """
    frames = (onsets_s + ENVELOPE_DELAY_S) * SAMPLE_RATE_HZ / ONSET_HOP_LENGTH
    rise = ENVELOPE_RISE_FRAMES
    windows = [envelope[max(0, k - rise) : k + rise + 1] for k in np.round(frames).astype(int)]
    heights = np.array([window.max(initial=0) for window in windows], np.float64)
    near = np.abs(onsets_s[:, None] - onsets_s[None, :]) <= MIN_ACCENT_GAP_S
    # The earlier of two equal peaks is selected, as in peak picking, where a peak suppresses
    # the peaks that follow it.
    order = np.lexsort((np.arange(len(frames)), -heights))
    selected = np.zeros(len(frames), bool)
    for k in order:
        selected[k] = heights[k] > 0 and not (near[k] & selected).any()
    return onsets_s[selected], heights[selected]


def compute_audio_energy(samples: Samples) -> Array:
    """Return the loudness relative to a clip's loudest frames.

    Args:
        samples: mono at 22,050 Hz, ``(samples,)``.

    Returns:
        relative RMS level at 16 Hz, ``(frames,)``, 0..1; zeros for silence.
    """
    n_frames = round(len(samples) / SAMPLE_RATE_HZ * POSE_FPS)
    edges = np.round(np.arange(n_frames + 1) * SAMPLE_RATE_HZ / POSE_FPS).astype(int)
    power = np.concatenate([[0.0], np.cumsum(samples.astype(np.float64) ** 2)])
    edges = edges.clip(0, len(samples))
    mean = np.diff(power[edges]) / np.maximum(np.diff(edges), 1)
    smooth = np.convolve(mean, np.ones(5) / 5, mode="same") if n_frames else mean
    rms = np.sqrt(np.maximum(smooth, 0))
    loudest = float(np.quantile(rms, FULL_ENERGY_QUANTILE)) if n_frames else 0.0
    return np.asarray((rms / loudest).clip(0, 1) if loudest > 0 else np.zeros(n_frames))
