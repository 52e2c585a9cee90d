"""Training of the VQ-VAE and of D2M-GAN on its codes, through the commands."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import RunLoris
from test_baseline_windows import make_features
from test_learned_methods import data  # noqa: F401
from tiny_models import TINY_CODEC, TINY_D2MGAN

from loris_cli.baselines import learned_methods
from loris_cli.baselines.d2mgan.method import D2MGAN
from loris_cli.baselines.d2mgan.networks import D2mGanNetwork
from loris_cli.baselines.learned_checkpoint import load_learned_model
from loris_cli.baselines.vqvae_method import VQVAE

TINY_VQVAE_METHOD = replace(VQVAE, configs={"compact": TINY_CODEC, "full": TINY_CODEC})
TINY_D2MGAN_METHOD = replace(D2MGAN, configs={"compact": TINY_D2MGAN, "full": TINY_D2MGAN})


@pytest.fixture(autouse=True)
def tiny_methods(monkeypatch: pytest.MonkeyPatch) -> None:
    objects = {"vqvae": "TINY_VQVAE_METHOD", "d2mgan": "TINY_D2MGAN_METHOD"}
    for name, value in objects.items():
        monkeypatch.setitem(learned_methods.METHOD_OBJECTS, name, f"{__name__}:{value}")


@pytest.mark.slow
@pytest.mark.parametrize("compat", ["paper", "official"])
def test_d2mgan_is_trained_on_the_codes_of_a_trained_vqvae(
    loris: RunLoris,
    data: Path,  # noqa: F811
    tmp_path: Path,
    compat: str,
) -> None:
    for method, *options in (
        ("vqvae",),
        ("d2mgan", "--codec", tmp_path / "vqvae" / "vqvae.safetensors"),
    ):
        result = loris(
            "train", "--data", data, "--split", "clicks", "--method", method,
            "--compat", compat, "-o", tmp_path / method, "--set", "steps=3",
            "--set", "batch_size=2", "--set", "validation_clips=1",
            "--set", "validation_samples=0", *options,
        )  # fmt: skip
        assert result.exit_code == 0, result.stderr
    path = tmp_path / "d2mgan" / "d2mgan.safetensors"
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
