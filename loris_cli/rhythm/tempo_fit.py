"""Tempo of visual peaks: fits of a steady beat, and beats that follow the peaks.

peaks -> period of the best beat and its fit; peaks, period -> beats; peaks -> tempo, phase
"""

import numpy as np

from loris_cli.array_types import Array

MIN_BEAT_FIT = 0.6
"""Peaks that fit one beat better than this are danced to it; 40 random ones reach some 0.45."""
MIN_HALF_BEAT_FIT = 0.75
"""Or that fit half a beat better than this, where a figure of eighths is danced."""
RAYLEIGH_CRITICAL_Z = 9.0
"""Reject fits below ``sqrt(9 / peaks)``, the 1 % level of a Rayleigh test over the about 60
tempi that 25 s can distinguish: ``exp(-peaks * fit ** 2)`` for each of them."""
BEAT_PERIOD_RANGE_S = (0.4, 0.8)
"""Range of the beat period: 150 to 75 a minute."""
TEMPO_WINDOW_S = 60.0
"""Length of the start of a clip whose peaks decide whether there is a steady beat."""
SLOWEST_BPM, FASTEST_BPM, STEP_BPM = 80.0, 160.0, 0.25
"""One octave: a beat and its double fit the same peaks."""
FALLBACK_BPM = 120.0


def fit_beat_period(peaks_s: Array) -> tuple[float, float]:
    """Return how well peaks fit one steady beat, from 0 to 1, and its period in seconds.

    The mean resultant length of their phases in the best beat from 75 to 150 a minute: 1 if
    all lie on it, about ``1 / sqrt(peaks)`` and some more if they have no beat. Where they fit
    none, the same of its halves, if they fit those well: peaks on and off the beat cancel out.

    Args:
        peaks_s: ``(peaks,)``; the fit of fewer than four is 0.
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
    """Return beats about ``beat_period_s`` apart that fall on peaks where there are some.

    Dynamic programming over the peaks (Ellis, 2007; librosa's), so the tempo may drift.

    Args:
        peaks_s: ``(peaks,)``, rising.
        strengths: ``(peaks,)``, 0..1.
        duration_s: end of the beats.
        beat_period_s: about the time between two beats.

    Returns:
        ``(beats,)``, rising seconds from 0 to the end.
    """
    from loris_cli.system.librosa_import import import_librosa_module

    rate_hz = 100.0
    envelope = np.zeros(int(duration_s * rate_hz) + 1)
    index = np.round(peaks_s * rate_hz).astype(int)
    inside = (index >= 0) & (index < len(envelope))
    envelope[index[inside]] = 0.3 + 0.7 * strengths[inside]
    envelope = np.convolve(envelope, np.hanning(9), mode="same")  # 80 ms: dancers are no clocks
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
    """Return tempo and phase of the steady beat that peaks fit best.

    Args:
        peaks_s: rising seconds, ``(peaks,)``.
        strengths: their weights.

    Returns:
        beats a minute, and the time in seconds of a beat, less than a period from 0.
    """
    if not len(peaks_s) or not strengths.any():
        return FALLBACK_BPM, 0.0
    tempi = np.arange(SLOWEST_BPM, FASTEST_BPM + STEP_BPM / 2, STEP_BPM)
    # Peaks on the beat point one way: the length of the sum is the strength of the beat.
    sums = np.exp(2j * np.pi * tempi[:, None] / 60 * peaks_s) @ strengths
    best = int(np.abs(sums).argmax())
    bpm = float(tempi[best])
    return bpm, float(np.angle(sums[best]) / (2 * np.pi) % 1 * 60 / bpm)
