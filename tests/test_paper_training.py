"""``loris train --preset paper`` at a small size, on clips of two seconds."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from conftest import RunLoris
from safetensors import safe_open
from tiny_models import TINY_PAPER_CONFIG

from loris_cli.dataset.manifest import Clip, read_manifest, write_manifest
from loris_cli.errors import InputError, UsageError
from loris_cli.models.generator_interface import ClipFeatures
from loris_cli.models.paper_checkpoint import load_paper_model
from loris_cli.models.paper_config import PaperConfig
from loris_cli.models.paper_unet import PaperModel
from loris_cli.training import paper_stage
from loris_cli.training.checkpoints import StageFolder
from loris_cli.training.datasets import ClipAnnotations, TrainingClips
from loris_cli.training.distributed import DistributedContext
from loris_cli.training.loop import train
from loris_cli.training.losses import PaperLoss, checkpoint_activations
from loris_cli.training.paper_stage import (
    PaperStage,
    build_paper_config,
    read_backbone,
    select_visual_encoder,
)
from loris_cli.training.settings import TrainingSettings, resolve_settings
from loris_cli.training.waveform_dataset import WaveformDataset

RATE_HZ = 22_050
TINY_CONFIG = replace(
    TINY_PAPER_CONFIG,
    head_features=16,
    n_visual_frames=4,
    n_pose_frames=32,
    n_genres=12,
    visual_projection="none",
    motion_encoder=True,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip to train on and one held out, of three seconds with a click every half."""
    folder = tmp_path_factory.mktemp("data")
    clips = []
    for name, part in (("a", "train"), ("b", "val")):
        audio = np.zeros(3 * RATE_HZ)
        peaks_s = np.arange(0.5, 3, 0.5)
        for peak_s in peaks_s:
            audio[round(peak_s * RATE_HZ)] = 0.5
        soundfile.write(folder / f"{name}.flac", audio, RATE_HZ)
        arrays: dict[str, Any] = {"accents_s": peaks_s, "strengths": np.ones(len(peaks_s))}
        np.savez(folder / f"{name}.npz", energy=np.full(48, 0.5), beats_s=np.empty(0), **arrays)
        clip = Clip(
            id=name,
            subset="clicks",
            partition=part,
            duration_s=3.0,
            genre="pop",
            source="clicks",
            audio=f"{name}.flac",
            rhythm=f"{name}.npz",
        )
        clips.append(clip)
    write_manifest(folder, clips)
    return folder


ENCODERS_BY_CLIP = {"a": ("i3d-charades", "i3d-kinetics"), "b": ("i3d-kinetics",)}


@pytest.fixture
def visual_data(data: Path, tmp_path: Path) -> Path:
    """The same clips with features of their pictures: row ``k`` is all ``k``."""
    folder = tmp_path / "seen"
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


VISUAL_CONFIG = replace(TINY_CONFIG, visual_projection="lstm", motion_encoder=False)


def split(data: Path) -> TrainingClips:
    first, *others = read_manifest(data)
    return TrainingClips(data_dir=data, train=[first], val=others)


def make_settings(**options: Any) -> TrainingSettings:
    settings = resolve_settings(
        preset="paper", stage="conditional", recipe="default", subset="clicks"
    )
    return replace(
        settings, steps=2, batch_size=1, validation_clips=1, validation_samples=1, **options
    )


def test_features_of_the_picture_belong_to_the_sound_of_an_example(visual_data: Path) -> None:
    stage = PaperStage(split(visual_data), make_settings(), config=VISUAL_CONFIG)
    rows = set()
    for number in range(8):
        example = stage.train_set[number]
        first = int(example["visual"][0, 0])
        assert example["visual"].shape == (4, 1024)
        assert example["visual"][:, 0].tolist() == [first, first + 1, first + 2, first + 3]
        # The clip clicks at 0.5 s and every half second on, where its rows 1 to 5 begin.
        clicks = np.flatnonzero(example["clean"][0].numpy() > 0.2) / (RATE_HZ / 2)
        begin = [row - first for row in range(max(first, 1), min(first + 4, 6))]
        np.testing.assert_allclose([at for at in clicks if at < 3.9], begin, atol=0.01)
        rows.add(first)
    assert rows == {0, 1, 2}


