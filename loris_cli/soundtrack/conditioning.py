"""Conditions of the ``mini`` model: clip features as tensors aligned with latent frames.

rhythm, energy, genre, chords, notes, pose -> MiniCondition of a window
"""

from collections.abc import Set

import numpy as np
import torch
from numpy.typing import NDArray

from loris_cli.array_types import Array, Float32Array
from loris_cli.audio.mel import HOP_LENGTH, MEL_FPS
from loris_cli.composition.chords import Harmony
from loris_cli.composition.production import PRODUCTION_CHANNELS
from loris_cli.config import GENRES, LATENT_FPS, POSE_FPS, SAMPLE_RATE_HZ
from loris_cli.models.condition_routes import ROUTES
from loris_cli.models.generator_interface import ClipFeatures
from loris_cli.models.mel_autoencoder import MEL_FRAMES_PER_LATENT_FRAME
from loris_cli.models.mini_unet import MiniCondition
from loris_cli.pose.normalization import normalize_keypoints

PEAK_BUMP_STD_FRAMES = (1.0, 4.0, 12.0)
"""Standard deviations of the Gaussian bumps at a peak, in log-mel frames of 11.6 ms."""

HARMONY_CHANNELS = 24 + 2 * MEL_FRAMES_PER_LATENT_FRAME

PEAK_TRACE_DECAY_FRAMES = 20.0
"""Time constant of the exponential decay after a peak, in log-mel frames."""

MAX_PEAK_INTERVAL_S = 8.0
"""Upper limit of the interval since the last peak; longer ones are rare in training."""


def _mel_frame_indices(start: int, n_frames: int) -> NDArray[np.int64]:
    """Return the indices of the log-mel frames in a range of latent frames."""
    n_mel_frames = n_frames * MEL_FRAMES_PER_LATENT_FRAME
    return start * MEL_FRAMES_PER_LATENT_FRAME + np.arange(n_mel_frames)


def align_rhythm_to_latent(features: ClipFeatures, start: int, n_frames: int) -> Array:
    """Return rhythm and energy sampled on latent frames.

    Args:
        features: features of the clip.
        start: first latent frame, counted from the start of the clip.
        n_frames: number of latent frames.

    Returns:
        ``(20, frames)``: five curves (Gaussian bumps at peaks in three widths, decay since the
        last peak, energy), each sampled four times per latent frame.
    """
    times = _mel_frame_indices(start, n_frames).astype(np.float64)
    peaks = features.peaks_s * SAMPLE_RATE_HZ / HOP_LENGTH
    reach = 5 * max(PEAK_BUMP_STD_FRAMES)
    near = (peaks > times[0] - reach) & (peaks < times[-1] + reach)
    distance = times[:, None] - peaks[near]
    bumps = [np.exp(-0.5 * (distance / width) ** 2) for width in PEAK_BUMP_STD_FRAMES]
    bumps[2] *= features.strengths[near]
    trace = np.exp(-(times - _previous_peak(peaks, times)) / PEAK_TRACE_DECAY_FRAMES)
    energy_frames = np.arange(len(features.energy)) * (MEL_FPS / POSE_FPS)
    energy = np.interp(times, energy_frames, features.energy)
    curves = np.stack([*(bump.max(axis=1, initial=0.0) for bump in bumps), trace, energy])
    folded: Array = curves.reshape(len(curves), n_frames, MEL_FRAMES_PER_LATENT_FRAME)
    return folded.transpose(0, 2, 1).reshape(-1, n_frames)


def _previous_peak(peaks: Array, times: Array) -> Array:
    """Return the last peak at or before each time; minus infinity before the first peak."""
    padded: Array = np.concatenate([[-np.inf], peaks])
    return padded[np.searchsorted(peaks, times, side="right")]


def rhythm_tokens(features: ClipFeatures, start: int, n_frames: int) -> tuple[Array, Array]:
    """Return the paper's rhythm sequence for a range of latent frames.

    Args:
        features: features of the clip.
        start: first latent frame.
        n_frames: number of latent frames.

    Returns:
        peaks, 0 or 1, and seconds since the last peak (Eq. 9; 0 before the first), both
        ``(tokens,)`` at 16 Hz.
    """
    n_tokens = round(n_frames / LATENT_FPS * POSE_FPS)
    start_s = start / LATENT_FPS
    index = np.floor((features.peaks_s - start_s) * POSE_FPS).astype(int)
    peaks = np.zeros(n_tokens)
    peaks[index[(index >= 0) & (index < n_tokens)]] = 1
    times_s = start_s + (np.arange(n_tokens) + 1) / POSE_FPS
    last_s = _previous_peak(features.peaks_s, times_s)
    interval_s = np.minimum(times_s - last_s, MAX_PEAK_INTERVAL_S)
    return peaks, np.where(np.isfinite(last_s), interval_s, 0.0)


