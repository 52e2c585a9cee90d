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
from sizes import SMALL_PAPER_CONFIG

from loris_cli.dataset.manifest import Clip, read_manifest, write_manifest
from loris_cli.errors import InputError, UsageError
from loris_cli.models.generator_interface import ClipFeatures
from loris_cli.models.paper_checkpoint import load_paper_model
from loris_cli.models.paper_unet import PaperModel
from loris_cli.training import paper_stage
from loris_cli.training.checkpoints import StageFolder
from loris_cli.training.datasets import ClipAnnotations
from loris_cli.training.distributed import DistributedContext
from loris_cli.training.loop import train
from loris_cli.training.losses import checkpoint_activations
from loris_cli.training.paper_stage import (
    PaperLoss,
    PaperStage,
    build_paper_config,
    read_backbone,
    select_visual_encoder,
)
from loris_cli.training.settings import TrainingSettings, resolve_settings
from loris_cli.training.waveform_dataset import WaveformDataset

RATE_HZ = 22_050
TINY = replace(
    SMALL_PAPER_CONFIG,
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
        sound = np.zeros(3 * RATE_HZ)
        peaks_s = np.arange(0.5, 3, 0.5)
        for peak_s in peaks_s:
            sound[round(peak_s * RATE_HZ)] = 0.5
        soundfile.write(folder / f"{name}.flac", sound, RATE_HZ)
        told: dict[str, Any] = {"accents_s": peaks_s, "strengths": np.ones(len(peaks_s))}
        np.savez(folder / f"{name}.npz", energy=np.full(48, 0.5), beats_s=np.empty(0), **told)
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


MAKERS = {"a": ("i3d-charades", "i3d-kinetics"), "b": ("i3d-kinetics",)}


@pytest.fixture
def seen(data: Path, tmp_path: Path) -> Path:
    """The same clips with features of their pictures: row ``k`` is all ``k``."""
    folder = tmp_path / "seen"
    shutil.copytree(data, folder)
    clips = []
    for clip in read_manifest(folder):
        visual = {by: f"{clip.id}.{by}.npz" for by in MAKERS[clip.id]}
        for path in visual.values():
            rows = np.arange(6.0)[:, None].repeat(1024, axis=1).astype(np.float32)
            np.savez(folder / path, features=rows)
        clips.append(replace(clip, visual=visual))
    write_manifest(folder, clips)
    return folder


SEEING = replace(TINY, visual_projection="lstm", motion_encoder=False)


def short(**more: Any) -> TrainingSettings:
    settings = resolve_settings(
        preset="paper", stage="conditional", recipe="ours", subset="clicks"
    )
    return replace(
        settings, steps=2, batch_size=1, validation_clips=1, validation_samples=1, **more
    )


def test_features_of_the_picture_belong_to_the_sound_of_an_example(seen: Path) -> None:
    clips = read_manifest(seen)
    stage = PaperStage(seen, clips[:1], clips[1:], short(), config=SEEING)
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
    loris: RunLoris, seen: Path, tmp_path: Path, moving: Path, body: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(paper_stage, "VALIDATION_SAMPLER_STEPS", 2)
    clips = read_manifest(seen)
    stage = PaperStage(seen, clips[:1], clips[1:], short(), config=SEEING)
    folder = StageFolder(tmp_path / "conditional")
    folder.path.mkdir()
    processes = DistributedContext(rank=0, world_size=1, device=torch.device("cpu"))
    name = "vencoder.lstm.weight_ih_l0"
    before = stage.network.state_dict()[name].clone()

    train(stage, short(), folder, processes, on_log=lambda row: None)

    assert not torch.equal(stage.network.state_dict()[name], before)
    with safe_open(folder.best_weights, framework="pt") as weights:
        assert weights.metadata()["loris.visual_maker"] == "i3d-kinetics"
    features = tmp_path / "moving.npy"
    np.save(features, np.zeros((4, 1024), np.float32))
    options = (
        "--model",
        folder.best_weights,
        "--poses",
        body,
        "--steps",
        2,
        "--genre",
        "skate",
    )
    told = loris("soundtrack", moving, "-o", tmp_path / "a.wav", *options, "--visual", features)
    assert told.exit_code == 0, told.stderr
    assert "was trained on visual features and has none" not in told.stderr


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, ("lstm", False, "i3d-kinetics")),
        ({"motion": "true"}, ("lstm", True, "i3d-kinetics")),
        ({"lstm": False}, ("linear", False, "i3d-kinetics")),
        ({"visual": "none"}, ("none", True, "")),
        ({"visual": "none", "motion": "false"}, ("none", False, "")),
        ({"visual": "i3d-kinetics"}, ("lstm", False, "i3d-kinetics")),
    ],
)
def test_what_the_clips_have_is_told(
    seen: Path, settings: dict[str, Any], expected: tuple[str, bool, str]
) -> None:
    clips = read_manifest(seen)
    config = build_paper_config(short(**settings), clips)
    assert (
        config.visual_projection,
        config.motion_encoder,
        select_visual_encoder(short(**settings), clips),
    ) == expected
    assert config.visual_features == 1024


