"""``loris train export``: a run or a checkpoint as one file, without a data set."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import RunLoris
from safetensors import safe_open
from safetensors.torch import load_file
from tiny_models import TINY_AUTOENCODER, TINY_DENOISER, TINY_PAPER_CONFIG

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
SIZES = replace(TINY_PAPER_CONFIG, visual_features=16, n_visual_frames=6, n_pose_frames=48)


def network(seed: int = 0, config: PaperConfig = SIZES) -> PaperModel:
    torch.manual_seed(seed)
    return PaperModel(config)


def have_equal_weights(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of the paper preset: its best weights are seed 1's, its last seed 2's."""
    run = tmp_path / "run"
    (run / "conditional").mkdir(parents=True)
    (run / "run.json").write_text(json.dumps({"schema": 2, "preset": "paper"}))
    for seed, name in ((1, "best"), (2, "last")):
        metadata = {**checkpoint_metadata("paper", paper=SIZES), "loris.step": "7"}
        path = run / "conditional" / f"{name}.safetensors"
        write_weights(path, network(seed).state_dict(), metadata)
    return run


def test_a_run_gives_its_best_weights_or_its_last(
    run: Path, tmp_path: Path, loris: RunLoris
) -> None:
    for seed, options in ((1, ()), (2, ("--weights", "last"))):
        out = tmp_path / f"{seed}.safetensors"
        result = loris("train", "export", run, "-o", out, *options)
        assert (result.exit_code, result.stdout, result.stderr) == (0, f"{out}\n", "")
        loaded = load_paper_model(out, device=CPU)
        assert loaded.config == SIZES
        assert have_equal_weights(loaded, network(seed))


def test_a_run_never_validated_gives_its_last_and_says_so(run: Path, tmp_path: Path) -> None:
    (run / "conditional" / "best.safetensors").unlink()
    warnings: list[str] = []
    export_model(run, tmp_path / "a.safetensors", warn=warnings.append)
    assert have_equal_weights(
        load_paper_model(tmp_path / "a.safetensors", device=CPU), network(2)
    )
    assert "was not validated yet" in warnings[0]


def test_a_run_of_mini_brings_its_latent_and_the_statistics_of_its_codes(
    tmp_path: Path,
) -> None:
    torch.manual_seed(0)
    coder = MelAutoencoder(TINY_AUTOENCODER)
    denoiser = MiniDenoiser(TINY_DENOISER)
    run = tmp_path / "run"
    for stage in ("latent", "conditional"):
        (run / stage).mkdir(parents=True)
    (run / "run.json").write_text(json.dumps({"schema": 2, "preset": "mini"}))
    metadata = {"loris.coder": json.dumps(coder.config.__dict__)}
    write_weights(run / "latent" / "best.safetensors", coder.state_dict(), metadata)
    metadata = {"loris.denoiser": json.dumps(TINY_DENOISER.__dict__)}
    write_weights(run / "conditional" / "best.safetensors", denoiser.state_dict(), metadata)
    statistics = {"mean": torch.full((32, 1), 0.25), "std": torch.full((32, 1), 2.0)}
    write_weights(run / "latents.safetensors", statistics, {})

    export_model(run, tmp_path / "mine.safetensors")

    model = load_mini_checkpoint(str(tmp_path / "mine.safetensors"), device=CPU)
    assert model.denoiser.config == TINY_DENOISER
    assert torch.equal(model.autoencoder.code_mean, statistics["mean"])
    assert torch.equal(model.autoencoder.code_std, statistics["std"])
    state = model.denoiser.state_dict()
    for key, value in denoiser.state_dict().items():
        torch.testing.assert_close(state[key], value, atol=1e-3, rtol=1e-3)  # in half precision
    export_model(tmp_path / "mine.safetensors", tmp_path / "again.safetensors")
    one, other = (load_file(tmp_path / f"{n}.safetensors") for n in ("mine", "again"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)
    with pytest.raises(UsageError, match="the released format cannot hold"):
        export_model(run, tmp_path / "a.pt", export_format="official")


@pytest.mark.parametrize("n_genres", [0, 10])
def test_a_released_checkpoint_goes_to_ours_and_back_to_the_bit(
    tmp_path: Path, n_genres: int, loris: RunLoris
) -> None:
    first, safetensors_path, released_copy = (
        tmp_path / "loris.pt",
        tmp_path / "a.safetensors",
        tmp_path / "b.pt",
    )
    config = to_official_config(replace(SIZES, n_genres=n_genres))
    save_released_format(first, network(config=config))

    result = loris("train", "export", first, "-o", safetensors_path)
    assert (result.exit_code, result.stderr) == (0, "")
    result = loris(
        "train", "export", safetensors_path, "-o", released_copy, "--format", "official"
    )
    assert (result.exit_code, result.stderr) == (0, "")

    assert load_paper_model(safetensors_path, device=CPU).config == config
    with safe_open(safetensors_path, framework="pt") as file:
        assert len(file.metadata()["loris.source"]) == 64
    one, other = (torch.load(path, weights_only=True) for path in (first, released_copy))
    assert list(one) == list(other)
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert "module.cond_diffusion.diffusion.net.to_time.0.0.weights" in other


def test_a_reading_that_the_authors_form_loses_is_told_of(run: Path, tmp_path: Path) -> None:
    warnings: list[str] = []
    export_model(run, tmp_path / "a.pt", export_format="official", warn=warnings.append)
    assert "hawkes_phase 'interval'" in warnings[0]
    assert load_paper_model(tmp_path / "a.pt", device=CPU).config == to_official_config(SIZES)


@pytest.mark.parametrize(
    "change",
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
)
def test_a_network_that_the_authors_form_cannot_hold_is_refused(
    tmp_path: Path, change: dict[str, object]
) -> None:
    path = tmp_path / "a.safetensors"
    save_paper_model(path, network(config=replace(SIZES, **change)))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=f"cannot hold: .*{next(iter(change))}"):
        export_model(path, tmp_path / "a.pt", export_format="official")
    assert not (tmp_path / "a.pt").exists()


