"""From one raw video to clips: what is cut, what is written, and that it is done once."""

import hashlib
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from conftest import RunLoris
from media import AUDIO_HZ, write_video
from torch import Tensor, nn

from loris_cli.dataset import clip_cutting
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
from loris_cli.dataset.write_clip import measure_timing_jitter
from loris_cli.errors import InputError
from loris_cli.pose.keypoints import Poses, write_poses
from loris_cli.soundtrack import visual_encoder
from loris_cli.soundtrack.visual_features import read_visual_npz
from loris_cli.system.file_fingerprints import fingerprint_file
from loris_cli.system.progress import NullReporter

CLICKS_S = (1.0, 1.5, 2.25, 2.75, 3.5)
PLAIN = PrepSettings(activity="dance", genre="house", separator="none", pose_estimator="none")


def clicks(duration_s: float) -> np.ndarray:
    """Tones that begin where `CLICKS_S` say, over a soft hum."""
    times_s = np.arange(round(duration_s * AUDIO_HZ)) / AUDIO_HZ
    sound = 0.02 * np.sin(2 * np.pi * 110 * times_s)
    for at_s in CLICKS_S:
        elapsed_s = times_s - at_s
        sound += (
            (elapsed_s >= 0) * 0.5 * np.exp(-8 * elapsed_s.clip(0)) * np.sin(5000 * elapsed_s)
        )
    return sound[None].astype(np.float32)


def prepare_video(video: Path, context: PrepContext, *, retry_failed: bool = False) -> Record:
    return prepare_source(
        PrepTask(source_path=video, context=context), retry_failed=retry_failed
    )


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four seconds of film with sound."""
    path = tmp_path_factory.mktemp("raw") / "own.mp4"
    return write_video(path, n_frames=32, fps=8, size=(64, 48), sound=clicks(4.0))


@pytest.fixture(autouse=True)
def short_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clips of one and two seconds, that nothing here takes long."""
    cuts = (
        LengthRule(subset="fe25", duration_s=1.0, max_clips=3),
        LengthRule(subset="fe50", duration_s=2.0, max_clips=1),
    )
    monkeypatch.setitem(
        clip_cutting.CUTTING_RULES, "floor", CuttingRules(trim_s=0.5, lengths=cuts)
    )
    dance = CuttingRules(
        trim_s=0.0, lengths=(LengthRule(subset="da25", duration_s=4.0, max_clips=1),)
    )
    monkeypatch.setitem(clip_cutting.CUTTING_RULES, "dance", dance)


def tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize(
    ("activity", "duration_s", "starts"),
    [
        ("dance", 3.9, []),
        ("dance", 3.98, [("da25", 0.0)]),  # half a pose frame short is long enough
        ("dance", 60.0, [("da25", 0.0)]),
        ("floor", 2.9, [("fe25", 0.5)]),
        ("floor", 4.0, [("fe25", 0.5), ("fe25", 1.5), ("fe25", 2.5), ("fe50", 0.5)]),
    ],
)
def test_segments_by_hand(
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
            ("performance:gBR_sFM_d04_mBR0_ch01", "music:mBR0"),
        ),
        ("-_Ab_efgh_k_E_000100_000190", "floor", "floor", ("video:-_Ab_efgh_k",)),
        ("0LtLS9wROrk_000100_000190", "floor", "floor", ("video:0LtLS9wROrk",)),
        ("417", "skate", "skate", ("video:fisv-417",)),
        ("2018_Worlds_MF_12", "skate", "skate", ("video:2018_Worlds_MF_12",)),
    ],
)
def test_names_tell(stem: str, activity: str, genre: str, groups: tuple[str, ...]) -> None:
    source = parse_source_name(stem)
    assert source is not None
    assert (source.activity, source.genre, source.groups) == (activity, genre, groups)


@pytest.mark.parametrize("stem", ["holiday", "gXX_sFM_c01_d04_mBR0_ch01", "", "2018_Worlds"])
def test_other_names_tell_nothing(stem: str) -> None:
    assert parse_source_name(stem) is None


def test_a_clip_is_what_training_reads(video: Path, tmp_path: Path) -> None:
    record = prepare_video(video, PrepContext(data_dir=tmp_path, settings=PLAIN))
    build_manifest(tmp_path)

    (clip,) = read_manifest(tmp_path)
    features = read_annotations(tmp_path, clip)
    assert record["status"] == "done"
    assert (clip.subset, clip.genre, clip.partition) == ("da25", "house", "train")
    assert read_clip_audio(tmp_path, clip).shape == (4 * 22_050,)
    np.testing.assert_allclose(features.peaks_s, CLICKS_S, atol=0.02)
    assert features.energy.shape == (64,)
    assert list(find_problems(tmp_path)) == []


