"""Benchmark honesty: what systems receive, related clips, published scores, equal takes."""

import json
import shutil
from dataclasses import fields, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from builders import make_features
from click_dataset import write_click_dataset
from conftest import RunLoris
from tiny_models import TINY_AUTOENCODER

from loris_cli.composition.arrangement import Arrangement
from loris_cli.composition.chords import Harmony
from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.dataset.manifest import Clip, read_manifest, write_manifest
from loris_cli.dataset.partitions import assign_partitions, label_clusters, share_groups
from loris_cli.dataset.source_names import derive_groups
from loris_cli.evaluation.report.tables import REPORT_FORMATTERS
from loris_cli.evaluation.runner import generation_cache, systems
from loris_cli.evaluation.runner.bounds import pick_mismatched_clips
from loris_cli.evaluation.runner.clips import EvalClip, build_eval_clip
from loris_cli.evaluation.runner.generation_cache import (
    SystemRunner,
    hash_features,
    read_system_inputs,
)
from loris_cli.models.generator_interface import ClipFeatures, VideoFeatures
from loris_cli.models.mel_autoencoder import MelAutoencoder
from loris_cli.models.mini_checkpoint import encode_log_mel
from loris_cli.soundtrack.clip_features import add_arrangement
from loris_cli.system.progress import NullReporter
from loris_cli.system.threads import configure_threads, pool_size, use_one_thread_per_call

SCORED = (
    "eval", "--split", "fe50", "--model", "none", "--takes", 1, "--no-strict", "--jobs", 1,
)  # fmt: skip
AIST_NAMES = [
    f"gBR_sBM_c0{1 + k % 9}_d{k % 3:02d}_mBR{k % 4}_ch{k % 7:02d}.mp4" for k in range(24)
]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LORIS_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_click_dataset(tmp_path / "data")
    return tmp_path / "data"


def read_report(loris: RunLoris, *words: object) -> dict[str, Any]:
    result = loris(*words, "--format", "json")
    assert result.stdout, result.stderr
    report: dict[str, Any] = json.loads(result.stdout)
    return report


def load_eval_clip(data: Path, clip: Clip, **options: bool) -> EvalClip:
    eval_clip = build_eval_clip(data, clip, **options)
    assert isinstance(eval_clip, EvalClip)
    return eval_clip


def test_what_systems_receive_has_no_field_for_the_reference() -> None:
    assert {field.name for field in fields(VideoFeatures)} == {
        "duration_s", "peaks_s", "strengths", "energy", "genre", "keypoints", "rhythm_method",
        "visual",
    }  # fmt: skip
    assert not hasattr(make_features(2.0).without_score(), "harmony")


def test_no_annotation_of_the_reference_reaches_a_system(data: Path) -> None:
    [clip, *_] = read_manifest(data)
    with np.load(data / clip.rhythm) as arrays:
        rhythm: dict[str, Any] = dict(arrays)
    before = read_system_inputs(data, load_eval_clip(data, clip))
    reference = {
        "accents_s": np.array([0.1, 0.2]),
        "strengths": np.array([0.3, 0.4]),
        "energy": np.zeros_like(rhythm["energy"]),
        "beats_s": np.array([0.5]),
        "production": np.ones(15, np.float32),
        "notes": np.ones((2, 5)),
        "channel_programs": np.array([[0, 1]]),
        "tonic": np.array(1),
        "scale": np.arange(7),
        "chord_starts_s": np.zeros(1),
        "chord_degrees": np.zeros(1, int),
        "subdivisions_s": np.zeros(1),
    }
    np.savez(data / clip.rhythm, **{**rhythm, **reference})
    soundfile.write(data / clip.audio, np.zeros(9000), SAMPLE_RATE_HZ)

    after = read_system_inputs(data, load_eval_clip(data, clip))

    assert type(after) is VideoFeatures
    assert hash_features(before) == hash_features(after)


def test_a_score_in_the_features_does_not_reach_the_arrangement() -> None:
    features = make_features(4.0, genre="pop")
    own = add_arrangement(features, seed=1)
    other = add_arrangement(features, seed=2)
    assert isinstance(own.arrangement, Arrangement)
    assert isinstance(own.harmony, Harmony)

    again = add_arrangement(replace(other, production=np.ones(15, np.float32)), seed=1)

    assert again.arrangement is not None
    np.testing.assert_array_equal(again.arrangement.note_array, own.arrangement.note_array)
    assert (again.note_latent, again.production) == (None, None)
    assert ClipFeatures.from_video(other).arrangement is None


def test_the_cache_key_depends_on_every_field() -> None:
    base = VideoFeatures(
        duration_s=1.0, peaks_s=np.ones(2), strengths=np.ones(2), energy=np.ones(16)
    )
    changes: dict[str, Any] = {
        "duration_s": 2.0, "peaks_s": np.zeros(2), "strengths": np.zeros(2),
        "energy": np.zeros(16), "genre": "pop", "keypoints": np.zeros((16, 17, 3)),
        "rhythm_method": "flow", "visual": np.zeros((2, 4)),
    }  # fmt: skip
    assert changes.keys() == {field.name for field in fields(VideoFeatures)}

    hashes = {hash_features(replace(base, **{key: x})) for key, x in changes.items()}

    assert len(hashes | {hash_features(base)}) == len(changes) + 1


