"""The synthetic data set: its subsets, and one video rendered and prepared."""

import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from loris_cli.composition.midi_synthesis import DEFAULT_SOUNDFONT
from loris_cli.dataset import clip_cutting
from loris_cli.dataset.build_manifest import build_manifest
from loris_cli.dataset.clip_cutting import CuttingRules, LengthRule
from loris_cli.dataset.prepare_video import prepare_source
from loris_cli.dataset.synthetic_videos import SyntheticTask, list_synthetic_tasks
from loris_cli.pose.keypoints import read_poses
from loris_cli.video.probe import probe_video

needs_synthesiser = pytest.mark.skipif(
    shutil.which("fluidsynth") is None or not DEFAULT_SOUNDFONT.exists(),
    reason="needs fluidsynth and its soundfont",
)


@pytest.fixture
def short_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    cuts = (
        LengthRule(subset="fs25", duration_s=4.0),
        LengthRule(subset="fs50", duration_s=4.0),
    )
    monkeypatch.setitem(
        clip_cutting.CUTTING_RULES, "skate", CuttingRules(trim_s=0.0, lengths=cuts)
    )


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
def test_every_split_has_its_clips(n_clips: int, counts: tuple[int, int, int]) -> None:
    tasks = list_synthetic_tasks(Path("data"), n_clips)
    for activity in ("dance", "floor", "skate"):
        found = tuple(
            len(select_tasks(tasks, activity, partition))
            for partition in ("train", "val", "test")
        )
        assert found == counts
    assert len({t.source_path for t in tasks}) == len({t.seed for t in tasks}) == len(tasks)


def test_the_test_split_is_seen_and_the_rest_is_told() -> None:
    tasks = list_synthetic_tasks(Path("data"), 4)
    sources = Counter(
        (t.context.settings.partition, t.context.settings.pose_estimator, t.is_rendered)
        for t in tasks
    )
    assert set(sources) == {
        ("train", "file", False),
        ("val", "file", False),
        ("test", "blazepose", True),
    }
    assert all(t.context.settings.synthetic for t in tasks)


def test_another_seed_makes_other_clips() -> None:
    one, other = (list_synthetic_tasks(Path("data"), 4, seed=seed) for seed in (0, 1))
    assert not {t.seed for t in one} & {t.seed for t in other}
    assert not {t.source_path for t in one} & {t.source_path for t in other}


@needs_synthesiser
def test_a_made_up_video_goes_the_way_of_all_videos(short_clips: None, tmp_path: Path) -> None:
    pytest.importorskip("mido")
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


@needs_synthesiser
@pytest.mark.slow
def test_a_rendered_body_is_found_again(short_clips: None, tmp_path: Path) -> None:
    pytest.importorskip("mido")
    task = select_tasks(list_synthetic_tasks(tmp_path, 4), "skate", "test")[0]
    task.ensure_source()
    record = prepare_source(replace(task, source_path=task.source_path))
    assert all(clip["pose_source"] == "blazepose" for clip in record["clips"])
    measures = [clip["quality_measures"] for clip in record["clips"]]
    assert all(found["person_share"] > 0.9 for found in measures)
    assert all(found["multi_person_share"] < 0.25 for found in measures)