class MeanColor(nn.Module):
    """In an I3D's place: the mean colour of every eight frames."""

    def forward(self, frames: Tensor) -> Tensor:
        chunks = torch.split(frames.mean(dim=(3, 4)), 8, dim=2)
        return torch.stack([chunk.mean(dim=2) for chunk in chunks], dim=1)


def test_features_of_the_picture_lie_beside_each_clip(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path / "rgb.pt"
    weights.write_bytes(b"weights")
    sha256 = hashlib.sha256(b"weights").hexdigest()
    calls: list[object] = []

    def load(*arguments: object) -> MeanColor:
        calls.append(arguments)
        return MeanColor()

    monkeypatch.setattr(visual_encoder, "load_visual_encoder", load)
    plain = PrepSettings(
        activity="floor", separator="none", pose_estimator="none", reject_unfit=False
    )
    data = tmp_path / "data"
    context = PrepContext(data_dir=data, settings=plain).with_visual_encoder(
        f"i3d={weights}", offline=True, reporter=NullReporter()
    )

    prepare_video(video, context)
    rows = build_manifest(data)

    assert calls == [("i3d", fingerprint_file(weights), "cpu")]
    assert {row["visual_weights_sha256"] for row in rows} == {sha256}
    clips = {clip.id[-6:]: clip for clip in read_manifest(data)}
    found = {
        name: read_visual_npz(data / clip.visual["i3d"], duration_s=clip.duration_s)
        for name, clip in clips.items()
    }
    assert {name: rows.shape for name, rows in found.items()} == {
        "fe25-0": (2, 3), "fe25-1": (2, 3), "fe25-2": (2, 3), "fe50-0": (4, 3),
    }  # fmt: skip
    # Two clips of a second are what the one of two seconds shows.
    joined = np.concatenate([found["fe25-0"], found["fe25-1"]])
    np.testing.assert_array_equal(found["fe50-0"], joined)
    assert list(find_problems(data)) == []
    np.savez(data / clips["fe25-0"].visual["i3d"], features=np.full((2, 3), np.nan))
    assert any("not finite" in text for text in find_problems(data))
    recorded = read_records(data)[0]["settings"]
    assert (recorded["visual_encoder"], recorded["visual_weights_sha256"]) == ("i3d", sha256)


@pytest.mark.legacy
def test_i3d_r50_looks_at_a_video_the_same_way_twice(
    video: Path, tmp_path: Path, resnet_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LORIS_CACHE", str(tmp_path / "cache"))
    cut = LengthRule(subset="fe25", duration_s=1.0, max_clips=1)
    monkeypatch.setitem(
        clip_cutting.CUTTING_RULES, "floor", CuttingRules(trim_s=0.5, lengths=(cut,))
    )
    plain = PrepSettings(
        activity="floor", separator="none", pose_estimator="none", reject_unfit=False
    )
    for name in ("one", "other"):
        context = PrepContext(data_dir=tmp_path / name, settings=plain)
        context = context.with_visual_encoder(
            f"i3d-r50={resnet_weights}", offline=True, reporter=NullReporter()
        )
        prepare_video(video, context)
        build_manifest(tmp_path / name)

    (clip,) = read_manifest(tmp_path / "one")
    found = read_visual_npz(tmp_path / "one" / clip.visual["i3d-r50"], duration_s=1.0)
    assert found.shape == (2, 2048)
    assert found.std() > 0
    assert tree(tmp_path / "one") == tree(tmp_path / "other")


def test_other_weights_are_other_settings() -> None:
    other = replace(PLAIN, visual_encoder="i3d", visual_weights_sha256="0")
    assert other.digest() != PLAIN.digest()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--visual-features", "i3d"], 2, "'i3d' names no weights"),
        (["--visual-features", "dance.npy"], 2, "is one video's features"),
        (["--visual-features", "i3d=none.pt"], 3, "no weights none.pt"),
        (["--visual-features", "i3d-r50=none.pyth"], 3, "no weights none.pyth"),
    ],
)
def test_features_without_weights_are_refused_at_once(
    words: list[str], code: int, message: str, loris: RunLoris, video: Path, tmp_path: Path
) -> None:
    result = loris("prep", video, "--activity", "dance", "--data", tmp_path / "data", *words)
    assert result.exit_code == code
    assert message in result.stderr
    assert not (tmp_path / "data").exists()


