"""``loris train --preset paper`` with a small network, on clips of three seconds."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from builders import make_clip, make_features, write_clip
from conftest import CliResult, RunLoris
from safetensors import safe_open
from tiny_models import TINY_PAPER_CONFIG

from loris_cli.dataset.manifest import read_manifest, write_manifest
from loris_cli.errors import InputError, UsageError
from loris_cli.models.paper_checkpoint import load_paper_model
from loris_cli.models.paper_unet import PaperModel
from loris_cli.training import paper_stage
from loris_cli.training.checkpoints import StageFolder
from loris_cli.training.datasets import ClipAnnotations, TrainingClips
from loris_cli.training.distributed import DistributedContext
from loris_cli.training.loop import LogRecord, train
from loris_cli.training.losses import PaperLoss, checkpoint_activations
from loris_cli.training.paper_stage import (
    PaperStage,
    build_paper_config,
    read_backbone,
    select_visual_encoder,
)
from loris_cli.training.settings import TrainingSettings, resolve_settings
from loris_cli.training.waveform_dataset import WaveformDataset

CPU = torch.device("cpu")
RATE_HZ = 22_050
CLIP_S = 3.0
CLICKS_S = np.arange(0.5, CLIP_S, 0.5)
MOTION_CONFIG = replace(
    TINY_PAPER_CONFIG, n_genres=12, visual_projection="none", motion_encoder=True
)
VISUAL_CONFIG = replace(TINY_PAPER_CONFIG, n_genres=12, visual_features=1024)
ENCODERS_BY_CLIP = {"a": ("i3d-charades", "i3d-kinetics"), "b": ("i3d-kinetics",)}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data set of a training and a validation clip, both with a click every half second."""
    folder = tmp_path_factory.mktemp("data")
    audio = np.zeros(round(CLIP_S * RATE_HZ))
    audio[np.round(CLICKS_S * RATE_HZ).astype(int)] = 0.5
    clips = [
        make_clip("a", duration_s=CLIP_S),
        make_clip("b", duration_s=CLIP_S, partition="val"),
    ]
    for clip in clips:
        write_clip(folder, clip, audio, CLICKS_S)
    write_manifest(folder, clips)
    return folder


