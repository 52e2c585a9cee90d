"""``loris train export``: runs and checkpoints exported to one file in both formats."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import RunLoris
from safetensors import safe_open
from safetensors.torch import load_file
from tiny_models import TINY_AUTOENCODER, TINY_DENOISER, TINY_PAPER_CONFIG
from torch import Tensor

from loris_cli.errors import OutputError, UsageError
from loris_cli.models.checkpoint_format import checkpoint_metadata
from loris_cli.models.mel_autoencoder import MelAutoencoder
from loris_cli.models.mini_checkpoint import load_mini_checkpoint
from loris_cli.models.mini_unet import MiniDenoiser
from loris_cli.models.paper_checkpoint import (
    load_paper_model,
    save_paper_model,
    save_released_format,
)
from loris_cli.models.paper_config import PaperConfig, to_official_config
from loris_cli.models.paper_unet import PaperModel
from loris_cli.training.checkpoints import write_weights
from loris_cli.training.export import export_model

CPU = torch.device("cpu")


def make_network(seed: int = 0, config: PaperConfig = TINY_PAPER_CONFIG) -> PaperModel:
    torch.manual_seed(seed)
    return PaperModel(config)


def assert_equal_tensors(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=0)


def assert_has_weights(path: Path, network: PaperModel) -> None:
    """Compare the weights in a file with those of a network."""
    loaded = load_paper_model(path, device=CPU)
    assert loaded.config == network.config
    assert_equal_tensors(loaded.state_dict(), network.state_dict())


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Run of the paper preset, with best weights of seed 1 and last weights of seed 2."""
    run = tmp_path / "run"
    (run / "conditional").mkdir(parents=True)
    (run / "run.json").write_text(json.dumps({"schema": 2, "preset": "paper"}))
    for seed, name in ((1, "best"), (2, "last")):
        metadata = {**checkpoint_metadata("paper", paper=TINY_PAPER_CONFIG), "loris.step": "7"}
        path = run / "conditional" / f"{name}.safetensors"
        write_weights(path, make_network(seed).state_dict(), metadata)
    return run


@pytest.mark.parametrize(
    ("seed", "options"),
    [pytest.param(1, (), id="best"), pytest.param(2, ("--weights", "last"), id="last")],
)
def test_best_or_last_weights_of_a_run_are_exported(
    run: Path, tmp_path: Path, loris: RunLoris, seed: int, options: tuple[str, ...]
) -> None:
    out = tmp_path / "a.safetensors"
    result = loris("train", "export", run, "-o", out, *options)
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"{out}\n", "")
    assert_has_weights(out, make_network(seed))


def test_last_weights_of_an_unvalidated_run_are_exported_with_a_warning(
    run: Path, tmp_path: Path
) -> None:
    (run / "conditional" / "best.safetensors").unlink()
    warnings: list[str] = []
    export_model(run, tmp_path / "a.safetensors", warn=warnings.append)
    assert_has_weights(tmp_path / "a.safetensors", make_network(2))
    [warning] = warnings
    assert str(run) in warning


def write_mini_run(folder: Path, statistics: dict[str, Tensor]) -> MiniDenoiser:
    """Write a run of the mini preset with these latent statistics; return its denoiser."""
    torch.manual_seed(0)
    autoencoder = MelAutoencoder(TINY_AUTOENCODER)
    denoiser = MiniDenoiser(TINY_DENOISER)
    for stage in ("latent", "conditional"):
        (folder / stage).mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"schema": 2, "preset": "mini"}))
    metadata = {"loris.coder": json.dumps(autoencoder.config.__dict__)}
    write_weights(folder / "latent" / "best.safetensors", autoencoder.state_dict(), metadata)
    metadata = {"loris.denoiser": json.dumps(TINY_DENOISER.__dict__)}
    write_weights(folder / "conditional" / "best.safetensors", denoiser.state_dict(), metadata)
    write_weights(folder / "latents.safetensors", statistics, {})
    return denoiser


def test_exported_mini_run_has_denoiser_and_latent_statistics(tmp_path: Path) -> None:
    run = tmp_path / "run"
    statistics = {"mean": torch.full((32, 1), 0.25), "std": torch.full((32, 1), 2.0)}
    denoiser = write_mini_run(run, statistics)

    export_model(run, tmp_path / "mine.safetensors")

    model = load_mini_checkpoint(str(tmp_path / "mine.safetensors"), device=CPU)
    assert model.denoiser.config == TINY_DENOISER
    assert torch.equal(model.autoencoder.code_mean, statistics["mean"])
    assert torch.equal(model.autoencoder.code_std, statistics["std"])
    state = model.denoiser.state_dict()
    for key, value in denoiser.state_dict().items():
        # Stored in 8 bits.
        torch.testing.assert_close(
            state[key], value, atol=0.005 * float(value.abs().max()), rtol=0
        )
    export_model(tmp_path / "mine.safetensors", tmp_path / "copy.safetensors")
    assert_equal_tensors(
        load_file(tmp_path / "copy.safetensors"), load_file(tmp_path / "mine.safetensors")
    )


def test_mini_run_cannot_be_exported_to_the_official_format(tmp_path: Path) -> None:
    statistics = {"mean": torch.zeros(32, 1), "std": torch.ones(32, 1)}
    write_mini_run(tmp_path / "run", statistics)
    with pytest.raises(UsageError, match="official"):
        export_model(tmp_path / "run", tmp_path / "a.pt", export_format="official")
    assert not (tmp_path / "a.pt").exists()