def test_sport_loses_its_ends_and_keeps_time(video: Path, tmp_path: Path) -> None:
    settings = PrepSettings(
        activity="floor", separator="none", pose_estimator="none", reject_unfit=False
    )
    prepare_video(video, PrepContext(data_dir=tmp_path, settings=settings))

    rows = {row["id"][-6:]: row for row in build_manifest(tmp_path)}
    assert sorted(rows) == ["fe25-0", "fe25-1", "fe25-2", "fe50-0"]
    assert len({row["partition"] for row in rows.values()}) == 1  # one video, one split
    long = next(clip for clip in read_manifest(tmp_path) if clip.subset == "fe50")
    # It begins half a second into the video.
    peaks_s = read_annotations(tmp_path, long).peaks_s
    np.testing.assert_allclose(peaks_s, np.array([1.0, 1.5, 2.25]) - 0.5, atol=0.02)


def test_poses_beside_a_video_are_used(video: Path, tmp_path: Path) -> None:
    (tmp_path / "own.mp4").write_bytes(video.read_bytes())
    rng = np.random.default_rng(0)
    keypoints = np.full((64, 17, 3), 0.9, np.float32)
    keypoints[..., :2] = rng.normal(100, 20, (17, 2))
    keypoints[16:, 9:11, 0] += 40  # both hands jump at 1 s
    poses = Poses(
        keypoints=keypoints,
        times_s=np.arange(64) / 16,
        fps=16.0,
        size=(320, 240),
        interpolated=np.zeros(64, bool),
        cuts=np.zeros(0, np.int64),
    )
    write_poses(tmp_path / "own.poses.npz", poses)
    settings = PrepSettings(activity="dance", separator="none", pose_estimator="file")

    prepare_video(
        tmp_path / "own.mp4", PrepContext(data_dir=tmp_path / "data", settings=settings)
    )
    (row,) = build_manifest(tmp_path / "data")
    pose_features = read_pose_features(tmp_path / "data", read_manifest(tmp_path / "data")[0])

    assert row["pose_source"] == "file"
    assert pose_features is not None
    assert pose_features.keypoints is not None
    np.testing.assert_array_equal(pose_features.keypoints, keypoints)
    np.testing.assert_allclose(pose_features.peaks_s, [1.0], atol=0.07)


