"""What a model is told of a clip, and that as tensors on the time of the latent code.

rhythm, energy, genre, chords, notes, body -> ClipFeatures -> Condition of a stretch of frames
"""

import zlib
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from loris_cli.composition.arrangement import compose_arrangement
from loris_cli.composition.chords import Harmony, sample_rhythm_harmony
from loris_cli.composition.styles import STYLES_BY_NAME
from loris_cli.config import GENRES, POSE_FPS, SAMPLE_RATE_HZ
from loris_cli.models.generator_interface import ClipFeatures
from loris_cli.models.mini_unet import MiniCondition
from loris_cli.rhythm.tempo_fit import MIN_BEAT_FIT, fit_beat_period

Array = NDArray[np.float64]

LATENT_FPS = SAMPLE_RATE_HZ / 1024
"""Frames of the latent code a second: 1,024 samples each."""

MEL_FRAMES_PER_LATENT_FRAME = 4
"""Log-mel frames in a frame of the code; the aligned rhythm has their resolution."""

PEAK_BUMP_STD_FRAMES = (1.0, 4.0, 12.0)
"""Widths (standard deviations) of the bumps around a peak, in log-mel frames of 11.6 ms."""

HARMONY_CHANNELS = 24 + 2 * MEL_FRAMES_PER_LATENT_FRAME

PEAK_TRACE_DECAY_FRAMES = 20.0
"""Time constant of the trace that follows a peak, in log-mel frames."""

N_DANCE_GENRES = 10
"""The first of `GENRES` are dances, the rest sports."""

WEAK_PEAK_STRENGTH = 0.2
"""Of full strength: what strikes leave behind, by `docs/rhythm.md`, and less."""

LOCAL_MAX_RADIUS_S = 1.5
"""A weak peak that is the strongest for so long on both sides stays."""

MIN_ACCENT_STRENGTH = 0.3
"""Strength of the softest accents that the training music has."""

COMPOSED_ENERGY_RANGE = (0.33, 0.81)
"""Energy of composed pieces: 5th and 95th percentile, mean over 24 of them."""
ENERGY_SMOOTHING_STD_S, MIN_ENERGY_RANGE = 0.5, 0.1
"""Deviation that a body's bursts are smoothed with, and a range that is not stretched."""

MAX_PEAK_INTERVAL_S = 8.0
"""A longer pause is this long to the network: it has not seen longer ones often."""


def select_accents(peaks_s: Array, strengths: Array) -> tuple[Array, Array]:
    """The peaks of a rhythm that music is to land on.

    A weak peak close to stronger ones is the body's recovery from a strike, not a strike;
    where nothing stronger is near, in a calm stretch, it is what there is to follow.

    Args:
        peaks_s: ``(peaks,)``, rising.
        strengths: ``(peaks,)``, 0..1.

    Returns:
        the peaks that stay, and their strengths in the range of the training music.
    """
    order = np.arange(len(peaks_s))
    left = np.searchsorted(peaks_s, peaks_s - LOCAL_MAX_RADIUS_S)
    right = np.searchsorted(peaks_s, peaks_s + LOCAL_MAX_RADIUS_S, side="right")
    strongest = [bool(strengths[k] >= strengths[left[k] : right[k]].max()) for k in order]
    stay = (strengths >= WEAK_PEAK_STRENGTH) | np.array(strongest, dtype=bool)
    return peaks_s[stay], MIN_ACCENT_STRENGTH + (1 - MIN_ACCENT_STRENGTH) * strengths[stay]


def seed_from_rhythm(seed: int, peaks_s: Array) -> int:
    """A seed for one rhythm: videos of a batch share the take's seed, and no more than that.

    Drawn by the take's seed alone, all of them would be in one key and in one room.

    Args:
        seed: of the take.
        peaks_s: ``(peaks,)``; what tells one video from another, to a tenth of a millisecond.
    """
    told = zlib.crc32(np.round(peaks_s * 1e4).astype("<i8").tobytes())
    return int(np.random.SeedSequence([seed, told]).generate_state(1)[0])


def choose_genre(peaks_s: Array, *, seed: int) -> str:
    """A style for a body whose style nobody has named.

    Peaks on a steady beat get one of the dance styles, others one of the two sports';
    which of them is drawn by the seed, so that takes differ.

    Args:
        peaks_s: ``(peaks,)``, of the first minute or so if there are many.
        seed: of the take.
    """
    first = peaks_s[peaks_s < peaks_s.min(initial=0.0) + 60.0]
    dance = fit_beat_period(first)[0] > MIN_BEAT_FIT
    styles = GENRES[:N_DANCE_GENRES] if dance else GENRES[N_DANCE_GENRES:]
    return styles[int(np.random.default_rng([seed, 11]).integers(len(styles)))]


