"""Source of the rhythm peaks in training: poses, or accents of the audio as a setting."""

from dataclasses import replace

import numpy as np
import pytest
from builders import make_clip, make_poses, write_clip
from tiny_models import TINY_PAPER_CONFIG

from loris_cli.dataset.manifest import Clip
from loris_cli.errors import UsageError
from loris_cli.pose.keypoints import write_poses
from loris_cli.training.datasets import (
    LatentDataset,
    TrainingClips,
    read_clip_annotations,
    sample_condition,
)
from loris_cli.training.paper_stage import PaperStage
from loris_cli.training.settings import Preset, TrainingSettings, resolve_settings

CLIP_S = 2.0
ACCENT_STEPS, POSE_STEPS = [6, 14, 22], [4, 12, 20, 28]
"""Rhythm steps of the accents of the audio and of the peaks of the poses."""


def step_times_s(steps: list[int]) -> np.ndarray:
    return (np.array(steps) + 2) / 16


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> TrainingClips:
    """A training and a validation clip with poses, and one of each without."""
    folder = tmp_path_factory.mktemp("data")
    n_frames = round(CLIP_S * 16)
    rows: list[Clip] = []
    for name, partition in (("a", "train"), ("b", "val"), ("c", "train"), ("d", "val")):
        poses = f"poses/{name}.npz" if name in "ab" else ""
        clip = make_clip(name, duration_s=CLIP_S, partition=partition, poses=poses)
        arrays = {
            "pose_peaks_s": step_times_s(POSE_STEPS),
            "pose_peak_strengths": np.ones(len(POSE_STEPS)),
            "motion_energy": np.full(n_frames, 0.5),
        }
        audio = np.random.default_rng(0).uniform(-0.5, 0.5, round(CLIP_S * 22_050))
        times_s = step_times_s(ACCENT_STEPS)
        write_clip(folder, clip, audio, times_s, **(arrays if poses else {}))
        if poses:
            points = np.random.default_rng(1).uniform(0, 100, (n_frames, 17, 2))
            write_poses(folder / poses, make_poses(points))
        rows.append(clip)
    return TrainingClips(data_dir=folder, train=rows[::2], val=rows[1::2])


def make_settings(preset: Preset, *overrides: str) -> TrainingSettings:
    return resolve_settings(
        preset=preset, stage="conditional", recipe="default", subset="clicks",
        overrides=["validation_samples=1", *overrides],
    )  # fmt: skip


def only(clips: TrainingClips, index: int) -> TrainingClips:
    return replace(clips, train=[clips.train[index]], val=[clips.val[index]])


def build_stage(clips: TrainingClips, *overrides: str) -> PaperStage:
    config = replace(TINY_PAPER_CONFIG, visual_projection="none", n_genres=12)
    return PaperStage(clips, make_settings("paper", *overrides), config=config)


def read_peaks(stage: PaperStage, partition: str, n_examples: int = 20) -> list[list[int]]:
    dataset = stage.train_set if partition == "train" else stage.val_set
    return [np.flatnonzero(dataset[k]["rhythm"].numpy()).tolist() for k in range(n_examples)]


@pytest.mark.parametrize("partition", ["train", "val"])
def test_paper_examples_have_the_peaks_of_their_poses(
    clips: TrainingClips, partition: str
) -> None:
    assert read_peaks(build_stage(only(clips, 0)), partition) == [POSE_STEPS] * 20


def test_audio_accents_are_a_setting_of_training_clips_only(clips: TrainingClips) -> None:
    stage = build_stage(only(clips, 0), "audio_accent_probability=0.5")
    peaks = read_peaks(stage, "train", 200)
    assert 70 < peaks.count(ACCENT_STEPS) < 130
    assert peaks.count(ACCENT_STEPS) + peaks.count(POSE_STEPS) == 200
    assert read_peaks(stage, "val") == [POSE_STEPS] * 20


def test_clips_without_poses_have_no_visual_peaks(clips: TrainingClips) -> None:
    stage = build_stage(clips)
    assert sorted(read_peaks(stage, "train", 2)) == [[], POSE_STEPS]
    assert sorted(read_peaks(stage, "val", 2)) == [[], POSE_STEPS]
    accents = build_stage(only(clips, 1), "audio_accent_probability=1")
    assert read_peaks(accents, "train", 2) == [ACCENT_STEPS] * 2
    assert read_peaks(accents, "val", 2) == [[]] * 2


def test_training_without_any_peaks_is_a_usage_error(clips: TrainingClips) -> None:
    with pytest.raises(UsageError, match="poses") as caught:
        build_stage(only(clips, 1))
    assert "audio_accent_probability" in caught.value.hint


def test_mini_mixes_accents_in_training_but_not_in_validation(clips: TrainingClips) -> None:
    pair = [clips.train[0], clips.val[0]]
    annotations = read_clip_annotations(clips.data_dir, pair, {}, {})[0]
    settings = make_settings("mini")
    assert settings.audio_accent_probability == LatentDataset.audio_accent_probability == 0.6
    rng = np.random.default_rng(0)

    def count_pose_rhythms(probability: float) -> int:
        options = {"audio_accent_probability": probability}
        sampled = [sample_condition(annotations, rng, **options) for _ in range(200)]
        return [len(features.peaks_s) for features in sampled].count(len(POSE_STEPS))

    assert 50 < count_pose_rhythms(0.6) < 110
    assert count_pose_rhythms(0.0) == 200