def test_a_network_that_sees_learns_and_its_weights_tell_whose_features(
    loris: RunLoris, visual_data: Path, tmp_path: Path, moving_video: Path, pose_file: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(paper_stage, "VALIDATION_SAMPLER_STEPS", 2)
    stage = PaperStage(split(visual_data), make_settings(), config=VISUAL_CONFIG)
    folder = StageFolder(tmp_path / "conditional")
    folder.path.mkdir()
    processes = DistributedContext(rank=0, world_size=1, device=torch.device("cpu"))
    name = "vencoder.lstm.weight_ih_l0"
    before = stage.network.state_dict()[name].clone()

    train(stage, make_settings(), folder, processes, on_log=lambda row: None)

    assert not torch.equal(stage.network.state_dict()[name], before)
    with safe_open(folder.best_weights, framework="pt") as weights:
        assert weights.metadata()["loris.visual_encoder"] == "i3d-kinetics"
    features = tmp_path / "moving.npy"
    np.save(features, np.zeros((4, 1024), np.float32))
    options = (
        "--model",
        folder.best_weights,
        "--poses",
        pose_file,
        "--steps",
        2,
        "--genre",
        "skate",
    )
    command = ("soundtrack", moving_video, "-o", tmp_path / "a.wav", *options)
    with_features = loris(*command, "--visual-features", features)
    without = loris(*command, "--overwrite")
    assert with_features.exit_code == without.exit_code == 0, with_features.stderr
    assert "warning: " not in with_features.stderr
    assert "warning: " in without.stderr


def configure(settings: TrainingSettings, clips: list[Clip]) -> tuple[PaperConfig, str]:
    encoder = select_visual_encoder(settings, clips)
    return build_paper_config(settings, clips, encoder), encoder


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
)
def test_what_the_clips_have_is_told(
    visual_data: Path, settings: dict[str, Any], expected: tuple[str, bool, str]
) -> None:
    config, encoder = configure(make_settings(**settings), read_manifest(visual_data))
    assert (config.visual_projection, config.motion_encoder, encoder) == expected
    assert config.visual_features == 1024


def test_without_features_the_body_is_told_as_ever(data: Path) -> None:
    config, _ = configure(make_settings(), read_manifest(data))
    assert (config.visual_projection, config.motion_encoder) == ("none", True)


def test_rows_of_i3d_r50_are_2048_wide(data: Path) -> None:
    clips = [replace(clip, visual={"i3d-r50": "a.npz"}) for clip in read_manifest(data)]
    config, _ = configure(make_settings(), clips)
    assert (config.visual_projection, config.visual_features) == ("lstm", 2048)


def test_features_that_some_clips_lack_cannot_be_asked_for(visual_data: Path) -> None:
    with pytest.raises(UsageError, match="b has no visual features of i3d-charades"):
        select_visual_encoder(
            make_settings(visual_encoder="i3d-charades"), read_manifest(visual_data)
        )


def examples(data: Path, seed: int = 0, *, augment: bool = False) -> WaveformDataset:
    clip = Clip(
        id="a", subset="", partition="", duration_s=3.0, genre="", source="", audio="a.flac",
        rhythm="",
    )  # fmt: skip
    peaks_s = np.arange(0.5, 3, 0.5)
    features = ClipFeatures(
        duration_s=3.0,
        peaks_s=peaks_s,
        strengths=np.ones(len(peaks_s)),
        energy=np.ones(48),
        genre="skate",
    )
    return WaveformDataset(
        data_dir=data,
        clips=[clip],
        annotations=[ClipAnnotations(features, None)],
        config=TINY_CONFIG,
        seed=seed,
        condition_dropout=0.1,
        augment=augment,
    )


def test_sound_and_rhythm_of_an_example_belong_together(data: Path) -> None:
    starts = set()
    for number in range(8):
        example = examples(data)[number]
        clean, rhythm = example["clean"].numpy(), example["rhythm"].numpy()
        clicks = np.flatnonzero(clean[0] > 0.9)
        clicks = clicks[(clicks > 0.2 * RATE_HZ) & (clicks < 1.9 * RATE_HZ)]
        steps = np.round(clicks / RATE_HZ * 16).astype(int) - 2
        assert len(steps) >= 3
        assert rhythm[steps].tolist() == [1] * len(steps)
        assert np.array_equal(clean[0], clean[1])
        assert clean.max() == pytest.approx(0.95)
        assert int(example["genre"]) == 11
        starts.add(tuple(np.flatnonzero(clean[0] > 0.9)))
    assert len(starts) > 1  # more than one stretch of the clip


def test_an_example_is_a_function_of_its_number(data: Path) -> None:
    one, repeated, other = (examples(data, seed)[3] for seed in (0, 0, 1))
    assert all(torch.equal(one[key], repeated[key]) for key in one)
    assert not torch.equal(one["noise"], other["noise"])
    peaks = [float(examples(data, augment=True)[k]["clean"].max()) for k in range(8)]
    assert 0.95 * 0.3 <= min(peaks) < max(peaks) <= 0.95


def test_activations_computed_again_give_the_same_gradients(data: Path) -> None:
    def gradients(checkpointed: bool) -> list[torch.Tensor]:
        torch.manual_seed(0)
        loss_module = PaperLoss(PaperModel(replace(TINY_CONFIG, motion_encoder=False)))
        if checkpointed:
            checkpoint_activations(loss_module.network)
        example = {key: value[None] for key, value in examples(data)[0].items()}
        torch.autograd.backward(loss_module(example))
        return [p.grad for p in loss_module.parameters() if p.grad is not None]

    plain, checkpointed = gradients(False), gradients(True)
    assert len(plain) == len(checkpointed) > 100
    for one, other in zip(plain, checkpointed, strict=True):
        torch.testing.assert_close(one, other)


