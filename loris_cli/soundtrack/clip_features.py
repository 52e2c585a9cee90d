"""Musical features of a clip: accents, genre, energy, chords and notes.

VideoAnalysis -> accents, genre -> VideoFeatures -> ClipFeatures with chords and notes
"""

import zlib

import numpy as np
from scipy.ndimage import gaussian_filter1d

from loris_cli.array_types import Array
from loris_cli.composition.arrangement import compose_arrangement
from loris_cli.composition.chords import sample_rhythm_harmony
from loris_cli.composition.styles import STYLES_BY_NAME
from loris_cli.config import GENRES, POSE_FPS
from loris_cli.models.generator_interface import ClipFeatures, VideoFeatures
from loris_cli.rhythm.tempo_fit import MIN_BEAT_FIT, fit_beat_period
from loris_cli.soundtrack.video_analysis import VideoAnalysis

IMPACT_DETECTION_DELAY_S = 0.0095
"""Motion that accelerates to a sudden stop is detected 12 ms late in the median, symmetric
bursts 5 ms early (docs/experiments/rhythm.md). Most of the former delay is subtracted."""

N_DANCE_GENRES = 10
"""The first genres of `GENRES` are dances, the rest are sports."""

WEAK_PEAK_STRENGTH = 0.2
"""Upper limit of weak peaks, 0..1; rebounds after an impact are below it
(docs/experiments/rhythm.md)."""

LOCAL_MAX_RADIUS_S = 1.5
"""A weak peak is retained if it is the strongest within this time on either side."""

MIN_ACCENT_STRENGTH = 0.3
"""Strength of the softest accents in the training music."""

COMPOSED_ENERGY_RANGE = (0.33, 0.81)
"""5th and 95th percentile of the energy of composed music, mean over 24 pieces."""
ENERGY_SMOOTHING_STD_S, MIN_ENERGY_RANGE = 0.5, 0.1
"""Standard deviation of the smoothing kernel, and lower limit of the range in scaling."""


def build_features(analysis: VideoAnalysis, *, genre: str | None, seed: int) -> VideoFeatures:
    """Return the features of a video that condition a generator.

    Args:
        analysis: from `analyze_video`.
        genre: style; None draws one that suits the rhythm from the seed.
        seed: seed of the take.
    """
    rhythm, duration_s = analysis.rhythm, analysis.info.duration_s
    inside = rhythm.times_s < duration_s
    times_s = rhythm.times_s[inside] - IMPACT_DETECTION_DELAY_S
    peaks_s, strengths = select_accented_peaks(times_s, rhythm.strengths[inside])
    return VideoFeatures(
        duration_s=duration_s,
        peaks_s=peaks_s,
        strengths=strengths,
        energy=analysis.energy,
        genre=genre or choose_genre(peaks_s, seed=seed_from_rhythm(seed, peaks_s)),
        keypoints=analysis.keypoints,
        rhythm_method=rhythm.method,
        visual=analysis.visual,
    )


def select_accented_peaks(peaks_s: Array, strengths: Array) -> tuple[Array, Array]:
    """Select the peaks of a rhythm that the music accents.

    A weak peak close to a stronger one is usually the rebound after an impact and is removed. A
    weak peak without a stronger neighbour, in a calm passage, is retained.

    Args:
        peaks_s: peak times in seconds, ``(peaks,)``, ascending.
        strengths: peak strengths, ``(peaks,)``, 0..1.

    Returns:
        times of the selected peaks, and their strengths scaled to the range of the training
        music.
    """
    left = np.searchsorted(peaks_s, peaks_s - LOCAL_MAX_RADIUS_S)
    right = np.searchsorted(peaks_s, peaks_s + LOCAL_MAX_RADIUS_S, side="right")
    strongest = [
        bool(strength >= strengths[first:stop].max())
        for strength, first, stop in zip(strengths, left, right, strict=True)
    ]
    selected = (strengths >= WEAK_PEAK_STRENGTH) | np.array(strongest, dtype=bool)
    scale = 1 - MIN_ACCENT_STRENGTH
    return peaks_s[selected], MIN_ACCENT_STRENGTH + scale * strengths[selected]


def seed_from_rhythm(seed: int, peaks_s: Array) -> int:
    """Return a seed that depends on the take and on the rhythm of the video.

    With the seed of the take alone, all videos of a batch would have music in the same key.

    Args:
        seed: seed of the take.
        peaks_s: peak times in seconds, ``(peaks,)``; rounded to a tenth of a millisecond.
    """
    rhythm_crc = zlib.crc32(np.round(peaks_s * 1e4).astype("<i8").tobytes())
    return int(np.random.SeedSequence([seed, rhythm_crc]).generate_state(1)[0])


def choose_genre(peaks_s: Array, *, seed: int) -> str:
    """Choose a style that suits a rhythm.

    Peaks on a steady beat get one of the dance styles, others one of the two sport styles. The
    seed selects among them, so that takes differ.

    Args:
        peaks_s: peak times in seconds, ``(peaks,)``; only the first minute is used.
        seed: seed of the take.
    """
    first = peaks_s[peaks_s < peaks_s.min(initial=0.0) + 60.0]
    is_dance = fit_beat_period(first)[0] > MIN_BEAT_FIT
    styles = GENRES[:N_DANCE_GENRES] if is_dance else GENRES[N_DANCE_GENRES:]
    return styles[int(np.random.default_rng([seed, 11]).integers(len(styles)))]


def smooth_energy(energy: Array) -> Array:
    """Return motion energy smoothed and scaled to the range of composed music.

    Motion energy has short bursts and a low median; the energy of composed music varies over
    seconds (`synthetic.composer`). Notes arranged from unsmoothed bursts would be sparse, with
    large differences in loudness.

    Args:
        energy: motion energy, ``(frames,)`` at 16 Hz, 0..1.

    Returns:
        ``(frames,)``, 0..1; 90 % of the values are in the range of composed pieces. Energy that
        is nearly constant is not stretched to that range.
    """
    if not len(energy):
        return energy
    smooth = gaussian_filter1d(energy, ENERGY_SMOOTHING_STD_S * POSE_FPS, mode="nearest")
    low, high = np.percentile(smooth, [5, 95])
    relative = (smooth - low) / max(high - low, MIN_ENERGY_RANGE)
    bottom, top = COMPOSED_ENERGY_RANGE
    scaled: Array = (bottom + (top - bottom) * relative).clip(0, 1)
    return scaled


def add_arrangement(features: VideoFeatures, *, seed: int) -> ClipFeatures:
    """Return features with chords and notes drawn from the seed.

    If the style is unknown, one is drawn for the arrangement only; it does not condition the
    network. A score that the features may have is not used.
    """
    rhythm = (features.peaks_s, features.strengths)
    style = STYLES_BY_NAME[features.genre or choose_genre(features.peaks_s, seed=seed)]
    harmony = sample_rhythm_harmony(
        *rhythm, duration_s=features.duration_s, style=style, seed=seed
    )
    energy = smooth_energy(features.energy) if features.is_from_video else features.energy
    rng = np.random.default_rng([seed, 14])
    arrangement = compose_arrangement(
        *rhythm, energy, harmony, duration_s=features.duration_s, style=style, rng=rng
    )
    return ClipFeatures.from_video(features, harmony=harmony, arrangement=arrangement)
