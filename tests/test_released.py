"""Checkpoints of the paper's network in the released format, at a small size."""

import os
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tiny_models import TINY_PAPER_CONFIG
from torch import Tensor

from loris_cli.errors import WeightsError
from loris_cli.models.load_model import detect_preset
from loris_cli.models.paper_checkpoint import (
    load_paper_model,
    save_paper_model,
    save_released_format,
)
from loris_cli.models.paper_config import PaperConfig, to_official_config
from loris_cli.models.paper_unet import PaperModel
from loris_cli.system.state_dict_files import read_state_dict

CPU = torch.device("cpu")
CONFIG = replace(TINY_PAPER_CONFIG, n_visual_frames=6, n_pose_frames=12)
State = dict[str, Tensor]


def make_model(config: PaperConfig = CONFIG) -> PaperModel:
    torch.manual_seed(0)
    return PaperModel(config)


def have_same_weights(first: PaperModel, second: PaperModel) -> bool:
    a, b = first.state_dict(), second.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("n_genres", [0, 10])
@pytest.mark.parametrize("lengths", [(6, 12), (100, 800)], ids=["6-12", "100-800"])
def test_config_is_inferred_from_a_released_checkpoint(
    tmp_path: Path, n_genres: int, lengths: tuple[int, int]
) -> None:
    config = replace(
        CONFIG, n_genres=n_genres, n_visual_frames=lengths[0], n_pose_frames=lengths[1]
    )
    model = make_model(config)
    save_released_format(tmp_path / "loris.pt", model)

    loaded = load_paper_model(tmp_path / "loris.pt", device=CPU)

    assert loaded.config == to_official_config(config)
    assert have_same_weights(model, loaded)
    assert not loaded.training


def test_released_format_names_the_unet_twice_but_stores_one_copy(tmp_path: Path) -> None:
    save_released_format(tmp_path / "loris.pt", make_model())
    state = torch.load(tmp_path / "loris.pt", weights_only=True)

    assert all(key.startswith("module.") for key in state)
    unet_prefix, copy_prefix = (
        "module.cond_diffusion.unet.",
        "module.cond_diffusion.diffusion.net.",
    )
    unet = {key.removeprefix(unet_prefix) for key in state if key.startswith(unet_prefix)}
    copy = {key.removeprefix(copy_prefix) for key in state if key.startswith(copy_prefix)}
    assert unet == copy
    n_bytes = sum(
        value.nbytes for key, value in state.items() if not key.startswith(copy_prefix)
    )
    assert (tmp_path / "loris.pt").stat().st_size < 1.3 * n_bytes + 300_000


@pytest.mark.parametrize("prefix", ["", "module."], ids=["no-prefix", "prefix"])
@pytest.mark.parametrize(
    "dropped",
    ["none", "cond_diffusion.diffusion.net.", "cond_diffusion.unet."],
    ids=["both-unets", "first-unet", "second-unet"],
)
def test_prefix_and_second_unet_are_optional(tmp_path: Path, prefix: str, dropped: str) -> None:
    model = make_model()
    save_released_format(tmp_path / "all.pt", model)
    state: State = torch.load(tmp_path / "all.pt", weights_only=True)
    state = {
        prefix + key.removeprefix("module."): value
        for key, value in state.items()
        if dropped not in key
    }
    torch.save(state, tmp_path / "some.pt")
    assert have_same_weights(model, load_paper_model(tmp_path / "some.pt", device=CPU))


def test_loris_checkpoint_keeps_its_config(tmp_path: Path) -> None:
    model = make_model(replace(CONFIG, n_genres=10, hawkes_phase="kernel"))
    save_paper_model(tmp_path / "loris.safetensors", model)
    loaded = load_paper_model(tmp_path / "loris.safetensors", device=CPU)
    assert loaded.config == model.config
    assert have_same_weights(model, loaded)


def drop_tensors(state: State) -> None:
    for key in [key for key in state if "cond_lin" in key]:
        del state[key]


def change_shape(state: State) -> None:
    state["module.cond_lin.weight"] = torch.zeros(16, 17)


def insert_nan(state: State) -> None:
    state["module.cond_lin.weight"][0, 0] = torch.nan


def change_second_unet(state: State) -> None:
    key = next(key for key in state if "diffusion.net" in key and "weight" in key)
    state[key] = state[key] + 1


def drop_conditioning(state: State) -> None:
    for key in [key for key in state if "fixed_" in key]:
        del state[key]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop_tensors, r"\b2\b.*'cond_lin\.bias', 'cond_lin\.weight'"),
        (change_shape, r"'cond_lin\.weight'.*\(16, 17\).*\(16, 16\)"),
        (insert_nan, r"'cond_lin\.weight'.*NaN"),
        (change_second_unet, r"'cond_diffusion\.diffusion\.net\..*weight'"),
        (drop_conditioning, r"'cond_diffusion\.unet\.fixed_"),
    ],
    ids=["missing", "shape", "nan", "different-unets", "unconditional"],
)
def test_invalid_state_dict_is_rejected_with_its_tensors(
    tmp_path: Path, change: Callable[[State], None], message: str
) -> None:
    save_released_format(tmp_path / "loris.pt", make_model())
    state: State = torch.load(tmp_path / "loris.pt", weights_only=True)
    change(state)
    torch.save(state, tmp_path / "loris.pt")
    with pytest.raises(WeightsError, match=rf"loris\.pt.*{message}"):
        load_paper_model(tmp_path / "loris.pt", device=CPU)


def test_pickled_module_is_rejected_without_running_its_code(tmp_path: Path) -> None:
    class WriteFolder:
        def __reduce__(self) -> tuple[Any, ...]:
            return (os.mkdir, (str(tmp_path / "created"),))

    torch.save({"model": WriteFolder()}, tmp_path / "module.pt")
    with pytest.raises(WeightsError, match=r"module\.pt") as caught:
        load_paper_model(tmp_path / "module.pt", device=CPU)
    assert "torch.save(model.state_dict(), FILE)" in caught.value.hint
    assert not (tmp_path / "created").exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"no checkpoint", pickle.dumps([1, 2])],
    ids=["empty", "text", "pickled-list"],
)
def test_file_that_is_not_a_checkpoint_is_rejected(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(WeightsError, match=r"a\.pt"):
        load_paper_model(tmp_path / "a.pt", device=CPU)


def test_safetensors_of_another_preset_are_rejected(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors", {"loris.kind": "mini"})
    with pytest.raises(WeightsError, match=r"a\.safetensors.*\bpaper\b"):
        load_paper_model(tmp_path / "a.safetensors", device=CPU)


def test_error_for_a_text_file_omits_the_message_of_torch(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    path.write_text("junk\n")

    with pytest.raises(WeightsError) as caught:
        read_state_dict(path, hint="pass another file")

    assert str(path) in str(caught.value)
    assert str(caught.value.__cause__) not in str(caught.value)
    assert caught.value.hint == "pass another file"


@pytest.mark.parametrize("name", ["old.pt", "old.bin"])
def test_checkpoint_in_the_format_before_torch_1_6_is_loaded(tmp_path: Path, name: str) -> None:
    model = make_model()
    state = {f"module.{key}": value for key, value in model.state_dict().items()}
    torch.save(state, tmp_path / name, _use_new_zipfile_serialization=False)

    assert detect_preset(str(tmp_path / name)) == "paper"
    assert have_same_weights(model, load_paper_model(tmp_path / name, device=CPU))