def test_the_latent_reconstruction_runs_on_the_device_of_the_network() -> None:
    with torch.device("meta"):
        autoencoder = MelAutoencoder(TINY_AUTOENCODER)

    latents = encode_log_mel(autoencoder, torch.zeros(TINY_AUTOENCODER.n_mels, 64))

    assert latents.device.type == "meta"
    assert latents.shape == (TINY_AUTOENCODER.latent_channels, 16)


def test_clips_without_poses_are_skipped_with_the_reason(loris: RunLoris, data: Path) -> None:
    clips = read_manifest(data)
    write_manifest(data, [replace(clips[0], poses=""), *clips[1:]])

    result = loris(*SCORED, "--data", data, "--bound", "click_1hz", "--method", "drums")

    assert result.exit_code == 1
    assert "clip-0 skipped: has no poses" in result.stdout


def test_a_subset_without_poses_names_the_option(loris: RunLoris, tmp_path: Path) -> None:
    write_click_dataset(tmp_path / "music", has_poses=False)

    result = loris(*SCORED, "--data", tmp_path / "music", "--bound", "click_1hz")

    assert result.exit_code == 4
    assert "--rhythm-from-reference" in result.stderr


@pytest.mark.parametrize("output_format", sorted(set(REPORT_FORMATTERS)))
def test_scores_with_the_rhythm_of_the_reference_are_marked(
    loris: RunLoris, tmp_path: Path, output_format: str
) -> None:
    write_click_dataset(tmp_path / "music", has_poses=False)

    result = loris(
        *SCORED, "--data", tmp_path / "music", "--bound", "click_1hz", "--method", "drums",
        "--rhythm-from-reference", "--format", output_format,
    )  # fmt: skip

    assert result.exit_code == 0, result.stderr
    text = result.stdout.lower().replace("_", " ")
    n_tables = 2 if output_format in ("table", "md", "tex") else 1
    assert text.count("rhythm from reference") >= n_tables


def test_partners_and_chance_never_share_song_or_dancer() -> None:
    groups = [derive_groups(Path(name).stem) for name in AIST_NAMES]
    shared = share_groups(groups)
    for seed in range(10):
        partners = pick_mismatched_clips(groups, seed=seed)
        for k, partner in enumerate(partners):
            assert partner is not None
            assert not {*groups[k]} & {*groups[partner]}
    for i, j in product(range(len(groups)), repeat=2):
        assert shared[i, j] == bool({*groups[i]} & {*groups[j]})


def test_dancers_songs_and_videos_stay_in_one_partition() -> None:
    names = [
        f"g{genre}_sBM_c01_d{10 * g + d:02d}_m{genre}{m}_ch01"
        for g, genre in enumerate(("BR", "PO", "LO", "MH", "WA", "KR"))
        for d, m in product(range(2), range(3))
    ]
    groups = {name: derive_groups(name) for name in names}
    partitions = assign_partitions(groups)

    for one, other in product(names, repeat=2):
        if {*groups[one]} & {*groups[other]}:
            assert partitions[one] == partitions[other]


def test_segments_of_one_source_are_one_cluster() -> None:
    names = ["skate_seg0", "skate_seg1", "video-1a2b3c4d-fe25-0", "video-1a2b3c4d-fe50-1",
             "0LtLS9wROrk_E_000100_000190", "0LtLS9wROrk_E_000200_000290"]  # fmt: skip

    labels = label_clusters([derive_groups(name) for name in names])

    assert labels[0] == labels[1] != labels[2] == labels[3] != labels[4] == labels[5]


def test_groups_of_the_manifest_decide_the_clusters(data: Path) -> None:
    clips = read_manifest(data)
    clips = [replace(clip, groups=("music:a", f"video:{clip.id}")) for clip in clips]
    write_manifest(data, clips)

    assert read_manifest(data) == clips
    assert len(set(label_clusters([clip.all_groups for clip in clips]))) == 1


def test_equal_reference_audio_is_never_a_partner(loris: RunLoris, data: Path) -> None:
    clips = read_manifest(data)[:2]
    write_manifest(data, [replace(clip, source=f"other-{clip.id}") for clip in clips])
    words = (*SCORED, "--data", data, "--bound", "mismatched", "--bound", "click_1hz")
    assert read_report(loris, *words)["unavailable"] == {}
    shutil.copy(data / clips[0].audio, data / clips[1].audio)

    report = read_report(loris, *words)

    assert list(report["unavailable"]) == ["mismatched"]
    assert report["data"]["sources"] == 1


def test_retrieval_excludes_songs_of_related_clips(data: Path) -> None:
    clips = [replace(clip, groups=("music:a",)) for clip in read_manifest(data)[:2]]
    train = [
        replace(clips[k], id=f"t{k}", partition="train", groups=(f"music:{'ab'[k]}",))
        for k in range(2)
    ]
    write_manifest(data, [*clips, *train])
    system = systems.build_method_system("retrieval", data, "fe50")
    features = read_system_inputs(data, load_eval_clip(data, clips[0]))

    generator = system.get_generator(frozenset(clips[0].all_groups))

    best = generator.library.find_best_song(  # type: ignore[attr-defined]
        features, excluded_groups=frozenset(clips[0].all_groups)
    )
    assert best.song.name == "t1"


