"""Tempo of visual peaks: fit of a steady beat, and beat tracking on the peaks.

peaks -> period and fit of the best beat; peaks, period -> beats; peaks -> tempo, phase
"""

import numpy as np
from numpy.typing import NDArray
from scipy.fft import rfft

from loris_cli.array_types import Array

MIN_BEAT_FIT = 0.6
"""Peaks with a better fit have a steady beat; 40 random peaks reach a fit of about 0.45."""
MIN_HALF_BEAT_FIT = 0.75
"""Minimum fit to half the beat period, for movements on eighth notes."""
BEAT_JITTER_S = 0.02
"""Standard deviation of the deviations from the beat at which the test has most power."""
SIGNIFICANCE_BASE, SIGNIFICANCE_PER_LOG_SPAN = 12.0, 1.1
"""Random peaks that span ``t`` seconds score above ``12 + 1.1 * log(t)`` in at most 2 % of
the cases, whatever their number and spacing (experiments/beat_significance.py). The score grows
with the logarithm of the number of distinguishable tempi, hence of the span."""
N_HARMONICS = 16
BEAT_PERIOD_RANGE_S = (0.4, 0.8)
"""Range of the beat period: 150 to 75 bpm."""
TEMPO_WINDOW_S = 60.0
"""Length of the initial part of a clip in which the peaks are tested for a steady beat."""
SLOWEST_BPM, FASTEST_BPM, STEP_BPM = 80.0, 160.0, 0.25
"""Tempo range of one octave, because a tempo and its double fit the same peaks."""
FALLBACK_BPM = 120.0
ENVELOPE_RATE_HZ = 100.0
BEAT_TIGHTNESS = 100.0
"""Weight of deviations from the beat period; librosa's default."""


def fit_beat_period(peaks_s: Array) -> tuple[float, float]:
    """Fit a steady beat from 75 to 150 bpm to the peaks of the first minute.

    The fit is the mean resultant length of the peaks' phases at the best beat period: 1 if all
    peaks are on the beat. If no beat fits, half the beat period is used, provided that it fits
    well: peaks on and off the beat cancel each other out at the full period.

    Few random peaks fit some tempo well, so the fit is 0 if it may be due to chance. The test
    adds the powers of the harmonics, because peaks on a beat are much closer to it than a
    sinusoid requires: of six peaks it detects more than twice as many beats as a Rayleigh test.

    Args:
        peaks_s: peak times, ``(peaks,)``, increasing; fewer than four have no beat.

    Returns:
        The fit, from 0 to 1, and the beat period in seconds.
    """
    first = peaks_s[peaks_s < peaks_s[:1].sum() + TEMPO_WINDOW_S]
    if len(first) < 4:
        return 0.0, float(np.mean(BEAT_PERIOD_RANGE_S))
    periods_s, (fits, halves), scores = score_beat_periods(first)
    span_s = max(float(np.ptp(first)), 1.0)
    is_chance = scores <= SIGNIFICANCE_BASE + SIGNIFICANCE_PER_LOG_SPAN * np.log(span_s)
    fits[is_chance] = halves[is_chance] = 0.0
    if fits.max() <= MIN_BEAT_FIT and halves.max() > MIN_HALF_BEAT_FIT:
        fits = halves
    best = int(fits.argmax())
    return float(fits[best]), float(periods_s[best])


def score_beat_periods(peaks_s: Array) -> tuple[Array, Array, Array]:
    """Return beat periods, with the fits of the peaks and a score to test for chance.

    The score is the sum of ``|A(k f)|^2`` over the harmonics k of the beat frequency f, where A
    is the spectrum of the peaks, divided by the number of peaks. The harmonics have Gaussian
    weights. So each pair of peaks adds a narrow Gaussian of the deviation of its distance from
    a whole number of beats.

    Args:
        peaks_s: peak times, ``(peaks,)``, increasing, at most ``TEMPO_WINDOW_S`` apart.

    Returns:
        Periods in seconds, ``(periods,)``, decreasing; mean resultant lengths at the period and
        at half of it, 0 to 1, ``(2, periods)``; scores, ``(periods,)``, at least 0.
    """
    samples = (peaks_s - peaks_s[0]) * ENVELOPE_RATE_HZ
    before = samples.astype(int)
    size = 16 * (int(max(samples[-1], ENVELOPE_RATE_HZ)) + 2)  # 16: oversampling in frequency
    impulses = np.bincount(before, 1 - samples + before, size)
    impulses += np.bincount(before + 1, samples - before, size)
    powers = np.square(np.abs(rfft(impulses)))
    step_hz = ENVELOPE_RATE_HZ / size
    slowest_hz, fastest_hz = (1 / period_s for period_s in BEAT_PERIOD_RANGE_S[::-1])
    beats = np.arange(int(slowest_hz / step_hz) + 1, int(fastest_hz / step_hz) + 1)
    harmonics = np.arange(1, N_HARMONICS + 1)[:, None] * beats
    weights = np.exp(-np.square(2 * np.pi * BEAT_JITTER_S * step_hz * harmonics))
    scores = (weights * powers[harmonics]).sum(axis=0) / len(peaks_s)
    return 1 / (step_hz * beats), np.sqrt(powers[harmonics[:2]]) / len(peaks_s), scores