def align_harmony_to_latent(harmony: Harmony | None, start: int, n_frames: int) -> Array:
    """Return chords and beat subdivisions sampled on latent frames.

    Args:
        harmony: chords of the clip, or None.
        start: first latent frame, counted from the start of the clip.
        n_frames: number of latent frames.

    Returns:
        ``(32, frames)``: twelve pitch classes of the chord and twelve of its root, as fractions
        of a frame; Gaussian bumps at chord changes and at subdivisions, each sampled four times
        per frame. Zeros without harmony.
    """
    if harmony is None:
        return np.zeros((HARMONY_CHANNELS, n_frames))
    times_s = _mel_frame_indices(start, n_frames) / MEL_FPS
    chord = np.searchsorted(harmony.chord_starts_s, times_s, side="right") - 1
    pitch_classes = [harmony.chord_pitch_classes(), harmony.root_pitch_classes()]
    classes = np.concatenate(pitch_classes, axis=1)[chord.clip(min=0)]
    rows = [classes.reshape(n_frames, MEL_FRAMES_PER_LATENT_FRAME, 24).mean(axis=1)]
    width_s = PEAK_BUMP_STD_FRAMES[0] / MEL_FPS
    for events_s in (harmony.chord_starts_s, harmony.subdivisions_s):
        after = np.searchsorted(events_s, times_s)
        padded = np.concatenate([[-np.inf], events_s, [np.inf]])
        nearest_s = np.minimum(times_s - padded[after], padded[after + 1] - times_s)
        bumps = np.exp(-0.5 * (nearest_s / width_s) ** 2)
        rows.append(bumps.reshape(n_frames, MEL_FRAMES_PER_LATENT_FRAME))
    return np.concatenate(rows, axis=1).T


def slice_note_latent(
    note_latent: Float32Array | None, start: int, n_frames: int, n_channels: int
) -> Array:
    """Return a range of the note spectrogram's latents, ``(channels, frames)``.

    Args:
        note_latent: latents of the entire clip; None returns zeros.
        start: first latent frame, counted from the start of the clip.
        n_frames: number of latent frames; zero-padded after the end of the clip.
        n_channels: channels of the latents.
    """
    if note_latent is None:
        return np.zeros((n_channels, n_frames))
    window = note_latent[:, start : start + n_frames]
    return np.pad(window, ((0, 0), (0, n_frames - window.shape[1])))


def normalize_pose(keypoints: Array | None, start: float, n_frames: int) -> Array:
    """Return keypoints in units of the performer's height, relative to the median position.

    Args:
        keypoints: keypoints of the entire clip, ``(frames, 17, 3)`` at 16 Hz, or None.
        start: first latent frame.
        n_frames: number of frames at 16 Hz.

    Returns:
        ``(n_frames, 17, 3)``: x, y and score; zeros where no person is detected.
    """
    padded = np.zeros((n_frames, 17, 3))
    if (normalized := normalize_keypoints(keypoints)) is not None:
        first = round(start / LATENT_FPS * POSE_FPS)
        window = normalized[first : first + n_frames]
        padded[: len(window)] = window
    return padded


def build_condition(
    features: ClipFeatures,
    start: int,
    n_frames: int,
    *,
    note_latent_channels: int = 0,
    routes: Set[str] = frozenset(ROUTES),
) -> MiniCondition:
    """Return the conditions of a range of latent frames, as a batch of one.

    Args:
        features: features of the clip.
        start: first latent frame, counted from the start of the clip.
        n_frames: number of latent frames.
        note_latent_channels: channels of the latents of the note spectrogram.
        routes: the conditions of `ROUTES` that the network receives, if they are known.
    """
    known = {
        "rhythm_tokens": True,
        "aligned_rhythm": True,
        "harmony": features.harmony is not None,
        "notes": features.note_latent is not None,
    }
    window = (start, n_frames)
    peaks, interval_s = rhythm_tokens(features, *window)
    genre = np.zeros(len(GENRES))
    if features.genre is not None:
        genre[GENRES.index(features.genre)] = 1
    values = (
        align_rhythm_to_latent(features, *window),
        peaks,
        interval_s,
        genre,
        align_harmony_to_latent(features.harmony, *window),
        normalize_pose(features.keypoints, start, len(peaks)),
        np.zeros(PRODUCTION_CHANNELS) if features.production is None else features.production,
        slice_note_latent(features.note_latent, *window, note_latent_channels),
        np.array([float(known[name] and name in routes) for name in ROUTES]),
    )
    return MiniCondition(*(torch.from_numpy(value)[None].float() for value in values))


def collate_conditions(conditions: list[MiniCondition]) -> MiniCondition:
    """Concatenate the conditions of windows of equal length into one batch."""
    return MiniCondition(*(torch.cat(values) for values in zip(*conditions, strict=True)))
