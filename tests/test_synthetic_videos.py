"""Synthetic data set: its partitions, and single videos rendered and prepared."""

import errno
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import RunLoris

from loris_cli.array_types import Samples
from loris_cli.commands import dataset as dataset_commands
from loris_cli.composition.synthesizer_settings import BUILTIN_SOUNDFONT, SynthesizerSettings
from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.dataset import clip_cutting, synthetic_music, synthetic_videos
from loris_cli.dataset.build_manifest import build_manifest
from loris_cli.dataset.clip_cutting import CuttingRules, LengthRule
from loris_cli.dataset.prepare_video import prepare_source
from loris_cli.dataset.source_names import ACTIVITIES
from loris_cli.dataset.synthesizer_record import record_synthesizers
from loris_cli.dataset.synthetic_videos import SyntheticTask, list_synthetic_tasks
from loris_cli.errors import OutputError, UsageError
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


@pytest.mark.parametrize(
    ("n_clips", "n_test_clips", "counts"),
    [
        (10, 6, (2, 2, 6)),
        (40, 20, (18, 2, 20)),
        (40, 1, (37, 2, 1)),
        (200, 50, (140, 10, 50)),
        (4, None, (2, 2, 2)),
        (200, None, (180, 10, 10)),
    ],
)
def test_test_videos_are_taken_from_those_for_training(
    n_clips: int, n_test_clips: int | None, counts: tuple[int, int, int]
) -> None:
    tasks = list_synthetic_tasks(Path("data"), n_clips, n_test_clips=n_test_clips)
    for activity in ACTIVITIES:
        partitions = ("train", "val", "test")
        sizes = tuple(len(select_tasks(tasks, activity, name)) for name in partitions)
        assert sizes == counts


def test_a_test_video_does_not_depend_on_the_number_of_videos() -> None:
    few, many = (
        {t.source_path: t.seed for t in list_synthetic_tasks(Path("data"), 40, n_test_clips=n)}
        for n in (2, 20)
    )
    assert few == {t.source_path: t.seed for t in list_synthetic_tasks(Path("data"), 40)}
    shared = few.keys() & many.keys()
    assert len(shared) == 3 * (18 + 2 + 2)
    assert all(few[path] == many[path] for path in shared)


@pytest.mark.parametrize(
    ("n_clips", "n_test_clips"),
    [
        (40, 37),
        (1, 1),
        (10, 40),
        (40, 200),
    ],
)
def test_hint_of_too_many_test_videos_is_the_smallest_number_of_videos(
    n_clips: int, n_test_clips: int
) -> None:
    with pytest.raises(UsageError) as caught:
        list_synthetic_tasks(Path("data"), n_clips, n_test_clips=n_test_clips)

    option, number = caught.value.hint.split()
    assert option == "--clips"
    with pytest.raises(UsageError):
        list_synthetic_tasks(Path("data"), int(number) - 1, n_test_clips=n_test_clips)
    tasks = list_synthetic_tasks(Path("data"), int(number), n_test_clips=n_test_clips)
    assert len(select_tasks(tasks, "dance", "test")) == n_test_clips
    assert len(select_tasks(tasks, "dance", "train")) == 2


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
    assert [(values["n_train"], values["n_test"]) for values in calls] == [(3, 288)]