def track_steady_beats(
    peaks_s: Array, strengths: Array, *, duration_s: float, beat_period_s: float
) -> Array:
    """Track beats at an approximate period, aligned to the peaks.

    Uses the dynamic programming of Ellis (2007), so the tempo may drift.

    Args:
        peaks_s: peak times, ``(peaks,)``, increasing.
        strengths: ``(peaks,)``, 0..1.
        duration_s: end of the beats.
        beat_period_s: approximate beat period.

    Returns:
        Beat times in seconds, ``(beats,)``, increasing, from 0 to ``duration_s``.
    """
    envelope = np.zeros(int(duration_s * ENVELOPE_RATE_HZ) + 1)
    index = np.round(peaks_s * ENVELOPE_RATE_HZ).astype(int)
    inside = (index >= 0) & (index < len(envelope))
    envelope[index[inside]] = 0.3 + 0.7 * strengths[inside]
    # The 80 ms window allows for the timing jitter of dancers.
    envelope = np.convolve(envelope, np.hanning(9), mode="same")
    if not envelope.any():
        return np.empty(0)
    frames = track_envelope_beats(envelope, round(ENVELOPE_RATE_HZ * beat_period_s))
    beats = frames / ENVELOPE_RATE_HZ
    if len(beats) < 2:
        return np.empty(0)
    before = np.arange(beats[0] - beat_period_s, 0, -beat_period_s)[::-1]
    after = np.arange(beats[-1] + beat_period_s, duration_s, beat_period_s)
    return np.concatenate([before, beats, after])


def track_envelope_beats(envelope: Array, period: int) -> NDArray[np.intp]:
    """Track beats in an onset envelope by dynamic programming (Ellis, 2007).

    The result is that of `librosa.beat.beat_track` without trimming. librosa compiles its
    implementation when it is first called, which takes longer than the rest of the analysis.

    Args:
        envelope: ``(frames,)``, not all zero.
        period: approximate beat period, in frames, at least 2.

    Returns:
        Frames of the beats, ``(beats,)``, increasing.
    """
    window = np.exp(-0.5 * np.square(np.arange(-period, period + 1) * 32.0 / period))
    local = np.convolve(envelope / envelope.std(ddof=1), window)[period:-period]
    # Predecessors of a beat are half a period to two periods before it, the nearest first.
    nearest, farthest = round(period / 2), 2 * period
    distances = np.arange(nearest, farthest + 1)
    penalties = BEAT_TIGHTNESS * np.square(np.log(distances) - np.log(period))
    total = np.concatenate([np.full(farthest, -np.inf), local])
    links = np.full(len(local), -1)
    for start in range(0, len(local), nearest):  # all predecessors are before `start`
        frames = np.arange(start, min(start + nearest, len(local)))
        scores = total[farthest + frames[:, None] - distances] - penalties
        best = scores.argmax(axis=1)
        linked = np.isfinite(scores[:, 0])
        total[farthest + frames[linked]] += scores.max(axis=1)[linked]
        links[frames[linked]] = (frames - distances[best])[linked]
    links[: int(np.argmax(local >= 0.01 * local.max()))] = -1
    beats = [_last_beat(total[farthest:])]
    while links[beats[-1]] >= 0:
        beats.append(int(links[beats[-1]]))
    sounding = np.flatnonzero(local > 0)
    inside = [beat for beat in beats[::-1] if sounding[0] <= beat <= sounding[-1]]
    return np.array(inside, dtype=np.intp)


def _last_beat(scores: Array) -> int:
    """Return the last local maximum that reaches half the median of the local maxima."""
    rises = np.diff(scores) > 0
    peaks = 1 + np.flatnonzero(rises & ~np.append(rises[1:], False))
    high = peaks[scores[peaks] >= 0.5 * np.median(scores[peaks])] if len(peaks) else peaks
    return int(high[-1]) if len(high) else len(scores) - 1


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
