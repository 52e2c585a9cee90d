"""The compatibility mode ``strict``: Eq. 4 to 7 of the paper without additions."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from builders import make_clip, make_features, make_poses, write_clip
from conftest import RunLoris
from tiny_models import TINY_PAPER_CONFIG

from loris_cli.array_types import Array
from loris_cli.pose.keypoints import write_poses
from loris_cli.rhythm.pose_rhythm import rhythm_from_poses
from loris_cli.soundtrack.paper_conditioning import extract_window
from loris_cli.training.datasets import TrainingClips
from loris_cli.training.paper_stage import PaperStage, build_paper_config
from loris_cli.training.settings import resolve_settings


def make_keypoints(n_frames: int = 160, seed: int = 0) -> Array:
    rng = np.random.default_rng(seed)
    keypoints = rng.normal(0, 3, (n_frames, 17, 3)).cumsum(axis=0) + 100
    keypoints[..., 2] = rng.uniform(0.2, 1, (n_frames, 17))
    return keypoints


def compute_peaks_literally(keypoints: Array) -> list[int]:
    """Return the peak frames by Eq. 4 to 7, written out with loops."""
    n_frames, n_bins = len(keypoints), 10
    histogram = np.zeros((n_frames, n_bins))
    for t in range(1, n_frames):
        for x, y in keypoints[t, :, :2] - keypoints[t - 1, :, :2]:
            degrees = np.degrees(np.arctan2(y, x)) % 180
            histogram[t, min(int(degrees // 18), n_bins - 1)] += np.hypot(x, y)
    envelope = np.zeros(n_frames)
    for t in range(2, n_frames):
        envelope[t] = np.maximum(histogram[t] - histogram[t - 1], 0).sum()
    envelope /= envelope.max()
    peaks: list[int] = []
    for n in range(n_frames):
        greatest = envelope[max(n - 3, 0) : n + 4].max()
        mean = envelope[max(n - 2, 0) : n + 3].mean()
        is_peak = envelope[n] == greatest and envelope[n] >= mean + 0.2 * greatest
        if is_peak and envelope[n] > 0 and (not peaks or n - peaks[-1] > 1):
            peaks.append(n)
    return peaks


@pytest.mark.parametrize("seed", range(5))
def test_strict_peaks_follow_equation_7(seed: int) -> None:
    keypoints = make_keypoints(seed=seed)
    rhythm = rhythm_from_poses(keypoints, compat="strict")
    expected = compute_peaks_literally(keypoints)
    assert len(expected) > 5
    assert (rhythm.times_s * 16).tolist() == expected
    np.testing.assert_array_equal(rhythm.strengths, rhythm.envelope[expected])
    in_python = rhythm_from_poses(keypoints, paper_exact=True, peak_placement="onset")
    assert (in_python.times_s * 16).round().tolist() == expected


@pytest.mark.parametrize("n_frames", [0, 1, 2, 5])
def test_strict_peaks_of_short_or_resting_poses_are_empty(n_frames: int) -> None:
    rhythm = rhythm_from_poses(np.ones((n_frames, 17, 3)), compat="strict")
    assert len(rhythm.times_s) == 0
    assert len(rhythm.envelope) == n_frames


def test_rhythm_command_has_the_strict_mode(loris: RunLoris, tmp_path: Path) -> None:
    keypoints = make_keypoints()
    write_poses(tmp_path / "a.npz", make_poses(keypoints, frame_interval_s=0.04))
    out = tmp_path / "a.json"
    result = loris("rhythm", tmp_path / "a.npz", "-o", out, "--compat", "strict")
    assert result.exit_code == 0, result.stderr
    rhythm = json.loads(out.read_text())
    expected = compute_peaks_literally(keypoints.astype(np.float32).astype(float))
    assert rhythm["compat"] == "strict"
    np.testing.assert_allclose(rhythm["times_s"], np.array(expected) / 16)
    options = ("--compat", "strict", "--rhythm", "stft", "--overwrite")
    assert loris("rhythm", tmp_path / "a.npz", "-o", out, *options).exit_code == 2


def test_network_of_the_strict_mode_gets_strict_peaks() -> None:
    config = replace(TINY_PAPER_CONFIG, compat="strict")
    keypoints = make_keypoints(32)
    features = make_features(2.0, keypoints=keypoints)
    window = extract_window(features, config, 0, is_only=True)
    steps = (np.flatnonzero(window.rhythm) + 2).tolist()
    assert steps == compute_peaks_literally(keypoints)
    assert config.n_samples == TINY_PAPER_CONFIG.n_samples


def test_training_setting_selects_the_strict_mode(tmp_path: Path) -> None:
    keypoints = make_keypoints(32).astype(np.float32)
    clip = make_clip("a", duration_s=2.0, poses="poses/a.npz")
    arrays = {
        "pose_peaks_s": np.array([0.3]),
        "pose_peak_strengths": np.ones(1),
        "motion_energy": np.ones(32),
    }
    write_clip(tmp_path, clip, np.zeros(44_100), np.array([1.0]), **arrays)
    write_poses(tmp_path / clip.poses, make_poses(keypoints))
    overrides = ["compat=strict", "channels=64", "context_features=16"]
    settings = resolve_settings(
        preset="paper", stage="conditional", recipe="default", subset="clicks",
        overrides=overrides,
    )  # fmt: skip
    assert build_paper_config(settings, [clip], "").compat == "strict"
    config = replace(TINY_PAPER_CONFIG, compat="strict", visual_projection="none")
    clips = TrainingClips(data_dir=tmp_path, train=[clip], val=[clip])
    stage = PaperStage(clips, settings, config=config)
    steps = (np.flatnonzero(stage.train_set[0]["rhythm"].numpy()) + 2).tolist()
    assert steps == compute_peaks_literally(keypoints.astype(float))
