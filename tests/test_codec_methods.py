"""Training of the VQ-VAE, and of D2M-GAN and CDCD on its codes, through the commands."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click_dataset import write_click_dataset
from conftest import RunLoris
from safetensors.torch import load_file
from test_baseline_windows import make_features
from test_learned_methods import data  # noqa: F401
from tiny_models import TINY_CDCD, TINY_CODEC, TINY_D2MGAN

from loris_cli.baselines import learned_methods
from loris_cli.baselines.cdcd.method import CDCD
from loris_cli.baselines.cdcd.network import CdcdNetwork
from loris_cli.baselines.clip_codes import reconstruct_clip
from loris_cli.baselines.d2mgan.method import D2MGAN
from loris_cli.baselines.d2mgan.networks import D2mGanNetwork
from loris_cli.baselines.learned_checkpoint import load_learned_model
from loris_cli.baselines.vqvae_method import VQVAE
from loris_cli.models.vqvae import VqVae

TINY_VQVAE_METHOD = replace(VQVAE, configs={"compact": TINY_CODEC, "full": TINY_CODEC})
TINY_D2MGAN_METHOD = replace(D2MGAN, configs={"compact": TINY_D2MGAN, "full": TINY_D2MGAN})
TINY_CDCD_METHOD = replace(CDCD, configs={"compact": TINY_CDCD, "full": TINY_CDCD})


@pytest.fixture(autouse=True)
def tiny_methods(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("vqvae", "d2mgan", "cdcd"):
        value = f"{__name__}:TINY_{name.upper()}_METHOD"
        monkeypatch.setitem(learned_methods.METHOD_OBJECTS, name, value)


def train(
    loris: RunLoris, data_dir: Path, out: Path, method: str, *options: str | Path, steps: int
) -> Path:
    """Train a method and return its weights file."""
    result = loris(
        "train", "--data", data_dir, "--split", "clicks", "--method", method, "-o", out,
        "--set", f"steps={steps}", "--set", "batch_size=2", "--set", "validation_clips=1",
        "--set", "validation_samples=0", *options,
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    return out / f"{method}.safetensors"


@pytest.mark.slow
@pytest.mark.parametrize("compat", ["paper", "official"])
def test_d2mgan_is_trained_on_the_codes_of_a_trained_vqvae(
    loris: RunLoris,
    data: Path,  # noqa: F811
    tmp_path: Path,
    compat: str,
) -> None:
    options = "--compat", compat
    codec = train(loris, data, tmp_path / "vqvae", "vqvae", *options, steps=3)
    path = train(
        loris, data, tmp_path / "d2mgan", "d2mgan", *options, "--codec", codec, steps=3
    )
    model = load_learned_model("d2mgan", path, device=torch.device("cpu"))
    assert model.codec is not None
    assert isinstance(model.network, D2mGanNetwork)
    assert model.network.config.compat == compat
    assert D2MGAN.build_generator is not None
    generator = D2MGAN.build_generator(model.network, model.codec, torch.device("cpu"))
    blocks = generator.generate(make_features(1), seed=0, progress=lambda done, total: None)
    samples = np.concatenate(list(blocks), axis=1)
    assert samples.shape == (1, 22_050)
    assert samples.any()


@pytest.mark.slow
def test_eval_shows_the_loss_of_the_codec_as_a_ceiling(
    loris: RunLoris,
    data: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    codec = train(loris, data, tmp_path / "vqvae", "vqvae", steps=3)
    path = train(loris, data, tmp_path / "d2mgan", "d2mgan", "--codec", codec, steps=1)
    write_click_dataset(tmp_path / "clips", n_clips=2)
    options = (
        "eval", "--data", tmp_path / "clips", "--split", "fe50", "--takes", 1, "--no-strict",
        "--bound", "vqvae_reconstruction", "--format", "json", "--jobs", 1,
    )  # fmt: skip

    report = json.loads(loris(*options, "--model", path).stdout)
    systems = {row["id"]: row for row in report["systems"]}
    assert systems["d2mgan"]["n"] == 2
    assert systems["vqvae_reconstruction"]["category"] == "ceiling"
    report = json.loads(loris(*options, "--model", "none", "--method", "drums").stdout)
    assert "d2mgan or cdcd" in report["unavailable"]["vqvae_reconstruction"]


def test_a_clip_reconstructed_in_blocks_equals_the_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(0)
    codec = VqVae(TINY_CODEC).eval()
    codec.quantizer.codebook.normal_()
    samples = np.random.default_rng(0).uniform(-1, 1, 5_000).astype(np.float32)
    whole = codec.decode_codes(codec.encode(torch.from_numpy(samples)[None]))[0, :5_000]
    monkeypatch.setattr("loris_cli.baselines.clip_codes.BLOCK_FRAMES", 7)
    reconstructed = reconstruct_clip(codec, samples)
    np.testing.assert_allclose(reconstructed, whole.detach().numpy(), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("compat", ["paper", "official"])
def test_resumed_training_of_cdcd_is_bit_identical(
    loris: RunLoris,
    data: Path,  # noqa: F811
    tmp_path: Path,
    compat: str,
) -> None:
    codec = train(loris, data, tmp_path / "vqvae", "vqvae", steps=3)
    options = "--compat", compat, "--codec", codec
    train(loris, data, tmp_path / "once", "cdcd", *options, steps=6)
    train(loris, data, tmp_path / "twice", "cdcd", *options, steps=3)
    path = train(loris, data, tmp_path / "twice", "cdcd", *options, steps=6)

    once, twice = (
        load_file(tmp_path / name / "conditional" / "last.safetensors")
        for name in ("once", "twice")
    )
    assert once.keys() == twice.keys()
    assert all(torch.equal(once[name], twice[name]) for name in once)

    model = load_learned_model("cdcd", path, device=torch.device("cpu"))
    assert isinstance(model.network, CdcdNetwork)
    assert model.network.config.compat == compat
    assert CDCD.build_generator is not None
    generator = CDCD.build_generator(model.network, model.codec, torch.device("cpu"))
    blocks = generator.generate(make_features(1), seed=0, progress=lambda done, total: None)
    samples = np.concatenate(list(blocks), axis=1)
    assert samples.shape == (1, 22_050)
    assert samples.any()
