"""Preparation of one video: cutting rules, files of the clips, records, review and checks."""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from builders import make_poses
from conftest import RunLoris
from media import AUDIO_HZ, run_ffmpeg, write_video
from torch import Tensor, nn

from loris_cli.array_types import Samples
from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.dataset import clip_cutting, prepare_videos
from loris_cli.dataset import prepare_video as prepare_module
from loris_cli.dataset.build_manifest import build_manifest
from loris_cli.dataset.clip_cutting import CuttingRules, LengthRule, PrepSettings, cut_segments
from loris_cli.dataset.inspection import compute_subset_stats, find_problems
from loris_cli.dataset.manifest import read_manifest
from loris_cli.dataset.prepare_video import PrepContext, PrepTask, prepare_source
from loris_cli.dataset.read_clips import read_annotations, read_clip_audio, read_pose_features
from loris_cli.dataset.records import Record, read_records
from loris_cli.dataset.review import list_review_items, read_clip_ids, save_decisions
from loris_cli.dataset.source_names import Activity, parse_source_name
from loris_cli.errors import InputError
from loris_cli.pose.keypoints import write_poses
from loris_cli.soundtrack import visual_encoder
from loris_cli.soundtrack.visual_features import read_visual_npz
from loris_cli.system.file_fingerprints import fingerprint_file
from loris_cli.system.progress import NullReporter

ONSETS_S = (1.0, 1.5, 2.25, 2.75, 3.5)
DANCE_SETTINGS = PrepSettings(
    activity="dance", genre="house", separator="none", pose_estimator="none"
)
FLOOR_SETTINGS = PrepSettings(
    activity="floor", separator="none", pose_estimator="none", reject_unfit=False
)


def make_music(duration_s: float) -> Samples:
    """Decaying tones that start at `ONSETS_S`, over a soft hum, ``(1, samples)``."""
    times_s = np.arange(round(duration_s * AUDIO_HZ)) / AUDIO_HZ
    samples = 0.02 * np.sin(2 * np.pi * 110 * times_s)
    for onset_s in ONSETS_S:
        elapsed_s = times_s - onset_s
        envelope = (elapsed_s >= 0) * 0.5 * np.exp(-8 * elapsed_s.clip(0))
        samples += envelope * np.sin(5000 * elapsed_s)
    return samples[None].astype(np.float32)


def write_small_video(path: Path, duration_s: float, sound: Samples | None) -> Path:
    n_frames = round(8 * duration_s)
    return write_video(path, n_frames=n_frames, fps=8, size=(64, 48), sound=sound)