@pytest.fixture(scope="module")
def visual_data(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same clips with visual features: all values of row ``k`` are ``k``."""
    folder = tmp_path_factory.mktemp("visual") / "data"
    shutil.copytree(data, folder)
    clips = []
    for clip in read_manifest(folder):
        visual = {encoder: f"{clip.id}.{encoder}.npz" for encoder in ENCODERS_BY_CLIP[clip.id]}
        for path in visual.values():
            rows = np.arange(6.0)[:, None].repeat(1024, axis=1).astype(np.float32)
            np.savez(folder / path, features=rows)
        clips.append(replace(clip, visual=visual))
    write_manifest(folder, clips)
    return folder


def read_training_clips(data: Path) -> TrainingClips:
    train_clip, val_clip = read_manifest(data)
    return TrainingClips(data_dir=data, train=[train_clip], val=[val_clip])


def make_settings(**options: Any) -> TrainingSettings:
    settings = resolve_settings(
        preset="paper", stage="conditional", recipe="default", subset="clicks"
    )
    settings = replace(
        settings, steps=2, batch_size=1, validation_clips=1, validation_samples=1,
        audio_accent_probability=1.0,
    )  # fmt: skip
    return replace(settings, **options)


def train_stage(
    stage: PaperStage, path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[StageFolder, list[LogRecord]]:
    """Train a stage and return its folder and its metrics."""
    monkeypatch.setattr(paper_stage, "VALIDATION_SAMPLER_STEPS", 2)
    folder, records = StageFolder(path), list[LogRecord]()
    folder.path.mkdir()
    context = DistributedContext(rank=0, world_size=1, device=CPU)
    train(stage, make_settings(), folder, context, on_log=records.append)
    return folder, records


@pytest.fixture
def run_soundtrack(loris: RunLoris, moving_video: Path, pose_file: Path) -> RunLoris:
    def run(model: Path, out: Path, *options: object) -> CliResult:
        fixed = ("--model", model, "--poses", pose_file, "--steps", 2, "--genre", "skate")
        return loris("soundtrack", moving_video, "-o", out, *fixed, *options)

    return run


def test_visual_features_of_an_example_match_its_audio(visual_data: Path) -> None:
    stage = PaperStage(read_training_clips(visual_data), make_settings(), config=VISUAL_CONFIG)
    first_rows = set()
    for number in range(8):
        example = stage.train_set[number]
        first = int(example["visual"][0, 0])
        assert example["visual"].shape == (4, 1024)
        assert example["visual"][:, 0].tolist() == [first, first + 1, first + 2, first + 3]
        # The clicks of the clip are at the starts of its rows 1 to 5.
        clicks = np.flatnonzero(example["clean"][0].numpy() > 0.2) / (RATE_HZ / 2)
        expected = [row - first for row in range(max(first, 1), min(first + 4, 6))]
        np.testing.assert_allclose(clicks[clicks < 3.9], expected, atol=0.01)
        first_rows.add(first)
    assert first_rows == {0, 1, 2}


@pytest.mark.slow
def test_training_updates_the_visual_encoder_and_saves_its_name(
    run_soundtrack: RunLoris, visual_data: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    stage = PaperStage(read_training_clips(visual_data), make_settings(), config=VISUAL_CONFIG)
    name = "vencoder.lstm.weight_ih_l0"
    before = stage.network.state_dict()[name].clone()

    folder, _ = train_stage(stage, tmp_path / "conditional", monkeypatch)

    assert not torch.equal(stage.network.state_dict()[name], before)
    with safe_open(folder.best_weights, framework="pt") as weights:
        assert weights.metadata()["loris.visual_encoder"] == "i3d-kinetics"
    features = tmp_path / "moving.npy"
    np.save(features, np.zeros((4, 1024), np.float32))
    model, out = folder.best_weights, tmp_path / "a.wav"
    with_features = run_soundtrack(model, out, "--visual-features", features)
    without_features = run_soundtrack(model, out, "--overwrite")
    assert with_features.exit_code == without_features.exit_code == 0, with_features.stderr
    assert "warning: " not in with_features.stderr
    assert "warning: " in without_features.stderr


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, ("lstm", False, "i3d-kinetics")),
        ({"motion_encoder": "true"}, ("lstm", True, "i3d-kinetics")),
        ({"visual_lstm": False}, ("linear", False, "i3d-kinetics")),
        ({"visual_encoder": "none"}, ("none", True, "")),
        ({"visual_encoder": "none", "motion_encoder": "false"}, ("none", False, "")),
        ({"visual_encoder": "i3d-kinetics"}, ("lstm", False, "i3d-kinetics")),
    ],
    ids=["auto", "motion", "no-lstm", "no-visual", "no-condition", "named-encoder"],
)
def test_config_follows_settings_and_shared_visual_features(
    visual_data: Path, settings: dict[str, Any], expected: tuple[str, bool, str]
) -> None:
    clips, training_settings = read_manifest(visual_data), make_settings(**settings)
    encoder = select_visual_encoder(training_settings, clips)
    config = build_paper_config(training_settings, clips, encoder)
    assert (config.visual_projection, config.motion_encoder, encoder) == expected
    assert config.visual_features == 1024


def test_clips_without_visual_features_select_the_motion_encoder(data: Path) -> None:
    clips = read_manifest(data)
    encoder = select_visual_encoder(make_settings(), clips)
    config = build_paper_config(make_settings(), clips, encoder)
    assert (config.visual_projection, config.motion_encoder, encoder) == ("none", True, "")


def test_i3d_r50_features_are_2048_wide(data: Path) -> None:
    clips = [replace(clip, visual={"i3d-r50": "a.npz"}) for clip in read_manifest(data)]
    encoder = select_visual_encoder(make_settings(), clips)
    config = build_paper_config(make_settings(), clips, encoder)
    assert (config.visual_projection, config.visual_features) == ("lstm", 2048)


def test_encoder_missing_from_one_clip_is_a_usage_error(visual_data: Path) -> None:
    with pytest.raises(UsageError, match=r"\bb\b.*i3d-charades"):
        select_visual_encoder(
            make_settings(visual_encoder="i3d-charades"), read_manifest(visual_data)
        )


def make_dataset(data: Path, seed: int = 0, *, augment: bool = False) -> WaveformDataset:
    features = make_features(CLIP_S, CLICKS_S, genre="skate")
    return WaveformDataset(
        data_dir=data,
        clips=[make_clip("a", duration_s=CLIP_S)],
        annotations=[ClipAnnotations(features, None)],
        config=MOTION_CONFIG,
        seed=seed,
        condition_dropout=0.1,
        augment=augment,
        audio_accent_probability=1.0,
    )


def test_rhythm_of_an_example_matches_its_audio(data: Path) -> None:
    dataset = make_dataset(data)
    crops = set()
    for number in range(8):
        example = dataset[number]
        clean, rhythm = example["clean"].numpy(), example["rhythm"].numpy()
        clicks = np.flatnonzero(clean[0] > 0.9)
        crops.add(tuple(clicks))
        inside = clicks[(clicks > 0.2 * RATE_HZ) & (clicks < 1.9 * RATE_HZ)]
        steps = np.round(inside / RATE_HZ * 16).astype(int) - 2
        assert len(steps) >= 3
        assert rhythm[steps].tolist() == [1] * len(steps)
        assert np.array_equal(clean[0], clean[1])
        assert clean.max() == pytest.approx(0.95)
        assert int(example["genre"]) == 11
    assert len(crops) > 1


def test_example_is_determined_by_seed_and_index(data: Path) -> None:
    first, repeated, other_seed = (make_dataset(data, seed)[3] for seed in (0, 0, 1))
    assert all(torch.equal(first[key], repeated[key]) for key in first)
    assert not torch.equal(first["noise"], other_seed["noise"])


def test_augmentation_changes_the_peak_level(data: Path) -> None:
    dataset = make_dataset(data, augment=True)
    peaks = [float(dataset[k]["clean"].max()) for k in range(8)]
    assert 0.95 * 0.3 <= min(peaks) < max(peaks) <= 0.95


def test_activation_checkpointing_keeps_the_gradients(data: Path) -> None:
    config = replace(MOTION_CONFIG, motion_encoder=False)
    example = {key: value[None] for key, value in make_dataset(data)[0].items()}

    def compute_gradients(*, checkpointed: bool) -> list[torch.Tensor]:
        torch.manual_seed(0)
        loss_module = PaperLoss(PaperModel(config))
        if checkpointed:
            checkpoint_activations(loss_module.network)
        torch.autograd.backward(loss_module(example))
        return [p.grad for p in loss_module.parameters() if p.grad is not None]

    plain = compute_gradients(checkpointed=False)
    checkpointed = compute_gradients(checkpointed=True)
    assert len(plain) == len(checkpointed) > 100
    for expected, gradient in zip(plain, checkpointed, strict=True):
        torch.testing.assert_close(gradient, expected)


@pytest.mark.slow
def test_trained_weights_generate_a_soundtrack(
    run_soundtrack: RunLoris, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LORIS_CACHE", str(tmp_path / "cache"))
    stage = PaperStage(read_training_clips(data), make_settings(), config=MOTION_CONFIG)

    folder, records = train_stage(stage, tmp_path / "conditional", monkeypatch)

    assert [record["step"] for record in records if "val_loss" in record] == [2]
    assert {"onset_recall", "onset_precision"} <= set().union(*records)
    assert [path.suffix for path in folder.samples_dir.iterdir()] == [".flac"]
    assert load_paper_model(folder.best_weights, device=CPU).config == MOTION_CONFIG
    out = tmp_path / "new.wav"
    result = run_soundtrack(folder.best_weights, out)
    assert result.exit_code == 0, result.stderr
    samples, rate_hz = soundfile.read(out)
    assert (samples.shape, rate_hz) == ((2 * RATE_HZ, 2), RATE_HZ)
    assert np.abs(samples).max() > 0


def make_train_arguments(data: Path, out: Path, *options: object) -> Sequence[object]:
    settings = [
        "steps=1", "batch_size=1", "validation_clips=1", "validation_samples=0",
        "channels=64", "context_features=16", "motion_encoder=false",
        "audio_accent_probability=1",
    ]  # fmt: skip
    overrides = [word for setting in settings for word in ("--set", setting)]
    fixed = ["--preset", "paper", "--data", data, "--split", "clicks", "-o", out]
    return ["train", *fixed, *overrides, "--device", "cpu", *options]


@pytest.mark.slow
def test_conditional_stage_starts_from_the_backbone_of_its_run(
    loris: RunLoris, data: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    result = loris(*make_train_arguments(data, run, "--stage", "unconditional"))
    assert result.exit_code == 0, result.stderr

    backbone = run / "unconditional" / "best.safetensors"
    options = ("--backbone", backbone, "--recipe", "paper")
    result = loris(*make_train_arguments(data, run, *options))
    assert result.exit_code == 0, result.stderr
    model = run / "paper.safetensors"
    assert result.stdout == f"{model}\n"
    rows = (run / "conditional" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(rows[0])["learning_rate"] == {"backbone": 2e-4, "new": 2e-4}
    config = load_paper_model(model, device=CPU).config
    assert (config.channels, config.n_pose_frames, config.compat) == (64, 48, "paper")


@pytest.mark.parametrize(
    ("options", "value"),
    [
        (["--stage", "latent"], "latent"),
        (["--set", "rhythm_conditioning=loud"], "'loud'"),
        (["--set", "channels=65"], "channels"),
    ],
    ids=["latent-stage", "unknown-choice", "invalid-size"],
)
def test_settings_that_define_no_network_are_usage_errors(
    loris: RunLoris, data: Path, tmp_path: Path, options: list[str], value: str
) -> None:
    result = loris(*make_train_arguments(data, tmp_path / "run", *options))
    assert result.exit_code == 2
    assert value in result.stderr
    assert not list(tmp_path.rglob("*.safetensors"))


def test_preset_has_the_settings_of_the_paper() -> None:
    settings = resolve_settings(
        preset="paper", stage="conditional", recipe="default", subset="da25"
    )
    values = (settings.batch_size, settings.learning_rate, settings.weight_decay)
    assert values == (10, 2e-4, 0.045)
    with pytest.raises(UsageError, match="latent"):
        resolve_settings(preset="paper", stage="latent", recipe="default", subset="da25")


def test_released_backbone_is_read_under_its_own_names(tmp_path: Path) -> None:
    network = PaperModel(MOTION_CONFIG)
    prefix = "cond_diffusion.unet."
    expected = {
        key: value + 1
        for key, value in network.state_dict().items()
        if key.startswith(prefix)
        and not any(part in key for part in ("cross_", "rhythm_", "fixed_"))
    }
    unet = {key.replace(prefix, "unet."): value for key, value in expected.items()}
    copy = {key.replace("unet.", "diffusion.net."): value for key, value in unet.items()}
    torch.save(unet | copy, tmp_path / "audio.pt")

    backbone = read_backbone(tmp_path / "audio.pt", network)

    assert backbone.keys() == expected.keys()
    assert all(torch.equal(backbone[key], expected[key]) for key in expected)

    del unet["unet.to_time.0.0.weights"]
    torch.save(unet | copy, tmp_path / "less.pt")
    with pytest.raises(InputError, match=r"less\.pt.*to_time\.0\.0\.weights"):
        read_backbone(tmp_path / "less.pt", network)