@pytest.fixture
def recorded_tasks(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Tasks of `loris dataset synthesize`, which are not run."""
    tasks: list[Any] = []
    monkeypatch.setattr(
        dataset_commands, "prepare_and_report", lambda new_tasks, *_: tasks.extend(new_tasks)
    )
    monkeypatch.setattr(
        synthetic_music, "generate_music_dataset", lambda _, **values: tasks.append(values)
    )
    return tasks


def test_test_clips_of_music_are_test_pieces(
    loris: RunLoris, tmp_path: Path, recorded_tasks: list[Any]
) -> None:
    result = loris("dataset", "synthesize", tmp_path, "--music", "--test-clips", 7)

    assert result.exit_code == 0, result.stderr
    [values] = recorded_tasks
    assert (values["n_train"], values["n_test"]) == (1608, 7)


def test_too_many_test_clips_are_a_usage_error(
    loris: RunLoris, tmp_path: Path, recorded_tasks: list[Any]
) -> None:
    folder = tmp_path / "data"

    refused = loris("dataset", "synthesize", folder, "--test-clips", 37)

    assert refused.exit_code == 2
    assert "--test-clips 37" in refused.stderr
    assert not folder.exists()
    accepted = loris("dataset", "synthesize", folder, "--test-clips", 36)
    assert accepted.exit_code == 0, accepted.stderr
    assert len(select_tasks(recorded_tasks, "skate", "test")) == 36


def copy_soundfont(path: Path) -> Path:
    """Write a soundfont that differs from the bundled one in its last byte."""
    path.write_bytes(BUILTIN_SOUNDFONT.read_bytes() + b"\0")
    return path


@pytest.mark.parametrize("words", [[], ["--music"]], ids=["videos", "music"])
def test_a_data_set_has_the_music_of_one_synthesizer(
    loris: RunLoris, tmp_path: Path, recorded_tasks: list[Any], words: list[str]
) -> None:
    folder, soundfont = tmp_path / "data", copy_soundfont(tmp_path / "other.sf3")
    synthesize = ("dataset", "synthesize", folder, *words)
    assert loris(*synthesize).exit_code == 0
    record = (folder / "synthesizer.json").read_bytes()
    recorded_tasks.clear()

    refused = loris(*synthesize, "--soundfont", soundfont)

    assert refused.exit_code == 2
    assert str(folder) in refused.stderr
    assert recorded_tasks == []
    assert (folder / "synthesizer.json").read_bytes() == record
    assert loris(*synthesize, "--soundfont", BUILTIN_SOUNDFONT).exit_code == 0
    assert len(recorded_tasks) > 0
    assert (
        loris("dataset", "synthesize", tmp_path / "b", "--soundfont", soundfont).exit_code == 0
    )


def test_the_record_names_the_synthesizer_and_the_soundfont(tmp_path: Path) -> None:
    soundfont = copy_soundfont(tmp_path / "other.sf3")
    record_synthesizers(tmp_path / "a" / "b", [SynthesizerSettings(soundfont=soundfont)])

    content = (tmp_path / "a" / "b" / "synthesizer.json").read_text()
    sha256 = hashlib.sha256(soundfont.read_bytes()).hexdigest()
    assert json.loads(content) == [{"synthesizer": "builtin", "soundfont": sha256[:12]}]


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b'{"synthesizer": "builtin"}', b"\xff\xfe"]
)
def test_a_damaged_record_is_refused_and_preserved(tmp_path: Path, content: bytes) -> None:
    record = tmp_path / "synthesizer.json"
    record.write_bytes(content)

    with pytest.raises(UsageError):
        record_synthesizers(tmp_path, [SynthesizerSettings()])

    assert record.read_bytes() == content


@pytest.mark.parametrize("name", ["file", "file/data"])
def test_a_file_in_place_of_the_folder_is_an_output_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        record_synthesizers(tmp_path / name, [SynthesizerSettings()])


def test_a_folder_that_cannot_be_created_is_an_output_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", fail)
    with pytest.raises(OutputError):
        record_synthesizers(tmp_path / "data", [SynthesizerSettings()])


@pytest.mark.parametrize(
    ("options", "exit_code"),
    [(["--soundfont", "missing.sf2"], 4), (["--synthesizer", "fluidsynth"], 3)],
)
def test_an_unusable_synthesizer_leaves_no_data_set(
    loris: RunLoris,
    tmp_path: Path,
    options: list[str],
    exit_code: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "")
    for words in ([], ["--music"]):
        result = loris("dataset", "synthesize", tmp_path / "data", *words, *options)

        assert result.exit_code == exit_code
        assert options[1] in result.stderr
        assert not (tmp_path / "data").exists()


def test_videos_have_the_music_of_the_synthesizer(
    short_clips: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synthesizer = SynthesizerSettings(soundfont=copy_soundfont(tmp_path / "other.sf3"))
    recorded: list[SynthesizerSettings] = []

    def record(*_: object, synthesizer: SynthesizerSettings, **options: Any) -> Samples:
        recorded.append(synthesizer)
        return np.full(round(options["duration_s"] * SAMPLE_RATE_HZ), 0.1, dtype=np.float32)

    monkeypatch.setattr(synthetic_videos, "synthesize_training_piece", record)
    tasks = list_synthetic_tasks(tmp_path, 4, synthesizers=[synthesizer])

    select_tasks(tasks, "skate", "val")[0].ensure_source()

    assert recorded == [synthesizer]


def test_videos_have_the_music_of_one_of_the_synthesizers(tmp_path: Path) -> None:
    paths = [copy_soundfont(tmp_path / f"{k}.sf3") for k in range(2)]
    synthesizers = [SynthesizerSettings(soundfont=path) for path in paths]
    tasks = list_synthetic_tasks(tmp_path, 40, synthesizers=synthesizers)
    chosen = [task.synthesizer for task in tasks]
    assert {settings.soundfont for settings in chosen} == {*paths}
    again = list_synthetic_tasks(tmp_path, 40, synthesizers=synthesizers)
    assert [task.synthesizer for task in again] == chosen


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
