"""Tempo of visual peaks: fit of a steady beat, and beat tracking on the peaks.

peaks -> period and fit of the best beat; peaks, period -> beats; peaks -> tempo, phase
"""

import numpy as np

from loris_cli.array_types import Array

MIN_BEAT_FIT = 0.6
"""Peaks with a better fit have a steady beat; 40 random peaks reach a fit of about 0.45."""
MIN_HALF_BEAT_FIT = 0.75
"""Minimum fit to half the beat period, for movements on eighth notes."""
RAYLEIGH_CRITICAL_Z = 9.0
"""Reject fits below ``sqrt(9 / peaks)``, the 1 % significance level of a Rayleigh test over
about 60 tempi, as many as 25 s can distinguish: ``exp(-peaks * fit ** 2)`` for each tempo."""
BEAT_PERIOD_RANGE_S = (0.4, 0.8)
"""Range of the beat period: 150 to 75 bpm."""
TEMPO_WINDOW_S = 60.0
"""Length of the initial part of a clip in which the peaks are tested for a steady beat."""
SLOWEST_BPM, FASTEST_BPM, STEP_BPM = 80.0, 160.0, 0.25
"""Tempo range of one octave, because a tempo and its double fit the same peaks."""
FALLBACK_BPM = 120.0


def fit_beat_period(peaks_s: Array) -> tuple[float, float]:
    """Fit a steady beat from 75 to 150 bpm to peaks.

    The fit is the mean resultant length of the peaks' phases at the best beat period: 1 if all
    peaks are on the beat, slightly above ``1 / sqrt(peaks)`` for random peaks. If no beat fits,
    half the beat period is used, provided that it fits well: peaks on and off the beat cancel
    each other out at the full period.

    Args:
        peaks_s: peak times, ``(peaks,)``; the fit of fewer than four peaks is 0.

    Returns:
        The fit, from 0 to 1, and the beat period in seconds.
    """
    if len(peaks_s) < 4:
        return 0.0, float(np.mean(BEAT_PERIOD_RANGE_S))
    periods_s = 1 / np.linspace(1 / BEAT_PERIOD_RANGE_S[1], 1 / BEAT_PERIOD_RANGE_S[0], 400)
    phases = np.exp(2j * np.pi * peaks_s[:, None] / periods_s)
    fits, halves = np.abs(phases.mean(axis=0)), np.abs(np.square(phases).mean(axis=0))
    min_half_fit = max(MIN_HALF_BEAT_FIT, np.sqrt(RAYLEIGH_CRITICAL_Z / len(peaks_s)))
    if fits.max() <= MIN_BEAT_FIT and halves.max() > min_half_fit:
        fits = halves
    best = int(fits.argmax())
    return float(fits[best]), float(periods_s[best])


def track_steady_beats(
    peaks_s: Array, strengths: Array, *, duration_s: float, beat_period_s: float
) -> Array:
    """Track beats at an approximate period, aligned to the peaks.

    Uses librosa's dynamic programming (Ellis, 2007), so the tempo may drift.

    Args:
        peaks_s: peak times, ``(peaks,)``, increasing.
        strengths: ``(peaks,)``, 0..1.
        duration_s: end of the beats.
        beat_period_s: approximate beat period.

    Returns:
        Beat times in seconds, ``(beats,)``, increasing, from 0 to ``duration_s``.
    """
    from loris_cli.system.librosa_import import import_librosa_module

    rate_hz = 100.0
    envelope = np.zeros(int(duration_s * rate_hz) + 1)
    index = np.round(peaks_s * rate_hz).astype(int)
    inside = (index >= 0) & (index < len(envelope))
    envelope[index[inside]] = 0.3 + 0.7 * strengths[inside]
    # The 80 ms window allows for the timing jitter of dancers.
    envelope = np.convolve(envelope, np.hanning(9), mode="same")
    if not envelope.any():
        return np.empty(0)
    _, beats = import_librosa_module("beat").beat_track(
        onset_envelope=envelope,
        sr=rate_hz,
        hop_length=1,
        bpm=60 / beat_period_s,
        trim=False,
        units="time",
    )
    beats = np.asarray(beats, dtype=np.float64)
    if len(beats) < 2:
        return np.empty(0)
    before = np.arange(beats[0] - beat_period_s, 0, -beat_period_s)[::-1]
    after = np.arange(beats[-1] + beat_period_s, duration_s, beat_period_s)
    return np.concatenate([before, beats, after])


def fit_tempo_and_phase(peaks_s: Array, strengths: Array) -> tuple[float, float]:
    """Return tempo and phase of the steady beat that fits the peaks best.

    Args:
        peaks_s: peak times, ``(peaks,)``, increasing.
        strengths: weights of the peaks, ``(peaks,)``.

    Returns:
        Tempo in bpm, and the time of the first beat in seconds, less than one beat period.
    """
    if not len(peaks_s) or not strengths.any():
        return FALLBACK_BPM, 0.0
    tempi = np.arange(SLOWEST_BPM, FASTEST_BPM + STEP_BPM / 2, STEP_BPM)
    # Peaks on the beat have equal phases, so the magnitude of the sum measures the fit.
    sums = np.exp(2j * np.pi * tempi[:, None] / 60 * peaks_s) @ strengths
    best = int(np.abs(sums).argmax())
    bpm = float(tempi[best])
    return bpm, float(np.angle(sums[best]) / (2 * np.pi) % 1 * 60 / bpm)