def test_the_second_time_nothing_is_done(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = PrepContext(data_dir=tmp_path, settings=PLAIN)
    prepare_video(video, context)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    monkeypatch.setattr(
        prepare_module, "extract_audio", lambda *_, **__: pytest.fail("it was done again")
    )

    assert prepare_video(video, context)["reused"]
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_what_was_lost_or_made_otherwise_is_made_again_to_the_byte(
    video: Path, tmp_path: Path
) -> None:
    context = PrepContext(data_dir=tmp_path, settings=PLAIN)
    prepare_video(video, context)
    first = tree(tmp_path)
    (audio,) = (tmp_path / "audio").iterdir()
    audio.unlink()
    prepare_video(video, context)
    assert tree(tmp_path) == first

    other = PrepSettings(activity="dance", genre="pop", separator="none", pose_estimator="none")
    assert "reused" not in prepare_video(video, PrepContext(data_dir=tmp_path, settings=other))
    assert [clip["genre"] for r in read_records(tmp_path) for clip in r["clips"]] == ["pop"]


def test_a_failure_is_remembered_until_it_is_to_be_tried_again(tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_text("no video")
    context = PrepContext(data_dir=tmp_path / "data", settings=PLAIN)

    failed = prepare_video(tmp_path / "bad.mp4", context)
    assert failed["status"] == "failed"
    assert "not a readable video" in failed["error"]
    assert prepare_video(tmp_path / "bad.mp4", context)["reused"]
    assert "reused" not in prepare_video(tmp_path / "bad.mp4", context, retry_failed=True)


@pytest.mark.parametrize(
    ("sound", "n_frames", "reason"), [(None, 40, "no sound"), (clicks(2.0), 16, "too short")]
)
def test_what_gives_no_clip_says_why(
    sound: np.ndarray | None, n_frames: int, reason: str, tmp_path: Path
) -> None:
    path = write_video(tmp_path / "a.mp4", n_frames=n_frames, fps=8, size=(64, 48), sound=sound)
    record = prepare_video(path, PrepContext(data_dir=tmp_path / "data", settings=PLAIN))
    assert (record["status"], record["rejection_reasons"], record["clips"]) == (
        "done",
        [reason],
        [],
    )


def test_a_person_has_the_last_word(tmp_path: Path) -> None:
    silent = np.zeros((1, 4 * AUDIO_HZ), np.float32)
    path = write_video(tmp_path / "a.mp4", n_frames=32, fps=8, size=(64, 48), sound=silent)
    data = tmp_path / "data"
    prepare_video(path, PrepContext(data_dir=data, settings=PLAIN))
    assert build_manifest(data) == []
    (item,) = list_review_items(data)
    assert (item.reasons, item.accepted) == (("silence",), False)

    (tmp_path / "good.txt").write_text(f"# mine\n{item.id}  aside  a.mp4\n")
    save_decisions(data, "keep", read_clip_ids(tmp_path / "good.txt"))
    assert [row["id"] for row in build_manifest(data)] == [item.id]
    save_decisions(data, "drop", [item.id])
    assert build_manifest(data) == []
    with pytest.raises(InputError, match="no clip missing"):
        save_decisions(data, "keep", ["missing"])


def damage_length(data: Path) -> None:
    (path,) = (data / "audio").iterdir()
    soundfile.write(path, np.zeros(100), 22_050)


def damage_bytes(data: Path) -> None:
    (path,) = (data / "rhythm").iterdir()
    path.write_bytes(path.read_bytes()[:-30])


def lose(data: Path) -> None:
    (path,) = (data / "rhythm").iterdir()
    path.unlink()


@pytest.mark.parametrize(
    ("damage_data_set", "message"),
    [(damage_length, "lasts 0.00 s"), (damage_bytes, "cannot be read"), (lose, "is missing")],
)
def test_damage_is_named(
    damage_data_set: Callable[[Path], None], message: str, video: Path, tmp_path: Path
) -> None:
    prepare_video(video, PrepContext(data_dir=tmp_path, settings=PLAIN))
    build_manifest(tmp_path)
    damage_data_set(tmp_path)
    assert any(message in problem for problem in find_problems(tmp_path))


def test_stats_count_what_is_there(video: Path, tmp_path: Path) -> None:
    settings = PrepSettings(
        activity="floor", separator="none", pose_estimator="none", reject_unfit=False
    )
    prepare_video(video, PrepContext(data_dir=tmp_path, settings=settings))
    build_manifest(tmp_path)
    short, long = compute_subset_stats(tmp_path)
    assert (short.subset, short.n_clips, short.n_sources) == ("fe25", 3, 1)
    assert short.total_hours == pytest.approx(3 / 3600)
    assert (long.subset, long.median_duration_s, long.n_with_poses) == ("fe50", 2.0, 0)


def test_a_link_out_of_the_data_set_is_refused(video: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    prepare_video(video, PrepContext(data_dir=data, settings=PLAIN))
    build_manifest(data)
    (audio,) = (data / "audio").iterdir()
    audio.rename(tmp_path / "away.flac")
    os.symlink(tmp_path / "away.flac", audio)
    with pytest.raises(InputError, match="links out of"):
        read_manifest(data)


def test_looseness_is_the_spread_around_the_accents() -> None:
    accents_s = np.arange(1.0, 9.0)
    assert measure_timing_jitter(accents_s, accents_s) == 0.0
    late = accents_s + np.array([0.02, -0.02] * 4)
    assert measure_timing_jitter(late, accents_s) == pytest.approx(0.5)  # 20 of 40 ms
    assert measure_timing_jitter(accents_s[:2], accents_s) == 1.0
    assert measure_timing_jitter(np.zeros(0), accents_s) == 1.0


def test_one_video_of_unknown_kind_is_refused_with_a_hint(
    video: Path, tmp_path: Path, loris: RunLoris
) -> None:
    result = loris("prep", video, "--data", tmp_path / "d", "--separator", "none", "-q")
    assert result.exit_code == 4
    assert "--activity" in result.stderr


def test_prep_needs_inputs_and_a_data_set_needs_a_manifest(
    tmp_path: Path, loris: RunLoris
) -> None:
    assert loris("prep").exit_code == 2
    assert loris("dataset", "check", tmp_path).exit_code == 4