@pytest.mark.parametrize("n_genres", [0, 10])
def test_released_checkpoint_is_bit_identical_after_a_round_trip(
    tmp_path: Path, n_genres: int, loris: RunLoris
) -> None:
    released, safetensors_path, released_copy = (
        tmp_path / name for name in ("loris.pt", "a.safetensors", "b.pt")
    )
    config = to_official_config(replace(TINY_PAPER_CONFIG, n_genres=n_genres))
    save_released_format(released, make_network(config=config))

    result = loris("train", "export", released, "-o", safetensors_path)
    assert (result.exit_code, result.stderr) == (0, "")
    result = loris(
        "train", "export", safetensors_path, "-o", released_copy, "--format", "official"
    )
    assert (result.exit_code, result.stderr) == (0, "")

    assert load_paper_model(safetensors_path, device=CPU).config == config
    with safe_open(safetensors_path, framework="pt") as file:
        assert len(file.metadata()["loris.source"]) == 64
    original, copy = (torch.load(path, weights_only=True) for path in (released, released_copy))
    assert list(copy) == list(original)
    assert_equal_tensors(copy, original)
    assert "module.cond_diffusion.diffusion.net.to_time.0.0.weights" in copy


def test_settings_lost_in_the_official_format_give_a_warning(run: Path, tmp_path: Path) -> None:
    warnings: list[str] = []
    export_model(run, tmp_path / "a.pt", export_format="official", warn=warnings.append)
    [warning] = warnings
    assert "hawkes_phase 'interval'" in warning
    config = load_paper_model(tmp_path / "a.pt", device=CPU).config
    assert config == to_official_config(TINY_PAPER_CONFIG)


@pytest.mark.parametrize(
    "overrides",
    [
        {"visual_projection": "none", "motion_encoder": True},
        {"visual_projection": "linear"},
        {"rhythm_conditioning": "none"},
        {"shared_rhythm_encoder": True},
        {"aligned_rhythm": True},
        {"hawkes_phase": "none"},
        {"positional_encoding": False},
        {"head_features": 32},
    ],
    ids=lambda overrides: ",".join(f"{name}={value}" for name, value in overrides.items()),
)
def test_official_format_rejects_networks_with_unsupported_settings(
    tmp_path: Path, overrides: dict[str, Any]
) -> None:
    path = tmp_path / "a.safetensors"
    save_paper_model(path, make_network(config=replace(TINY_PAPER_CONFIG, **overrides)))
    expected = ", ".join(f"{name} {value!r}" for name, value in overrides.items())
    with pytest.raises(UsageError, match=expected):
        export_model(path, tmp_path / "a.pt", export_format="official")
    assert not (tmp_path / "a.pt").exists()


def test_existing_file_is_replaced_only_with_overwrite(
    run: Path, tmp_path: Path, loris: RunLoris
) -> None:
    out = tmp_path / "a.safetensors"
    out.write_text("mine")
    result = loris("train", "export", run, "-o", out)
    assert result.exit_code == 2
    assert str(out) in result.stderr
    assert out.read_text() == "mine"
    assert loris("train", "export", run, "-o", out, "--overwrite").exit_code == 0
    assert_has_weights(out, make_network(1))


def test_existing_file_is_unchanged_after_a_write_error(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "a.pt"
    out.write_text("mine")

    def fail_after_partial_write(state: object, path: Path) -> None:
        path.write_bytes(b"incomplete")
        raise RuntimeError("PytorchStreamWriter failed writing file data.pkl")

    monkeypatch.setattr(torch, "save", fail_after_partial_write)
    with pytest.raises(OutputError, match=r"a\.pt"):
        export_model(run, out, export_format="official", overwrite=True)
    assert out.read_text() == "mine"
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("arguments", "exit_code", "value"),
    [
        (["export", "missing", "-o", "a.safetensors"], 4, "missing"),
        (["export", "empty", "-o", "a.safetensors"], 4, "empty/run.json"),
        (["export", "old", "-o", "a.safetensors"], 4, "schema 1"),
        (["export", "new", "-o", "a.safetensors"], 4, "conditional"),
        (["export", "junk.pt", "-o", "a.safetensors"], 3, "junk.pt"),
        (["export", "junk.safetensors", "-o", "a.safetensors"], 3, "junk.safetensors"),
        (["export", "junk.pt"], 2, "--out"),
        (["export", "junk.pt", "-o", "junk.pt", "--format", "official"], 2, "junk.pt"),
        (["export", "junk.pt", "-o", "a.pt"], 2, ".safetensors"),
        (["export", "junk.pt", "-o", "a.safetensors", "--format", "official"], 2, ".pth"),
        (["export", "junk.pt", "-o", "no-such/a.safetensors"], 2, "no-such"),
        (["export", "junk.pt", "-o", "a.safetensors", "--set", "batch_size=2"], 2, "--set"),
        (["--set", "batch_size=2", "export", "junk.pt", "-o", "a.safetensors"], 2, "--set"),
        (["--overwrite"], 2, "--overwrite"),
    ],
)
def test_invalid_export_arguments_are_rejected(
    tmp_path: Path,
    loris: RunLoris,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    exit_code: int,
    value: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "new").mkdir()
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "run.json").write_text('{"preset": "mini"}')
    (tmp_path / "new" / "run.json").write_text('{"schema": 2, "preset": "mini"}')
    for name in ("junk.pt", "junk.safetensors"):
        (tmp_path / name).write_text("junk")
    result = loris("train", *arguments)
    assert result.exit_code == exit_code, result.stderr
    assert value in result.stderr
    assert not list(tmp_path.rglob("a.*"))
    assert (tmp_path / "junk.pt").read_text() == "junk"