def smoothed_energy(energy: Array) -> Array:
    """How lively the music is to be for what a body moves.

    A body's energy comes in bursts and is low in the middle; a composer's rises and falls over
    seconds (`synthesis.composer`). Notes that went by bursts would be few, and far apart in
    loudness.

    Args:
        energy: ``(frames,)`` at 16 Hz, 0..1.

    Returns:
        ``(frames,)``, 0..1: smooth, nine tenths of it in the range that composed pieces have;
        what hardly changes hardly changes here too.
    """
    if not len(energy):
        return energy
    smooth = gaussian_filter1d(energy, ENERGY_SMOOTHING_STD_S * POSE_FPS, mode="nearest")
    low, high = np.percentile(smooth, [5, 95])
    share = (smooth - low) / max(high - low, MIN_ENERGY_RANGE)
    lively: Array = (
        COMPOSED_ENERGY_RANGE[0] + (COMPOSED_ENERGY_RANGE[1] - COMPOSED_ENERGY_RANGE[0]) * share
    ).clip(0, 1)
    return lively


def with_arrangement(features: ClipFeatures, *, seed: int) -> ClipFeatures:
    """Features with chords and notes: their own, or ones drawn by the seed.

    A style that is not known is drawn for them too; the network is not told of it.
    """
    if features.harmony is not None and features.arrangement is not None:
        return features
    style = STYLES_BY_NAME[features.genre or choose_genre(features.peaks_s, seed=seed)]
    harmony = features.harmony or sample_rhythm_harmony(
        features.peaks_s,
        features.strengths,
        duration_s=features.duration_s,
        style=style,
        seed=seed,
    )
    arrangement = features.arrangement or compose_arrangement(
        features.peaks_s,
        features.strengths,
        smoothed_energy(features.energy) if features.is_from_video else features.energy,
        harmony,
        duration_s=features.duration_s,
        style=style,
        rng=np.random.default_rng([seed, 14]),
    )
    return replace(features, harmony=harmony, arrangement=arrangement)


def align_rhythm_to_latent(features: ClipFeatures, start_frame: int, n_frames: int) -> Array:
    """Rhythm and energy on the time of the code.

    Args:
        features: of the clip.
        start_frame: first frame of the code, counted from the clip's second 0.
        n_frames: how many.

    Returns:
        ``(20, frames)``: five curves (three bumps around peaks, a trace since the last
        peak, energy), each at four moments of a code frame.
    """
    moments = (
        start_frame * MEL_FRAMES_PER_LATENT_FRAME
        + np.arange(n_frames * MEL_FRAMES_PER_LATENT_FRAME)
    ).astype(np.float64)
    peaks = features.peaks_s * SAMPLE_RATE_HZ / 256
    reach = 5 * max(PEAK_BUMP_STD_FRAMES)
    near = (peaks > moments[0] - reach) & (peaks < moments[-1] + reach)
    distance = moments[:, None] - peaks[near]
    strengths = features.strengths[near]
    curves = [
        _max_over_peaks(np.exp(-0.5 * (distance / width) ** 2))
        for width in PEAK_BUMP_STD_FRAMES[:2]
    ]
    curves.append(
        _max_over_peaks(np.exp(-0.5 * (distance / PEAK_BUMP_STD_FRAMES[2]) ** 2) * strengths)
    )
    last = _previous_peak(peaks, moments)
    curves.append(np.exp(-(moments - last) / PEAK_TRACE_DECAY_FRAMES))
    energy_at = np.arange(len(features.energy)) * (
        LATENT_FPS * MEL_FRAMES_PER_LATENT_FRAME / POSE_FPS
    )
    curves.append(np.interp(moments, energy_at, features.energy))
    folded: Array = np.stack(curves).reshape(len(curves), n_frames, MEL_FRAMES_PER_LATENT_FRAME)
    return folded.transpose(0, 2, 1).reshape(
        len(curves) * MEL_FRAMES_PER_LATENT_FRAME, n_frames
    )


def _max_over_peaks(bump_values: Array) -> Array:
    height: Array = bump_values.max(axis=1, initial=0.0)
    return height


def _previous_peak(peaks: Array, times: Array) -> Array:
    """The last peak not after each moment; minus infinity before the first."""
    before: Array = np.concatenate([[-np.inf], peaks])
    return before[np.searchsorted(peaks, times, side="right")]


def rhythm_tokens(
    features: ClipFeatures, start_frame: int, n_frames: int
) -> tuple[Array, Array]:
    """The paper's rhythm sequence for a stretch of the code.

    Args:
        features: of the clip.
        start_frame: first frame of the code.
        n_frames: how many.

    Returns:
        peaks, 0 or 1, and seconds since the last peak (Eq. 9; 0 before the first), both
        ``(tokens,)`` at 16 Hz.
    """
    n_tokens = round(n_frames / LATENT_FPS * POSE_FPS)
    start_s = start_frame / LATENT_FPS
    index = np.floor((features.peaks_s - start_s) * POSE_FPS).astype(int)
    peaks = np.zeros(n_tokens)
    peaks[index[(index >= 0) & (index < n_tokens)]] = 1
    moments = start_s + (np.arange(n_tokens) + 1) / POSE_FPS
    last = _previous_peak(features.peaks_s, moments)
    interval = np.where(np.isfinite(last), np.minimum(moments - last, MAX_PEAK_INTERVAL_S), 0.0)
    return peaks, interval


