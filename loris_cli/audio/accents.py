"""What is heard in a clip's sound: where it strikes, its beat, how much goes on.

sound -> onset envelope -> accents and beats; sound -> loudness -> energy

librosa hears onsets and beats, or madmom where asked: how hard an accent is tells the envelope
in either case.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from loris_cli.audio import madmom_process
from loris_cli.config import POSE_FPS, SAMPLE_RATE_HZ
from loris_cli.system.librosa_import import import_librosa_module, librosa

Array = NDArray[np.float64]
Samples = NDArray[np.float32]
OnsetDetector = Literal["librosa", "madmom"]

HOP_LENGTH = 256
MIN_ACCENT_GAP_S = 0.2
"""An accent is the strongest onset within so much time on both sides: at a brisk tempo a beat,
not each of its quarters."""
PEAK_DELTA = 0.08
"""How far an onset stands above the envelope's mean, of its greatest value."""
ENVELOPE_DELAY_S = 0.0125
"""librosa's envelope is highest so long after the first sample of a click; measured."""
ENVELOPE_RISE_FRAMES = 4
"""An onset's envelope is highest within so many frames, 46 ms, of it."""
FULL_ENERGY_QUANTILE = 0.98
FULL_STRENGTH_QUANTILE = 0.9
"""Accents this far up the order of their own piece have full strength."""


@dataclass(frozen=True, kw_only=True)
class AccentAnalysis:
    """What is heard in a sound."""

    accents_s: Array
    """``(accents,)``, rising."""
    strengths: Array
    """``(accents,)``, 0..1."""
    beats_s: Array
    """``(beats,)``, rising; none where no beat is found."""
    energy: Array
    """Loudness at 16 Hz, ``(frames,)``, 0..1."""


def detect_accents(
    samples: Samples, onset_detector: OnsetDetector = "librosa"
) -> AccentAnalysis:
    """Hear a sound.

    Args:
        samples: mono at 22,050 Hz, ``(samples,)``.
        onset_detector: who hears onsets and beats.

    Raises:
        MissingDependencyError: madmom was asked for and is absent.
        LorisError: it failed.
    """
    envelope = librosa.onset.onset_strength(y=samples, sr=SAMPLE_RATE_HZ, hop_length=HOP_LENGTH)
    if not envelope.any():
        nothing = np.zeros(0)
        return AccentAnalysis(
            accents_s=nothing,
            strengths=nothing,
            beats_s=nothing,
            energy=compute_audio_energy(samples),
        )
    if onset_detector == "madmom":
        onsets_s, beats_s = madmom_process.detect_onsets_and_beats(samples)
        times_s, heights = _select_accents(onsets_s, envelope)
    else:
        times_s, heights, beats_s = _detect_with_librosa(envelope)
    hardest = float(np.quantile(heights, FULL_STRENGTH_QUANTILE)) if len(heights) else 1.0
    return AccentAnalysis(
        accents_s=times_s,
        strengths=(heights / hardest).clip(0, 1),
        beats_s=beats_s,
        energy=compute_audio_energy(samples),
    )


def _detect_with_librosa(envelope: Samples) -> tuple[Array, Array, Array]:
    """Accents, the height of each, and beats."""
    apart = round(MIN_ACCENT_GAP_S * SAMPLE_RATE_HZ / HOP_LENGTH)
    peaks = librosa.util.peak_pick(
        envelope / envelope.max(),
        pre_max=apart,
        post_max=apart,
        pre_avg=apart,
        post_avg=apart,
        delta=PEAK_DELTA,
        wait=apart,
    )
    _, beats_s = import_librosa_module("beat").beat_track(
        onset_envelope=envelope, sr=SAMPLE_RATE_HZ, hop_length=HOP_LENGTH, units="time"
    )
    heights = envelope[peaks].astype(np.float64)
    times_s = np.maximum(peaks * HOP_LENGTH / SAMPLE_RATE_HZ - ENVELOPE_DELAY_S, 0.0)
    return times_s, heights, np.maximum(np.asarray(beats_s, np.float64) - ENVELOPE_DELAY_S, 0.0)


def _select_accents(onsets_s: Array, envelope: Samples) -> tuple[Array, Array]:
    """Of given onsets those that are accents, and how high the envelope rises at each."""
    frames = np.round((onsets_s + ENVELOPE_DELAY_S) * SAMPLE_RATE_HZ / HOP_LENGTH).astype(int)
    heights = np.array(
        [
            envelope[max(0, k - ENVELOPE_RISE_FRAMES) : k + ENVELOPE_RISE_FRAMES + 1].max(
                initial=0
            )
            for k in frames
        ],
        np.float64,
    )
    near = np.abs(onsets_s[:, None] - onsets_s[None, :]) <= MIN_ACCENT_GAP_S
    # Of two as high the first: as a peak that is picked silences what follows it.
    order = np.lexsort((np.arange(len(frames)), -heights))
    kept = np.zeros(len(frames), bool)
    for k in order:
        kept[k] = heights[k] > 0 and not (near[k] & kept).any()
    return onsets_s[kept], heights[kept]


def compute_audio_energy(samples: Samples) -> Array:
    """How loud a sound is beside its loudest moments, at 16 Hz, ``(frames,)``, 0..1."""
    n_frames = round(len(samples) / SAMPLE_RATE_HZ * POSE_FPS)
    edges = np.round(np.arange(n_frames + 1) * SAMPLE_RATE_HZ / POSE_FPS).astype(int)
    power = np.concatenate([[0.0], np.cumsum(samples.astype(np.float64) ** 2)])
    edges = edges.clip(0, len(samples))
    mean = np.diff(power[edges]) / np.maximum(np.diff(edges), 1)
    smooth = np.convolve(mean, np.ones(5) / 5, mode="same") if n_frames else mean
    rms = np.sqrt(np.maximum(smooth, 0))
    loudest = float(np.quantile(rms, FULL_ENERGY_QUANTILE)) if n_frames else 0.0
    energy: Array = (rms / loudest).clip(0, 1) if loudest > 0 else np.zeros(n_frames)
    return energy
