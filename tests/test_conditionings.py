"""Conditionings of ``mini``: which conditions reach the network, and the command line."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import condition_influence
import numpy as np
import pytest
import torch
from builders import make_features
from click_dataset import write_click_dataset
from conftest import RunLoris
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny_models import TINY_CONDITIONINGS_DENOISER, TINY_NOTES_AUTOENCODER

from loris_cli.errors import WeightsError
from loris_cli.models.condition_routes import CONDITIONINGS, Conditioning
from loris_cli.models.generator_interface import VideoFeatures
from loris_cli.models.mel_autoencoder import MelAutoencoder
from loris_cli.models.mini_checkpoint import load_mini_checkpoint, save_mini_checkpoint
from loris_cli.models.mini_unet import MiniDenoiser
from loris_cli.soundtrack.latent_generator import LatentGenerator
from loris_cli.synthetic.dancer import simulate_dance

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of a network with all conditionings and a decoder to magnitudes."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "three.safetensors"
    denoiser = MiniDenoiser(TINY_CONDITIONINGS_DENOISER)
    for name, parameter in denoiser.named_parameters():
        if name.startswith("null_routes"):
            torch.nn.init.normal_(parameter)
    save_mini_checkpoint(path, MelAutoencoder(TINY_NOTES_AUTOENCODER), denoiser)
    return path


@pytest.fixture(scope="module")
def build_generator(weights: Path) -> Callable[[Conditioning], LatentGenerator]:
    """Function that returns the generator of a conditioning."""
    model = load_mini_checkpoint(str(weights), device=CPU)

    def build(conditioning: Conditioning) -> LatentGenerator:
        return LatentGenerator(
            model=model, device=CPU, steps=2, guidance=1.0, conditioning=conditioning
        )

    return build


def generate(generator: LatentGenerator, features: VideoFeatures) -> bytes:
    blocks = generator.generate(features, seed=0, progress=lambda done, total: None)
    return np.concatenate(list(blocks), axis=1).tobytes()


def test_each_conditioning_makes_another_take(
    build_generator: Callable[[Conditioning], LatentGenerator],
) -> None:
    features = make_features(2.0)
    takes = {name: generate(build_generator(name), features) for name in CONDITIONINGS}
    assert len(set(takes.values())) == 3
    assert generate(build_generator("free"), features) == takes["free"]


def test_only_score_has_notes(
    build_generator: Callable[[Conditioning], LatentGenerator],
) -> None:
    assert [build_generator(name).has_notes for name in CONDITIONINGS] == [True, False, False]


def test_paper_ignores_the_motion_energy_and_free_does_not(
    build_generator: Callable[[Conditioning], LatentGenerator],
) -> None:
    features = make_features(2.0)
    changed = replace(features, energy=np.linspace(0.0, 1.0, len(features.energy)))
    same = {
        name: generate(build_generator(name), features)
        == generate(build_generator(name), changed)
        for name in CONDITIONINGS
    }
    assert same == {"score": False, "free": False, "paper": True}


def test_influence_is_measured_for_the_conditions_of_a_conditioning(
    build_generator: Callable[[Conditioning], LatentGenerator],
) -> None:
    keypoints = np.random.default_rng(0).uniform(0, 100, (32, 17, 3))
    features = make_features(2.0, keypoints=keypoints, genre="pop")
    influence = {
        name: condition_influence.measure_influence(build_generator(name), [features])
        for name in CONDITIONINGS
    }
    assert "note spectrogram" in influence["score"]
    assert "note spectrogram" not in influence["free"]
    assert "aligned rhythm and energy" not in influence["paper"]
    values = [value for row in influence.values() for value in row.values()]
    assert all(value > 0 for value in values)


INFLUENCE_BOUNDS: dict[Conditioning, dict[str, float]] = {
    "score": {
        "rhythm tokens": 0.015,
        "Hawkes offsets": 0.005,
        "motion tokens": 0.003,
        "aligned rhythm and energy": 0.01,
        "chords": 0.03,
        "note spectrogram": 0.3,
        "style": 0.03,
    },
    "free": {
        "rhythm tokens": 0.15,
        "Hawkes offsets": 0.03,
        "motion tokens": 0.02,
        "aligned rhythm and energy": 0.1,
        "style": 0.1,
    },
    "paper": {
        "rhythm tokens": 0.2,
        "Hawkes offsets": 0.1,
        "motion tokens": 0.03,
        "style": 0.1,
    },
}
"""Lower bounds, a third to a half of what is measured."""


@pytest.mark.slow
@pytest.mark.parametrize("conditioning", CONDITIONINGS)
def test_every_condition_of_mini_changes_the_music(conditioning: Conditioning) -> None:
    energy = 0.5 + 0.4 * np.sin(np.arange(192) / 16)
    features = make_features(12.0, energy=energy, genre="pop")
    dance = simulate_dance(
        1, features.peaks_s, features.strengths, duration_s=12.0, energy=energy
    )
    features = replace(features, keypoints=dance.poses.keypoints)
    model = load_mini_checkpoint("mini", device=CPU)
    generator = LatentGenerator(
        model=model, device=CPU, guidance=1.0, conditioning=conditioning
    )
    influence = condition_influence.measure_influence(generator, [features])
    bounds = INFLUENCE_BOUNDS[conditioning]
    assert influence.keys() == {*bounds, condition_influence.OTHER_TAKE}
    assert {k: v for k, v in influence.items() if v < bounds.get(k, 1.0)} == {}


def test_a_video_is_made_with_a_conditioning(
    loris: RunLoris, moving_video: Path, pose_file: Path, weights: Path, tmp_path: Path
) -> None:
    options = ("--poses", pose_file, "--model", weights, "--steps", 2)
    audio = []
    for name in ("score", "paper"):
        out = tmp_path / f"{name}.wav"
        words = (*options, "--conditioning", name, "--json")
        result = loris("soundtrack", moving_video, "-o", out, *words)
        assert result.exit_code == 0, result.stderr
        assert json.loads(result.stdout)["conditioning"] == name
        audio.append(out.read_bytes())
    assert audio[0] != audio[1]


@pytest.mark.parametrize("method", [None, "score", "cmt"])
def test_a_conditioning_that_was_not_trained_is_a_usage_error(
    loris: RunLoris,
    moving_video: Path,
    pose_file: Path,
    small_model: Path,
    tmp_path: Path,
    method: str | None,
) -> None:
    out = tmp_path / "out.wav"
    arguments = ("--model", small_model) if method is None else ("--method", method)
    words = ("--poses", pose_file, "--conditioning", "paper", *arguments)
    result = loris("soundtrack", moving_video, "-o", out, *words)
    assert result.exit_code == 2
    assert "conditioning" in result.stderr
    assert not out.exists()


@pytest.mark.parametrize(
    "change", [{"conditionings": ["score", "\x1b[2J"]}, {"alignment_channels": 8, "heads": 3}]
)
def test_invalid_conditionings_of_a_checkpoint_are_rejected(
    weights: Path, tmp_path: Path, change: dict[str, object]
) -> None:
    path = tmp_path / "hostile.safetensors"
    with safe_open(weights, framework="pt") as file:
        metadata = file.metadata()
    config = json.dumps({**json.loads(metadata["loris.denoiser"]), **change})
    save_file(load_file(weights), path, {**metadata, "loris.denoiser": config})
    with pytest.raises(WeightsError):
        load_mini_checkpoint(str(path), device=CPU)


@pytest.mark.slow
def test_eval_scores_each_conditioning_as_a_system(
    loris: RunLoris, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LORIS_CACHE", str(tmp_path / "cache"))
    data = tmp_path / "data"
    write_click_dataset(data, n_clips=2)
    words = ("--split", "fe50", "--data", data, "--model", weights, "--steps", 2, "--takes", 1)
    chosen = ("--conditioning", "score", "--conditioning", "paper", "--bound", "none")
    result = loris("eval", *words, *chosen, "--no-strict", "--format", "json")
    assert result.exit_code == 0, result.stderr
    systems = json.loads(result.stdout)["systems"]
    assert [system["id"] for system in systems] == ["three", "three-paper"]