def test_without_features_the_body_is_told_as_ever(data: Path) -> None:
    config = build_paper_config(short(), read_manifest(data))
    assert (config.visual_projection, config.motion_encoder) == ("none", True)


def test_rows_of_i3d_r50_are_2048_wide(data: Path) -> None:
    clips = [replace(clip, visual={"i3d-r50": "a.npz"}) for clip in read_manifest(data)]
    config = build_paper_config(short(), clips)
    assert (config.visual_projection, config.visual_features) == ("lstm", 2048)


def test_features_that_some_clips_lack_cannot_be_asked_for(seen: Path) -> None:
    with pytest.raises(UsageError, match="b has no features of the picture by i3d-charades"):
        build_paper_config(short(visual_encoder="i3d-charades"), read_manifest(seen))


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
        data,
        [clip],
        [ClipAnnotations(features, None)],
        config=TINY,
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
    one, again, other = (examples(data, seed)[3] for seed in (0, 0, 1))
    assert all(torch.equal(one[key], again[key]) for key in one)
    assert not torch.equal(one["noise"], other["noise"])
    loud = [float(examples(data, augment=True)[k]["clean"].max()) for k in range(8)]
    assert 0.95 * 0.3 <= min(loud) < max(loud) <= 0.95


def test_activations_computed_again_give_the_same_gradients(data: Path) -> None:
    def gradients(again: bool) -> list[torch.Tensor]:
        torch.manual_seed(0)
        learner = PaperLoss(PaperModel(replace(TINY, motion_encoder=False)))
        if again:
            checkpoint_activations(learner.network)
        example = {key: value[None] for key, value in examples(data)[0].items()}
        torch.autograd.backward(learner(example))
        return [p.grad for p in learner.parameters() if p.grad is not None]

    plain, again = gradients(False), gradients(True)
    assert len(plain) == len(again) > 100
    for one, other in zip(plain, again, strict=True):
        torch.testing.assert_close(one, other)


def words(data: Path, out: Path, *more: object) -> list[object]:
    settings = [
        "steps=1", "batch_size=1", "validation_clips=1", "validation_samples=0", "channels=64", "context_features=16",
        "motion_encoder=false",
    ]  # fmt: skip
    given = [word for setting in settings for word in ("--set", setting)]
    fixed = ["--preset", "paper", "--data", data, "--split", "clicks", "-o", out]
    return ["train", *fixed, *given, "--device", "cpu", *more]