@pytest.mark.parametrize(
    ("official", "partition", "is_compared"),
    [(("test",) * 4, "official", True), (("test",) * 4, "test", True),
     (("test", "test", "train", "train"), "official", True),
     (("test", "test", "train", "train"), "test", False), (("",) * 4, "test", False)],
)  # fmt: skip
def test_only_the_official_test_clips_are_compared_with_the_paper(
    loris: RunLoris,
    data: Path,
    small_model: Path,
    official: tuple[str, ...],
    partition: str,
    is_compared: bool,
) -> None:
    clips = [
        replace(clip, official_partition=name)
        for clip, name in zip(read_manifest(data), official, strict=True)
    ]
    write_manifest(data, clips)

    report = read_report(
        loris, "eval", "--split", "fe50", "--data", data, "--model", small_model, "--device",
        "cpu", "--takes", 1, "--steps", 2, "--no-strict", "--jobs", 1, "--bound", "click_1hz",
        "--partition", partition,
    )  # fmt: skip

    [model] = [row for row in report["systems"] if row["category"] == "model"]
    assert model["n"] == (official.count("test") if partition == "official" else 4)
    assert ("published" in model) == is_compared
    assert (report["not_comparable"] is None) == is_compared


def test_a_data_set_without_official_clips_cannot_select_them(
    loris: RunLoris, data: Path
) -> None:
    result = loris(*SCORED, "--data", data, "--partition", "official")
    assert result.exit_code == 4


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_audio_that_is_not_finite_skips_its_clip_only(
    loris: RunLoris, tmp_path: Path, value: float
) -> None:
    write_click_dataset(tmp_path / "clicks", n_clips=3)
    folders = [tmp_path / "generated", tmp_path / "reference"]
    for folder in folders:
        folder.mkdir()
        for k in range(3):
            samples, rate_hz = soundfile.read(tmp_path / f"clicks/audio/clip-{k}.flac")
            stereo = np.stack([samples, samples], axis=1)
            soundfile.write(folder / f"{k}.wav", stereo, rate_hz, subtype="FLOAT")
    for folder, name in zip(folders, ("0.wav", "1.wav"), strict=True):
        samples, rate_hz = soundfile.read(folder / name)
        samples[500, 1] = value
        soundfile.write(folder / name, samples, rate_hz, subtype="FLOAT")

    result = loris(
        "eval", "--generated", folders[0], "--reference", folders[1], "--jobs", 1,
        "--no-strict", "--bound", "ground_truth",
    )  # fmt: skip

    assert result.exit_code == 1
    assert "0 skipped: generated: " in result.stdout
    assert "1 skipped: " in result.stdout
    assert result.stdout.count("NaN") == 2


@pytest.mark.slow
def test_takes_of_parallel_workers_have_the_samples_of_serial_ones(
    data: Path, tmp_path: Path, small_model: Path
) -> None:
    clips = [load_eval_clip(data, clip) for clip in read_manifest(data)[:2]]
    system = systems.build_model_system(
        str(small_model), device=torch.device("cpu"), steps=2, guidance=None
    )
    contents = []
    for n_workers in (1, 2):
        runner = SystemRunner(
            name="small",
            system=system,
            data_dir=data,
            cache_dir=tmp_path / f"takes-{n_workers}",
            max_workers=n_workers,
        )
        takes, cost = runner.generate_takes(clips, (0, 1), reporter=NullReporter())
        assert cost.n_takes == 4
        # The header of a file in floating point has the time of writing.
        contents.append(
            {key: soundfile.read(take.path)[0].tobytes() for key, take in takes.items()}
        )

    assert contents[0] == contents[1]


def test_every_system_can_be_built_again_in_a_worker(data: Path) -> None:
    import pickle

    clips = read_manifest(data)
    write_manifest(
        data, [*clips, replace(clips[0], id="t", partition="train", source="elsewhere")]
    )
    for name in systems.METHOD_DESCRIPTIONS:
        system = systems.build_method_system(name, data, "fe50")
        rebuilt = pickle.loads(pickle.dumps(system.rebuild))()
        assert rebuilt.generation_settings == system.generation_settings


def test_worker_processes_use_one_thread_per_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several threads in each of several processes slow generation down twenty times."""
    use_one_thread_per_call.cache_clear()
    n_before, n_pool_before = torch.get_num_threads(), pool_size()
    torch.set_num_threads(2)
    monkeypatch.setattr(
        generation_cache, "generate_take", lambda *arguments: torch.get_num_threads()
    )
    try:
        n_threads: Any = generation_cache._generate_in_worker(dict, 1, None)  # type: ignore[arg-type]
    finally:
        torch.set_num_threads(n_before)
        configure_threads(n_pool_before)
    assert n_threads == 1
