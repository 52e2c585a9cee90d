"""Long-form generation of the baselines: windows generated one by one, and joined.

features of a clip -> features of each window -> samples of each window -> blocks of samples

The baselines of the paper have no long form of their own. Without an overlap the windows are
placed end to end; with one they are joined by an equal-power crossfade.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from loris_cli.array_types import Array, Samples
from loris_cli.config import POSE_FPS, SAMPLE_RATE_HZ
from loris_cli.models.generator_interface import ProgressCallback, VideoFeatures

VISUAL_ROWS_PER_S = 2
"""Rate of visual features (`VideoFeatures.visual`)."""

WindowFunction = Callable[[VideoFeatures, int], Samples]
"""Function that generates mono audio, ``(samples,)``, from the features of a window and its
index."""


def slice_features(features: VideoFeatures, start_s: float, duration_s: float) -> VideoFeatures:
    """Return the features of a time range; times are relative to its start.

    Args:
        features: features of the entire clip.
        start_s: start of the range.
        duration_s: duration of the range; frames after the end of the clip repeat the last one.

    Returns:
        features with ``round(duration_s * 16)`` frames and ``ceil(duration_s * 2)`` rows of
        visual features.
    """
    keep = (features.peaks_s >= start_s) & (features.peaks_s < start_s + duration_s)

    def slice_rows(values: Array | None, rate: float, n_rows: int) -> Array | None:
        if values is None or not len(values):
            return values
        index = round(start_s * rate) + np.arange(n_rows)
        return np.asarray(values[index.clip(max=len(values) - 1)])

    n_frames = round(duration_s * POSE_FPS)
    energy = slice_rows(features.energy, POSE_FPS, n_frames)
    assert energy is not None
    return replace(
        features,
        duration_s=duration_s,
        peaks_s=features.peaks_s[keep] - start_s,
        strengths=features.strengths[keep],
        energy=energy,
        keypoints=slice_rows(features.keypoints, POSE_FPS, n_frames),
        visual=slice_rows(
            features.visual, VISUAL_ROWS_PER_S, math.ceil(duration_s * VISUAL_ROWS_PER_S)
        ),
    )


def generate_windows(
    generate_window: WindowFunction,
    features: VideoFeatures,
    *,
    window_s: float,
    overlap_s: float,
    progress: ProgressCallback,
) -> Iterator[Samples]:
    """Generate the audio of a clip in windows.

    Args:
        generate_window: called with the features and the index of each window; returns
            ``round(window_s * 22050)`` samples or more.
        features: features of the entire clip.
        window_s: duration of a window.
        overlap_s: duration of the crossfade between neighbouring windows; 0 for none.
        progress: called after each window.

    Yields:
        blocks ``(1, samples)``, ``round(duration_s * 22050)`` samples in all.
    """
    n_total = round(features.duration_s * SAMPLE_RATE_HZ)
    n_window, n_overlap = round(window_s * SAMPLE_RATE_HZ), round(overlap_s * SAMPLE_RATE_HZ)
    n_hop = n_window - n_overlap
    n_windows = max(math.ceil((n_total - n_overlap) / n_hop), 1)
    fade = np.sin(np.linspace(0, np.pi / 2, n_overlap)).astype(np.float32)
    tail = np.zeros(n_overlap, dtype=np.float32)
    n_done = 0
    for index in range(n_windows):
        window = slice_features(features, index * n_hop / SAMPLE_RATE_HZ, window_s)
        samples = generate_window(window, index)[:n_window].astype(np.float32)
        if index:
            samples[:n_overlap] = samples[:n_overlap] * fade + tail * fade[::-1]
        is_last = index == n_windows - 1
        block = samples if is_last else samples[:n_hop]
        tail = samples[n_hop:]
        block = block[: n_total - n_done]
        n_done += len(block)
        progress(index + 1, n_windows)
        yield block[None]