def test_a_stage_learns_and_its_weights_make_a_soundtrack(
    loris: RunLoris, data: Path, tmp_path: Path, moving: Path, body: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("LORIS_CACHE", str(tmp_path / "cache"))
    settings = replace(
        resolve_settings(preset="paper", stage="conditional", recipe="ours", subset="clicks"),
        steps=2, batch_size=1, validation_clips=1, validation_samples=1,
    )  # fmt: skip
    clips = read_manifest(data)
    monkeypatch.setattr(paper_stage, "VALIDATION_SAMPLER_STEPS", 2)
    stage = PaperStage(data, clips[:1], clips[1:], settings, config=TINY)
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

    assert [row["step"] for row in rows if "held_out" in row] == [2]
    assert {"hit", "precision"} <= rows[-1].keys() | rows[-2].keys()
    assert [path.suffix for path in folder.samples_dir.iterdir()] == [".flac"]
    assert load_paper_model(folder.best_weights, device=torch.device("cpu")).config == TINY
    out = tmp_path / "new.wav"
    options = (
        "--model",
        folder.best_weights,
        "--poses",
        body,
        "--steps",
        2,
        "--genre",
        "skate",
    )
    told = loris("soundtrack", moving, "-o", out, *options)
    assert told.exit_code == 0, told.stderr
    assert soundfile.info(out).channels == 2


@pytest.mark.slow
def test_a_run_takes_its_own_backbone(loris: RunLoris, data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    told = loris(*words(data, run, "--stage", "unconditional"))
    assert told.exit_code == 0, told.stderr

    backbone = run / "unconditional" / "best.safetensors"
    told = loris(*words(data, run, "--backbone", backbone, "--recipe", "paper"))
    assert told.exit_code == 0, told.stderr
    model = run / "paper.safetensors"
    assert told.stdout == f"{model}\n"
    rows = (run / "conditional" / "log.jsonl").read_text().splitlines()
    assert json.loads(rows[0])["rate"] == {"backbone": 2e-4, "added": 2e-4}
    config = load_paper_model(model, device=torch.device("cpu")).config
    assert (config.channels, config.n_pose_frames, config.compat) == (64, 48, "paper")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--stage", "latent"], "it has no latent to learn"),
        (["--set", "rhythm_conditioning=loud"], "rhythm is 'loud'"),
        (["--set", "channels=65"], "make no network"),
    ],
)
def test_what_makes_no_network_is_a_usage_error(
    loris: RunLoris, data: Path, tmp_path: Path, more: list[str], message: str
) -> None:
    told = loris(*words(data, tmp_path / "run", *more))
    assert told.exit_code == 2
    assert message in told.stderr


def test_the_preset_has_the_papers_settings() -> None:
    settings = resolve_settings(
        preset="paper", stage="conditional", recipe="ours", subset="da25"
    )
    assert (settings.batch_size, settings.learning_rate, settings.weight_decay) == (
        10,
        2e-4,
        0.045,
    )
    with pytest.raises(UsageError, match="no latent"):
        resolve_settings(preset="paper", stage="latent", recipe="ours", subset="da25")


def test_a_released_backbone_is_taken_by_its_own_names(tmp_path: Path) -> None:
    network = PaperModel(TINY)
    prefix = "cond_diffusion.unet."
    state = {
        key.replace(prefix, "unet."): value + 1
        for key, value in network.state_dict().items()
        if key.startswith(prefix)
        and not any(part in key for part in ("cross_", "rhythm_", "fixed_"))
    }
    both = state | {key.replace("unet.", "diffusion.net."): v for key, v in state.items()}
    torch.save(both, tmp_path / "audio.pt")

    known = read_backbone(tmp_path / "audio.pt", network)

    assert len(known) == len(state)
    assert all(key.startswith(prefix) for key in known)

    del both["unet.to_time.0.0.weights"]
    torch.save(both, tmp_path / "less.pt")
    with pytest.raises(InputError, match=r"to_time\.0\.0\.weights' is missing or odd"):
        read_backbone(tmp_path / "less.pt", network)