def align_harmony_to_latent(harmony: Harmony | None, start_frame: int, n_frames: int) -> Array:
    """Chords and pulse on the time of the code.

    Args:
        harmony: the plan, or None if there is none.
        start_frame: first frame of the code, counted from the clip's second 0.
        n_frames: how many.

    Returns:
        ``(32, frames)``: twelve pitch classes of the chord and twelve of its root, as shares of
        a frame, and bumps where chords change and where the pulse falls, each at four moments
        of a frame. Zeros where there is no plan.
    """
    if harmony is None:
        return np.zeros((HARMONY_CHANNELS, n_frames))
    moments = (
        start_frame * MEL_FRAMES_PER_LATENT_FRAME
        + np.arange(n_frames * MEL_FRAMES_PER_LATENT_FRAME)
    ) / (LATENT_FPS * MEL_FRAMES_PER_LATENT_FRAME)
    sounding = np.searchsorted(harmony.chord_starts_s, moments, side="right") - 1
    classes = np.concatenate(
        [harmony.chord_pitch_classes(), harmony.root_pitch_classes()], axis=1
    )
    chords = (
        classes[sounding.clip(min=0)]
        .reshape(n_frames, MEL_FRAMES_PER_LATENT_FRAME, 24)
        .mean(axis=1)
    )
    bumps = []
    for times_s in (harmony.chord_starts_s, harmony.subdivisions_s):
        after = np.searchsorted(times_s, moments)
        around = np.concatenate([[-np.inf], times_s, [np.inf]])
        nearest = np.minimum(moments - around[after], around[after + 1] - moments)
        width_s = PEAK_BUMP_STD_FRAMES[0] / (LATENT_FPS * MEL_FRAMES_PER_LATENT_FRAME)
        bumps.append(
            np.exp(-0.5 * (nearest / width_s) ** 2).reshape(
                n_frames, MEL_FRAMES_PER_LATENT_FRAME
            )
        )
    return np.concatenate([chords, *bumps], axis=1).T


def slice_note_latent(
    note_latent: NDArray[np.float32] | None, start_frame: int, n_frames: int, n_channels: int
) -> Array:
    """The code of what the notes would about sound like, ``(channels, frames)``.

    Args:
        note_latent: of the whole clip, or None if no notes are told: that is zeros.
        start_frame: first frame of the code, counted from the clip's second 0.
        n_frames: how many; zeros after the last of the clip.
        n_channels: of the code.
    """
    part = (
        np.zeros((n_channels, 0))
        if note_latent is None
        else note_latent[:, start_frame : start_frame + n_frames]
    )
    return np.pad(part, ((0, 0), (0, n_frames - part.shape[1])))


def normalize_pose(keypoints: Array | None, start_frame: float, n_frames: int) -> Array:
    """A body in its own measure: heights, from where it usually is.

    Args:
        keypoints: ``(frames, 17, 3)`` of the whole clip, at 16 Hz, or None.
        start_frame: first frame of the code.
        n_frames: frames at 16 Hz wanted.

    Returns:
        ``(n_tokens, 17, 3)``: x, y and score; zeros where there is no body.
    """
    seen = np.zeros((n_frames, 17, 3))
    if keypoints is None or not np.isfinite(keypoints).all() or not keypoints[..., 2].any():
        return seen
    places, scores = keypoints[..., :2], keypoints[..., 2:]
    heights = np.ptp(places[..., 1], axis=1)
    size = max(float(np.median(heights[scores[..., 0].any(axis=1)])), 1.0)
    middle = np.median(places, axis=(0, 1))
    own = np.concatenate([((places - middle) / size).clip(-3, 3), scores], axis=2)
    first = round(start_frame / LATENT_FPS * POSE_FPS)
    part = own[first : first + n_frames] * (scores[first : first + n_frames] > 0)
    seen[: len(part)] = part
    return seen


def build_condition(
    features: ClipFeatures, start_frame: int, n_frames: int, *, note_latent_channels: int = 0
) -> MiniCondition:
    """Everything for one stretch of the code, as a batch of one."""
    peaks, interval_s = rhythm_tokens(features, start_frame, n_frames)
    genre = np.zeros(len(GENRES))
    if features.genre is not None:
        genre[GENRES.index(features.genre)] = 1
    values = (
        align_rhythm_to_latent(features, start_frame, n_frames),
        peaks,
        interval_s,
        genre,
        align_harmony_to_latent(features.harmony, start_frame, n_frames),
        normalize_pose(features.keypoints, start_frame, len(peaks)),
        np.array([features.timing_jitter]),
        slice_note_latent(features.note_latent, start_frame, n_frames, note_latent_channels),
    )
    return MiniCondition(*(torch.from_numpy(value)[None].float() for value in values))


def collate_conditions(conditions: list[MiniCondition]) -> MiniCondition:
    """Stretches of one length as one batch."""
    return MiniCondition(*(torch.cat(parts) for parts in zip(*conditions, strict=True)))
