"""Windows of the trained baselines: slices of features, and joined audio."""

import numpy as np
import pytest

from loris_cli.baselines.windows import generate_windows, slice_features
from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.models.generator_interface import VideoFeatures


def make_features(duration_s: float) -> VideoFeatures:
    n_frames = round(duration_s * 16)
    return VideoFeatures(
        duration_s=duration_s,
        peaks_s=np.arange(0.5, duration_s, 1.0),
        strengths=np.linspace(0, 1, len(np.arange(0.5, duration_s, 1.0))),
        energy=np.arange(n_frames) / n_frames,
        keypoints=np.ones((n_frames, 17, 3)) * np.arange(n_frames)[:, None, None],
        visual=np.arange(2 * duration_s)[:, None] * np.ones(4),
    )


def test_features_of_a_window_have_times_relative_to_its_start() -> None:
    window = slice_features(make_features(10), 2.0, 3.0)
    np.testing.assert_allclose(window.peaks_s, [0.5, 1.5, 2.5])
    assert window.keypoints is not None
    assert window.visual is not None
    assert window.keypoints[0, 0, 0] == 32
    assert len(window.keypoints) == len(window.energy) == 48
    assert window.visual[:, 0].tolist() == [4, 5, 6, 7, 8, 9]


def test_a_window_after_the_end_repeats_the_last_frame() -> None:
    window = slice_features(make_features(4), 3.0, 3.0)
    assert window.keypoints is not None
    assert len(window.keypoints) == 48
    assert window.keypoints[16:, 0, 0].tolist() == [63.0] * 32


@pytest.mark.parametrize("overlap_s", [0.0, 0.05])
@pytest.mark.parametrize("duration_s", [0.4, 2.0, 5.3])
def test_windows_have_the_exact_length_and_keep_the_level(
    duration_s: float, overlap_s: float
) -> None:
    indices = []

    def generate_window(window: VideoFeatures, index: int) -> np.ndarray:
        indices.append(index)
        return np.full(2 * SAMPLE_RATE_HZ, 0.5, dtype=np.float32)

    blocks = list(
        generate_windows(
            generate_window,
            make_features(duration_s),
            window_s=2.0,
            overlap_s=overlap_s,
            progress=lambda done, total: None,
        )
    )
    samples = np.concatenate(blocks, axis=1)
    assert samples.shape == (1, round(duration_s * SAMPLE_RATE_HZ))
    assert indices == list(range(len(indices)))
    # An equal-power crossfade of equal signals is at most 3 dB above either.
    assert samples.min() == 0.5
    assert samples.max() <= 0.5 * 2**0.5 + 1e-6
    assert (samples.max() == 0.5) == (overlap_s == 0 or duration_s <= 2)