def test_a_file_that_exists_is_replaced_only_when_asked(
    run: Path, tmp_path: Path, loris: RunLoris
) -> None:
    out = tmp_path / "a.safetensors"
    out.write_text("mine")
    result = loris("train", "export", run, "-o", out)
    assert result.exit_code == 2
    assert "exists" in result.stderr
    assert out.read_text() == "mine"
    assert loris("train", "export", run, "-o", out, "--overwrite").exit_code == 0
    assert have_equal_weights(load_paper_model(out, device=CPU), network(1))


def test_a_full_disk_leaves_the_older_file(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "a.pt"
    out.write_text("mine")

    def full(state: object, path: Path) -> None:
        path.write_bytes(b"half of it")
        raise RuntimeError("PytorchStreamWriter failed writing file data.pkl")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OutputError, match="cannot be written"):
        export_model(run, out, export_format="official", overwrite=True)
    assert out.read_text() == "mine"
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["export", "nothing", "-o", "a.safetensors"], 4, "no run and no checkpoint"),
        (["export", "empty", "-o", "a.safetensors"], 4, "empty/run.json cannot be read"),
        (["export", "old", "-o", "a.safetensors"], 4, "has run schema 1, not 2"),
        (["export", "new", "-o", "a.safetensors"], 4, "no weights of its conditional"),
        (["export", "junk.pt", "-o", "a.safetensors"], 3, "is not a checkpoint"),
        (["export", "junk.safetensors", "-o", "a.safetensors"], 3, "is not a safetensors"),
        (["export", "junk.pt"], 2, "--out"),
        (["export", "junk.pt", "-o", "junk.pt", "--format", "official"], 2, "input itself"),
        (["export", "junk.pt", "-o", "a.pt"], 2, "no format .pt"),
        (["export", "junk.pt", "-o", "a.safetensors", "--format", "official"], 2, "no format"),
        (["export", "junk.pt", "-o", "no/a.safetensors"], 2, "does not exist"),
        (["export", "junk.pt", "-o", "a.safetensors", "--set", "batch_size=2"], 2, "--set"),
        (["--set", "batch_size=2", "export", "junk.pt", "-o", "a.safetensors"], 2, "--set"),
        (["--overwrite"], 2, "--overwrite"),
    ],
)
def test_what_cannot_be_exported_is_refused(
    tmp_path: Path,
    loris: RunLoris,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    message: str,
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
    assert result.exit_code == code, result.stderr
    assert message in result.stderr
    assert not list(tmp_path.glob("a.*"))
