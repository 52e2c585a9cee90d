"""Synthetic data set: its partitions, and single videos rendered and prepared."""

from pathlib import Path
from typing import Any

import pytest
from conftest import RunLoris

from loris_cli.dataset import clip_cutting, synthetic_music
from loris_cli.dataset.build_manifest import build_manifest
from loris_cli.dataset.clip_cutting import CuttingRules, LengthRule
from loris_cli.dataset.prepare_video import prepare_source
from loris_cli.dataset.source_names import ACTIVITIES
from loris_cli.dataset.synthetic_videos import SyntheticTask, list_synthetic_tasks
from loris_cli.pose.keypoints import read_poses
from loris_cli.video.probe import probe_video


@pytest.fixture
def short_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skating clips of 4 s."""
    lengths = (
        LengthRule(subset="fs25", duration_s=4.0),
        LengthRule(subset="fs50", duration_s=4.0),
    )
    rules = CuttingRules(trim_s=0.0, lengths=lengths)
    monkeypatch.setitem(clip_cutting.CUTTING_RULES, "skate", rules)


def select_tasks(
    tasks: list[SyntheticTask], activity: str, partition: str
) -> list[SyntheticTask]:
    return [
        t for t in tasks if t.activity == activity and t.context.settings.partition == partition
    ]


@pytest.mark.parametrize(
    ("n_clips", "counts"),
    [(1, (2, 2, 2)), (4, (2, 2, 2)), (10, (6, 2, 2)), (200, (180, 10, 10))],
)
def test_each_partition_of_each_activity_has_its_number_of_videos(
    n_clips: int, counts: tuple[int, int, int]
) -> None:
    tasks = list_synthetic_tasks(Path("data"), n_clips)
    for activity in ACTIVITIES:
        partitions = ("train", "val", "test")
        sizes = tuple(len(select_tasks(tasks, activity, name)) for name in partitions)
        assert sizes == counts
    assert len({t.source_path for t in tasks}) == len({t.seed for t in tasks}) == len(tasks)


def test_only_test_videos_are_rendered_and_need_a_pose_estimator() -> None:
    tasks = list_synthetic_tasks(Path("data"), 4)
    modes = {
        (t.context.settings.partition, t.context.settings.pose_estimator, t.is_rendered)
        for t in tasks
    }
    assert modes == {
        ("train", "file", False),
        ("val", "file", False),
        ("test", "blazepose", True),
    }
    assert all(t.context.settings.synthetic for t in tasks)


def test_different_seeds_give_different_videos() -> None:
    first, second = (list_synthetic_tasks(Path("data"), 4, seed=seed) for seed in (0, 1))
    assert not {t.seed for t in first} & {t.seed for t in second}
    assert not {t.source_path for t in first} & {t.source_path for t in second}


@pytest.mark.parametrize(
    "words", ["--seed 1", "--shard 1/2", "--visual-features i3d-r50", "--json"]
)
def test_options_without_effect_on_synthetic_music_are_refused(
    loris: RunLoris, tmp_path: Path, words: str
) -> None:
    result = loris("dataset", "synthesize", tmp_path / "data", "--music", *words.split())

    assert result.exit_code == 2
    assert f"{words.split()[0]} cannot be used with --music" in result.stderr
    assert not (tmp_path / "data").exists()


def test_default_values_are_accepted_for_synthetic_music(
    loris: RunLoris, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[dict[str, Any]] = []
    monkeypatch.setattr(
        synthetic_music, "generate_music_dataset", lambda _, **values: calls.append(values)
    )

    words = "--music --clips 3 --seed 0 --visual-features none".split()
    result = loris("dataset", "synthesize", tmp_path, *words)

    assert result.exit_code == 0, result.stderr
    assert [values["n_train"] for values in calls] == [3]


def test_a_synthetic_video_is_prepared_like_a_recording(
    short_clips: None, tmp_path: Path
) -> None:
    task = select_tasks(list_synthetic_tasks(tmp_path, 4), "skate", "val")[0]

    record = prepare_source(task)
    assert record["status"] == "done", record

    poses = read_poses(task.source_path.with_name(task.source_path.stem + ".poses.npz"))
    assert poses.n_frames == 64
    assert probe_video(task.source_path).duration_s == pytest.approx(4.0, abs=0.05)
    rows = build_manifest(tmp_path)
    assert [row["subset"] for row in rows] == ["fs25", "fs50"]
    for row in rows:
        assert (row["partition"], row["synthetic"], row["pose_source"]) == ("val", True, "file")
        assert row["genre"] == "skate"


@pytest.mark.nightly
def test_blazepose_detects_the_rendered_dancer(short_clips: None, tmp_path: Path) -> None:
    task = select_tasks(list_synthetic_tasks(tmp_path, 4), "skate", "test")[0]
    record = prepare_source(task)
    assert len(record["clips"]) == 2
    for clip in record["clips"]:
        assert clip["pose_source"] == "blazepose"
        assert clip["quality_measures"]["person_fraction"] > 0.9
        assert clip["quality_measures"]["multi_person_fraction"] < 0.25
