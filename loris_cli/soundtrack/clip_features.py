"""Musical features of a clip: accents, genre, energy, chords and notes.

VideoAnalysis -> accents, genre -> ClipFeatures -> with chords and notes
"""

import zlib
from dataclasses import replace

import numpy as np
from scipy.ndimage import gaussian_filter1d

from loris_cli.array_types import Array
from loris_cli.composition.arrangement import compose_arrangement
from loris_cli.composition.chords import sample_rhythm_harmony
from loris_cli.composition.styles import STYLES_BY_NAME
from loris_cli.config import GENRES, POSE_FPS
from loris_cli.models.generator_interface import ClipFeatures
from loris_cli.rhythm.tempo_fit import MIN_BEAT_FIT, fit_beat_period
from loris_cli.soundtrack.video_analysis import VideoAnalysis

IMPACT_DETECTION_DELAY_S = 0.0095
"""Motion that speeds up to a dead stop is detected 12 ms late in the median, even bursts 5 ms
early (docs/rhythm.md): most of the former is subtracted."""

N_DANCE_GENRES = 10
"""The first of `GENRES` are dances, the rest sports."""

WEAK_PEAK_STRENGTH = 0.2
"""Relative to full strength: rebounds after an impact, by `docs/rhythm.md`, and less."""

LOCAL_MAX_RADIUS_S = 1.5
"""A weak peak that is the strongest for so long on both sides is kept."""

MIN_ACCENT_STRENGTH = 0.3
"""Strength of the softest accents in the training music."""

COMPOSED_ENERGY_RANGE = (0.33, 0.81)
"""Energy of composed pieces: 5th and 95th percentile, mean over 24 of them."""
ENERGY_SMOOTHING_STD_S, MIN_ENERGY_RANGE = 0.5, 0.1
"""Standard deviation that smooths bursts of motion, and a range that is not stretched."""


def build_features(analysis: VideoAnalysis, *, genre: str | None, seed: int) -> ClipFeatures:
    """Return the features of a video that condition a generator.

    Args:
        analysis: from `analyze_video`.
        genre: style; None is one that suits the rhythm, drawn by the seed.
        seed: of the take.
    """
    rhythm, duration_s = analysis.rhythm, analysis.info.duration_s
    inside = rhythm.times_s < duration_s
    times_s = rhythm.times_s[inside] - IMPACT_DETECTION_DELAY_S
    peaks_s, strengths = select_accents(times_s, rhythm.strengths[inside])
    return ClipFeatures(
        duration_s=duration_s,
        peaks_s=peaks_s,
        strengths=strengths,
        energy=analysis.energy,
        genre=genre or choose_genre(peaks_s, seed=seed_from_rhythm(seed, peaks_s)),
        keypoints=analysis.keypoints,
        rhythm_method=rhythm.method,
        visual=analysis.visual,
    )


def select_accents(peaks_s: Array, strengths: Array) -> tuple[Array, Array]:
    """Select the peaks of a rhythm that the music accents.

    A weak peak close to stronger ones is the recovery from an impact, not an impact; where
    nothing stronger is near, in a calm passage, it is kept.

    Args:
        peaks_s: ``(peaks,)``, rising.
        strengths: ``(peaks,)``, 0..1.

    Returns:
        the selected peaks, and their strengths in the range of the training music.
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
    """Return a seed for one rhythm: videos of a batch share the take's seed, and only that.

    With the take's seed alone, all of them would be in one key.

    Args:
        seed: of the take.
        peaks_s: ``(peaks,)``; they distinguish videos, to a tenth of a millisecond.
    """
    rhythm_crc = zlib.crc32(np.round(peaks_s * 1e4).astype("<i8").tobytes())
    return int(np.random.SeedSequence([seed, rhythm_crc]).generate_state(1)[0])


def choose_genre(peaks_s: Array, *, seed: int) -> str:
    """Choose a style for a rhythm without one.

    Peaks on a steady beat get one of the dance styles, others one of the two sports';
    the seed draws which one, so that takes differ.

    Args:
        peaks_s: ``(peaks,)``; of many the first minute counts.
        seed: of the take.
    """
    first = peaks_s[peaks_s < peaks_s.min(initial=0.0) + 60.0]
    is_dance = fit_beat_period(first)[0] > MIN_BEAT_FIT
    styles = GENRES[:N_DANCE_GENRES] if is_dance else GENRES[N_DANCE_GENRES:]
    return styles[int(np.random.default_rng([seed, 11]).integers(len(styles)))]


def smoothed_energy(energy: Array) -> Array:
    """Return motion energy smoothed and scaled to the range of composed music.

    Motion energy comes in bursts and is low in the middle; that of composed music rises and
    falls over seconds (`synthetic.composer`). Notes that followed bursts would be few, and
    far apart in loudness.

    Args:
        energy: ``(frames,)`` at 16 Hz, 0..1.

    Returns:
        ``(frames,)``, 0..1: smooth, nine tenths of it in the range of composed pieces;
        what hardly changes hardly changes here too.
    """
    if not len(energy):
        return energy
    smooth = gaussian_filter1d(energy, ENERGY_SMOOTHING_STD_S * POSE_FPS, mode="nearest")
    low, high = np.percentile(smooth, [5, 95])
    relative = (smooth - low) / max(high - low, MIN_ENERGY_RANGE)
    bottom, top = COMPOSED_ENERGY_RANGE
    scaled: Array = (bottom + (top - bottom) * relative).clip(0, 1)
    return scaled


def with_arrangement(features: ClipFeatures, *, seed: int) -> ClipFeatures:
    """Return features with chords and notes: their own, or ones drawn by the seed.

    A style that is not known is drawn for them too; it is not a condition of the network.
    """
    if features.harmony is not None and features.arrangement is not None:
        return features
    rhythm = (features.peaks_s, features.strengths)
    style = STYLES_BY_NAME[features.genre or choose_genre(features.peaks_s, seed=seed)]
    harmony = features.harmony or sample_rhythm_harmony(
        *rhythm, duration_s=features.duration_s, style=style, seed=seed
    )
    energy = smoothed_energy(features.energy) if features.is_from_video else features.energy
    rng = np.random.default_rng([seed, 14])
    arrangement = features.arrangement or compose_arrangement(
        *rhythm, energy, harmony, duration_s=features.duration_s, style=style, rng=rng
    )
    return replace(features, harmony=harmony, arrangement=arrangement)