def prepare_video(
    video: Path, data: Path, settings: PrepSettings = DANCE_SETTINGS, **options: bool
) -> Record:
    context = PrepContext(data_dir=data, settings=settings)
    return prepare_source(PrepTask(source_path=video, context=context), **options)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Video of 4 s with audio."""
    path = tmp_path_factory.mktemp("raw") / "own.mp4"
    return write_small_video(path, 4.0, make_music(4.0))


@pytest.fixture(autouse=True)
def short_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    """Floor clips of 1 and 2 s, and dance clips of 4 s."""
    lengths = (
        LengthRule(subset="fe25", duration_s=1.0, max_clips=3),
        LengthRule(subset="fe50", duration_s=2.0, max_clips=1),
    )
    floor = CuttingRules(trim_s=0.5, lengths=lengths)
    monkeypatch.setitem(clip_cutting.CUTTING_RULES, "floor", floor)
    dance = CuttingRules(
        trim_s=0.0, lengths=(LengthRule(subset="da25", duration_s=4.0, max_clips=1),)
    )
    monkeypatch.setitem(clip_cutting.CUTTING_RULES, "dance", dance)


def read_files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def read_modification_times(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.mark.parametrize(
    ("activity", "duration_s", "starts"),
    [
        ("dance", 3.9, []),
        ("dance", 3.98, [("da25", 0.0)]),  # short by less than half a pose frame
        ("dance", 60.0, [("da25", 0.0)]),
        ("floor", 2.9, [("fe25", 0.5)]),
        ("floor", 4.0, [("fe25", 0.5), ("fe25", 1.5), ("fe25", 2.5), ("fe50", 0.5)]),
    ],
)
def test_segments_start_where_the_cutting_rules_say(
    activity: Activity, duration_s: float, starts: list[tuple[str, float]]
) -> None:
    assert [(s.subset, s.start_s) for s in cut_segments(activity, duration_s)] == starts


@pytest.mark.parametrize(
    ("stem", "activity", "genre", "groups"),
    [
        (
            "gBR_sFM_c01_d04_mBR0_ch01",
            "dance",
            "break",
            ("performance:gBR_sFM_d04_mBR0_ch01", "music:mBR0", "dancer:d04"),
        ),
        ("-_Ab_efgh_k_E_000100_000190", "floor", "floor", ("video:-_Ab_efgh_k",)),
        ("0LtLS9wROrk_000100_000190", "floor", "floor", ("video:0LtLS9wROrk",)),
        ("2018_Worlds_MF_12", "skate", "skate", ("video:2018_Worlds_MF_12",)),
    ],
    ids=["AIST++", "FineGym with E", "FineGym", "FS1000"],
)
def test_source_names_contain_activity_genre_and_groups(
    stem: str, activity: str, genre: str, groups: tuple[str, ...]
) -> None:
    source = parse_source_name(stem)
    assert source is not None
    assert (source.activity, source.genre, source.groups) == (activity, genre, groups)


@pytest.mark.parametrize(
    "stem",
    ["holiday", "gXX_sFM_c01_d04_mBR0_ch01", "", "2018_Worlds", "417", "7",
     "IMG_holiday_240501_101112"],
)  # fmt: skip
def test_other_and_ambiguous_names_are_not_parsed(stem: str) -> None:
    assert parse_source_name(stem) is None


def test_a_number_names_a_skating_video_only_if_the_activity_is_known() -> None:
    source = parse_source_name("417", activity="skate")
    assert source is not None
    assert source.groups == ("video:fisv-417",)
    assert parse_source_name("417", activity="dance") is None


def test_a_prepared_clip_has_the_audio_and_accents_of_its_video(
    video: Path, tmp_path: Path
) -> None:
    record = prepare_video(video, tmp_path)
    build_manifest(tmp_path)

    (clip,) = read_manifest(tmp_path)
    features = read_annotations(tmp_path, clip)
    assert record["status"] == "done"
    assert (clip.subset, clip.genre, clip.partition) == ("da25", "house", "train")
    assert read_clip_audio(tmp_path, clip).shape == (4 * SAMPLE_RATE_HZ,)
    np.testing.assert_allclose(features.peaks_s, ONSETS_S, atol=0.02)
    assert features.energy.shape == (64,)
    assert list(find_problems(tmp_path)) == []


class MeanColor(nn.Module):
    """Replacement of I3D: the mean color of every eight frames."""

    def forward(self, frames: Tensor) -> Tensor:
        chunks = torch.split(frames.mean(dim=(3, 4)), 8, dim=2)
        return torch.stack([chunk.mean(dim=2) for chunk in chunks], dim=1)


def test_visual_features_are_cut_like_the_clips(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path / "rgb.pt"
    weights.write_bytes(b"weights")
    sha256 = hashlib.sha256(b"weights").hexdigest()
    calls: list[object] = []

    def load_mean_color(*arguments: object) -> MeanColor:
        calls.append(arguments)
        return MeanColor()

    monkeypatch.setattr(visual_encoder, "load_visual_encoder", load_mean_color)
    data = tmp_path / "data"
    context = PrepContext(data_dir=data, settings=FLOOR_SETTINGS).with_visual_encoder(
        f"i3d={weights}", offline=True, reporter=NullReporter()
    )

    prepare_source(PrepTask(source_path=video, context=context))
    rows = build_manifest(data)

    assert calls == [("i3d", fingerprint_file(weights), "cpu")]
    assert {row["visual_weights_sha256"] for row in rows} == {sha256}
    clips = {clip.id[-6:]: clip for clip in read_manifest(data)}
    features = {
        name: read_visual_npz(data / clip.visual["i3d"], duration_s=clip.duration_s)
        for name, clip in clips.items()
    }
    assert {name: rows.shape for name, rows in features.items()} == {
        "fe25-0": (2, 3), "fe25-1": (2, 3), "fe25-2": (2, 3), "fe50-0": (4, 3),
    }  # fmt: skip
    # The clip of 2 s has the frames of the first two clips of 1 s.
    joined = np.concatenate([features["fe25-0"], features["fe25-1"]])
    np.testing.assert_array_equal(features["fe50-0"], joined)
    assert list(find_problems(data)) == []
    path = data / clips["fe25-0"].visual["i3d"]
    np.savez(path, features=np.full((2, 3), np.nan))
    changed, not_finite = find_problems(data)
    assert path.name in changed
    assert path.name in not_finite
    assert "NaN" in not_finite
    settings = read_records(data)[0]["settings"]
    assert (settings["visual_encoder"], settings["visual_weights_sha256"]) == ("i3d", sha256)


@pytest.mark.legacy
def test_i3d_r50_features_are_deterministic(
    video: Path, tmp_path: Path, resnet_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LORIS_CACHE", str(tmp_path / "cache"))
    rule = LengthRule(subset="fe25", duration_s=1.0, max_clips=1)
    rules = CuttingRules(trim_s=0.5, lengths=(rule,))
    monkeypatch.setitem(clip_cutting.CUTTING_RULES, "floor", rules)
    for name in ("first", "second"):
        context = PrepContext(data_dir=tmp_path / name, settings=FLOOR_SETTINGS)
        context = context.with_visual_encoder(
            f"i3d-r50={resnet_weights}", offline=True, reporter=NullReporter()
        )
        prepare_source(PrepTask(source_path=video, context=context))
        build_manifest(tmp_path / name)

    (clip,) = read_manifest(tmp_path / "first")
    features = read_visual_npz(tmp_path / "first" / clip.visual["i3d-r50"], duration_s=1.0)
    assert features.shape == (2, 2048)
    assert features.std() > 0
    assert read_files(tmp_path / "first") == read_files(tmp_path / "second")


def test_the_settings_digest_depends_on_the_visual_weights() -> None:
    first = replace(DANCE_SETTINGS, visual_encoder="i3d", visual_weights_sha256="0")
    second = replace(first, visual_weights_sha256="1")
    assert len({DANCE_SETTINGS.digest(), first.digest(), second.digest()}) == 3


@pytest.mark.parametrize(
    ("source", "exit_code", "value"),
    [
        ("i3d", 2, "'i3d'"),
        ("dance.npy", 2, "dance.npy"),
        ("i3d=none.pt", 3, "none.pt"),
        ("i3d-r50=none.pyth", 3, "none.pyth"),
    ],
)
def test_visual_features_without_weights_fail_before_the_first_video(
    source: str, exit_code: int, value: str, loris: RunLoris, video: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    result = loris("prep", video, "--activity", "dance", "--data", data, "--visual-features",
                   source)  # fmt: skip
    assert result.exit_code == exit_code
    assert value in result.stderr
    assert not data.exists()


def test_sports_videos_are_trimmed_and_keep_their_time(video: Path, tmp_path: Path) -> None:
    prepare_video(video, tmp_path, FLOOR_SETTINGS)

    rows = {row["id"][-6:]: row for row in build_manifest(tmp_path)}
    assert sorted(rows) == ["fe25-0", "fe25-1", "fe25-2", "fe50-0"]
    assert len({row["partition"] for row in rows.values()}) == 1
    (clip,) = (clip for clip in read_manifest(tmp_path) if clip.subset == "fe50")
    # The clip starts half a second into the video.
    peaks_s = read_annotations(tmp_path, clip).peaks_s
    np.testing.assert_allclose(peaks_s, np.array([1.0, 1.5, 2.25]) - 0.5, atol=0.02)


def test_a_pose_file_next_to_the_video_is_used(video: Path, tmp_path: Path) -> None:
    copy, data = tmp_path / "own.mp4", tmp_path / "data"
    copy.write_bytes(video.read_bytes())
    keypoints = np.tile(np.random.default_rng(0).normal(100, 20, (17, 2)), (64, 1, 1))
    keypoints[16:, 9:11, 0] += 40  # both wrists jump at 1 s
    poses = make_poses(keypoints, size=(320, 240))
    write_poses(tmp_path / "own.poses.npz", poses)

    prepare_video(copy, data, PrepSettings(activity="dance", separator="none",
                                           pose_estimator="file"))  # fmt: skip
    (row,) = build_manifest(data)
    (clip,) = read_manifest(data)
    features = read_pose_features(data, clip)

    assert row["pose_source"] == "file"
    assert features is not None
    assert features.keypoints is not None
    np.testing.assert_array_equal(features.keypoints, poses.keypoints)
    np.testing.assert_allclose(features.peaks_s, [1.0], atol=0.07)


def test_a_prepared_video_is_not_prepared_again(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare_video(video, tmp_path)
    before = read_modification_times(tmp_path)
    monkeypatch.setattr(
        prepare_module, "extract_audio", lambda *_, **__: pytest.fail("audio extracted again")
    )

    assert prepare_video(video, tmp_path)["reused"]
    assert read_modification_times(tmp_path) == before


def test_a_deleted_file_is_restored_bit_identically(video: Path, tmp_path: Path) -> None:
    prepare_video(video, tmp_path)
    files = read_files(tmp_path)
    (audio,) = (tmp_path / "audio").iterdir()
    audio.unlink()

    assert "reused" not in prepare_video(video, tmp_path)
    assert read_files(tmp_path) == files


def test_other_settings_prepare_a_video_again(video: Path, tmp_path: Path) -> None:
    prepare_video(video, tmp_path)

    assert "reused" not in prepare_video(video, tmp_path, replace(DANCE_SETTINGS, genre="pop"))
    assert [clip["genre"] for r in read_records(tmp_path) for clip in r["clips"]] == ["pop"]


def test_a_failed_video_is_only_retried_on_request(tmp_path: Path) -> None:
    video, data = tmp_path / "bad.mp4", tmp_path / "data"
    video.write_text("no video")

    record = prepare_video(video, data)
    assert (record["status"], record["exit_code"]) == ("failed", 4)
    assert "bad.mp4" in record["error"]
    assert prepare_video(video, data)["reused"]
    assert "reused" not in prepare_video(video, data, retry_failed=True)


@pytest.mark.parametrize(
    ("sound", "duration_s", "reason"),
    [(None, 5.0, "no audio"), (make_music(2.0), 2.0, "too short")],
    ids=["no audio", "2 s"],
)
def test_a_video_without_clips_has_a_rejection_reason(
    sound: Samples | None, duration_s: float, reason: str, tmp_path: Path
) -> None:
    video = write_small_video(tmp_path / "a.mp4", duration_s, sound)
    record = prepare_video(video, tmp_path / "data")
    assert record["status"] == "done"
    assert record["rejection_reasons"] == [reason]
    assert record["clips"] == []


def test_manual_decisions_override_the_filters(tmp_path: Path) -> None:
    silence = np.zeros((1, 4 * AUDIO_HZ), np.float32)
    video, data = write_small_video(tmp_path / "a.mp4", 4.0, silence), tmp_path / "data"
    prepare_video(video, data)
    assert build_manifest(data) == []
    (item,) = list_review_items(data)
    assert (item.reasons, item.accepted) == (("silence",), False)

    (tmp_path / "good.txt").write_text(f"# comment\n{item.id}  rejected  a.mp4\n")
    save_decisions(data, "accept", read_clip_ids(tmp_path / "good.txt"))
    assert [row["id"] for row in build_manifest(data)] == [item.id]
    save_decisions(data, "reject", [item.id])
    assert build_manifest(data) == []
    with pytest.raises(InputError, match="unknown-id"):
        save_decisions(data, "accept", ["unknown-id"])


def shorten_audio(path: Path) -> None:
    soundfile.write(path, np.zeros(100), SAMPLE_RATE_HZ)


def silence_audio(path: Path) -> None:
    soundfile.write(path, np.zeros(4 * SAMPLE_RATE_HZ), SAMPLE_RATE_HZ)


def truncate_file(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


@pytest.mark.parametrize(
    ("folder", "damage_file", "n_problems"),
    [
        # A file that differs from its hash is one problem, unusable content is another.
        ("audio", shorten_audio, 2),
        ("audio", silence_audio, 1),
        ("rhythm", truncate_file, 2),
        ("rhythm", Path.unlink, 1),
    ],
    ids=["shortened", "silenced", "truncated", "missing"],
)
def test_the_check_reports_each_problem_of_a_file(
    folder: str,
    damage_file: Callable[[Path], None],
    n_problems: int,
    video: Path,
    tmp_path: Path,
) -> None:
    prepare_video(video, tmp_path)
    build_manifest(tmp_path)
    (path,) = (tmp_path / folder).iterdir()
    damage_file(path)

    problems = list(find_problems(tmp_path))

    assert len(problems) == n_problems
    assert all(f"{folder}/{path.name}" in problem for problem in problems)
    assert any("0.00 s" in problem for problem in problems) == (damage_file is shorten_audio)


def test_statistics_count_the_clips_of_each_subset(video: Path, tmp_path: Path) -> None:
    prepare_video(video, tmp_path, FLOOR_SETTINGS)
    build_manifest(tmp_path)
    fe25, fe50 = compute_subset_stats(tmp_path)
    assert (fe25.subset, fe25.n_clips, fe25.n_sources) == ("fe25", 3, 1)
    assert fe25.total_hours == pytest.approx(3 / 3600)
    assert (fe50.subset, fe50.median_duration_s, fe50.n_with_poses) == ("fe50", 2.0, 0)


def test_a_link_to_a_file_outside_the_data_set_is_rejected(video: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    prepare_video(video, data)
    build_manifest(data)
    (audio,) = (data / "audio").iterdir()
    audio.rename(tmp_path / "outside.flac")
    os.symlink(tmp_path / "outside.flac", audio)
    with pytest.raises(InputError, match=f"audio/{audio.name}"):
        read_manifest(data)


@pytest.mark.parametrize(("option", "track"), [((), 2), (("--audio-track", "1"), 1)])
def test_prep_reads_the_default_or_the_given_audio_track(
    video: Path,
    tmp_path: Path,
    loris: RunLoris,
    monkeypatch: pytest.MonkeyPatch,
    option: tuple[str, ...],
    track: int,
) -> None:
    monkeypatch.setattr(prepare_videos, "map_in_processes", map_in_this_process)
    silent = write_small_video(tmp_path / "silent.mp4", 4.0, np.zeros((1, 4 * AUDIO_HZ), "f4"))
    both = tmp_path / "both.mkv"
    run_ffmpeg(
        *("-i", silent, "-i", video, "-map", "0", "-map", "1:a", "-c", "copy"),
        *("-disposition:a:0", "0", "-disposition:a:1", "default", both),
    )
    data = tmp_path / "data"
    arguments = ("--activity", "dance", "--separator", "none", "--pose-estimator", "none")
    result = loris("prep", both, "--data", data, *arguments, "--no-filters", *option)
    assert result.exit_code == 0
    assert ("track 2" in result.stderr) == (not option)
    (audio,) = (data / "audio").iterdir()
    assert (np.abs(soundfile.read(audio)[0]).max() > 0.1) == (track == 2)


def map_in_this_process(
    function: Callable[[Any], Any], items: Iterable[Any], **_: object
) -> Iterator[tuple[int, Any]]:
    """Replacement of `map_in_processes` without a worker process."""
    yield from enumerate(map(function, items))


def test_a_video_without_activity_fails_with_the_missing_option(
    video: Path, tmp_path: Path, loris: RunLoris, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare_videos, "map_in_processes", map_in_this_process)
    result = loris("prep", video, "--data", tmp_path / "d", "--separator", "none", "-q")
    assert result.exit_code == 4
    assert "own.mp4" in result.stderr
    assert "--activity" in result.stderr


def test_prep_needs_inputs_and_a_data_set_needs_a_manifest(
    tmp_path: Path, loris: RunLoris
) -> None:
    assert loris("prep").exit_code == 2
    result = loris("dataset", "check", tmp_path)
    assert result.exit_code == 4
    assert str(tmp_path / "manifest.jsonl") in result.stderr