def arguments(data: Path, out: Path, *options: object) -> list[object]:
    settings = [
        "steps=1", "batch_size=1", "validation_clips=1", "validation_samples=0",
        "channels=64", "context_features=16", "motion_encoder=false",
    ]  # fmt: skip
    overrides = [word for setting in settings for word in ("--set", setting)]
    fixed = ["--preset", "paper", "--data", data, "--split", "clicks", "-o", out]
    return ["train", *fixed, *overrides, "--device", "cpu", *options]


def test_a_stage_learns_and_its_weights_make_a_soundtrack(
    loris: RunLoris, data: Path, tmp_path: Path, moving_video: Path, pose_file: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("LORIS_CACHE", str(tmp_path / "cache"))
    settings = make_settings()
    monkeypatch.setattr(paper_stage, "VALIDATION_SAMPLER_STEPS", 2)
    stage = PaperStage(split(data), settings, config=TINY_CONFIG)
    folder = StageFolder(tmp_path / "conditional")
    folder.path.mkdir()
    rows: list[dict[str, Any]] = []

    train(
        stage,
        settings,
        folder,
        DistributedContext(rank=0, world_size=1, device=torch.device("cpu")),
        on_log=rows.append,
    )

    assert [row["step"] for row in rows if "val_loss" in row] == [2]
    assert {"onset_recall", "onset_precision"} <= rows[-1].keys() | rows[-2].keys()
    assert [path.suffix for path in folder.samples_dir.iterdir()] == [".flac"]
    assert (
        load_paper_model(folder.best_weights, device=torch.device("cpu")).config == TINY_CONFIG
    )
    out = tmp_path / "new.wav"
    options = (
        "--model",
        folder.best_weights,
        "--poses",
        pose_file,
        "--steps",
        2,
        "--genre",
        "skate",
    )
    result = loris("soundtrack", moving_video, "-o", out, *options)
    assert result.exit_code == 0, result.stderr
    assert soundfile.info(out).channels == 2


@pytest.mark.slow
def test_a_run_takes_its_own_backbone(loris: RunLoris, data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    result = loris(*arguments(data, run, "--stage", "unconditional"))
    assert result.exit_code == 0, result.stderr

    backbone = run / "unconditional" / "best.safetensors"
    result = loris(*arguments(data, run, "--backbone", backbone, "--recipe", "paper"))
    assert result.exit_code == 0, result.stderr
    model = run / "paper.safetensors"
    assert result.stdout == f"{model}\n"
    rows = (run / "conditional" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(rows[0])["learning_rate"] == {"backbone": 2e-4, "new": 2e-4}
    config = load_paper_model(model, device=torch.device("cpu")).config
    assert (config.channels, config.n_pose_frames, config.compat) == (64, 48, "paper")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--stage", "latent"], "it has no latent stage"),
        (["--set", "rhythm_conditioning=loud"], "rhythm_conditioning is 'loud'"),
        (["--set", "channels=65"], "make no network"),
    ],
)
def test_what_makes_no_network_is_a_usage_error(
    loris: RunLoris, data: Path, tmp_path: Path, options: list[str], message: str
) -> None:
    result = loris(*arguments(data, tmp_path / "run", *options))
    assert result.exit_code == 2
    assert message in result.stderr


def test_the_preset_has_the_papers_settings() -> None:
    settings = resolve_settings(
        preset="paper", stage="conditional", recipe="default", subset="da25"
    )
    assert (settings.batch_size, settings.learning_rate, settings.weight_decay) == (
        10,
        2e-4,
        0.045,
    )
    with pytest.raises(UsageError, match="no latent"):
        resolve_settings(preset="paper", stage="latent", recipe="default", subset="da25")


def test_a_released_backbone_is_taken_by_its_own_names(tmp_path: Path) -> None:
    network = PaperModel(TINY_CONFIG)
    prefix = "cond_diffusion.unet."
    state = {
        key.replace(prefix, "unet."): value + 1
        for key, value in network.state_dict().items()
        if key.startswith(prefix)
        and not any(part in key for part in ("cross_", "rhythm_", "fixed_"))
    }
    released_state = state | {
        key.replace("unet.", "diffusion.net."): v for key, v in state.items()
    }
    torch.save(released_state, tmp_path / "audio.pt")

    backbone = read_backbone(tmp_path / "audio.pt", network)

    assert len(backbone) == len(state)
    assert all(key.startswith(prefix) for key in backbone)

    del released_state["unet.to_time.0.0.weights"]
    torch.save(released_state, tmp_path / "less.pt")
    with pytest.raises(InputError, match=r"to_time\.0\.0\.weights' is missing or does"):
        read_backbone(tmp_path / "less.pt", network)
