"""The form of released checkpoints, at a small size."""

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
SIZES = replace(TINY_PAPER_CONFIG, visual_features=16, n_visual_frames=6, n_pose_frames=12)
State = dict[str, Tensor]


def model(config: PaperConfig = SIZES) -> PaperModel:
    torch.manual_seed(0)
    return PaperModel(config)


def same(one: PaperModel, other: PaperModel) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("n_genres", [0, 10])
@pytest.mark.parametrize("lengths", [(6, 12), (100, 800)])
def test_lengths_genre_and_reading_of_a_released_file_are_found(
    tmp_path: Path, n_genres: int, lengths: tuple[int, int]
) -> None:
    config = replace(
        SIZES, n_genres=n_genres, n_visual_frames=lengths[0], n_pose_frames=lengths[1]
    )
    made = model(config)
    save_released_format(tmp_path / "loris.pt", made)

    loaded = load_paper_model(tmp_path / "loris.pt", device=CPU)

    assert loaded.config == to_official_config(config)
    assert same(made, loaded)
    assert not loaded.training


def test_the_released_form_is_prefixed_and_has_the_unet_twice_at_once_the_size(
    tmp_path: Path,
) -> None:
    save_released_format(tmp_path / "loris.pt", model())
    state = torch.load(tmp_path / "loris.pt", weights_only=True)

    assert all(key.startswith("module.") for key in state)
    unet = [key for key in state if key.startswith("module.cond_diffusion.unet.")]
    twice = [key for key in state if key.startswith("module.cond_diffusion.diffusion.net.")]
    assert len(unet) == len(twice) > 0
    once = sum(value.nbytes for key, value in state.items() if key not in twice)
    assert (tmp_path / "loris.pt").stat().st_size < 1.3 * once + 300_000


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("keep", ["both", "unet", "net"])
def test_with_or_without_prefix_and_copy(tmp_path: Path, prefix: str, keep: str) -> None:
    made = model()
    save_released_format(tmp_path / "all.pt", made)
    state: State = torch.load(tmp_path / "all.pt", weights_only=True)
    left = {"unet": "cond_diffusion.diffusion.net.", "net": "cond_diffusion.unet."}.get(keep)
    state = {
        prefix + key.removeprefix("module."): value
        for key, value in state.items()
        if left is None or left not in key
    }
    torch.save(state, tmp_path / "some.pt")
    assert same(made, load_paper_model(tmp_path / "some.pt", device=CPU))


def test_ours_brings_its_own_sizes_and_reading(tmp_path: Path) -> None:
    made = model(replace(SIZES, n_genres=10, hawkes_phase="kernel"))
    save_paper_model(tmp_path / "ours.safetensors", made)
    loaded = load_paper_model(tmp_path / "ours.safetensors", device=CPU)
    assert loaded.config == made.config
    assert same(made, loaded)


def drop(state: State) -> None:
    for key in [key for key in state if "cond_lin" in key]:
        del state[key]


def widen(state: State) -> None:
    state["module.cond_lin.weight"] = torch.zeros(16, 17)


def spoil(state: State) -> None:
    state["module.cond_lin.weight"][0, 0] = torch.nan


def fork(state: State) -> None:
    key = next(key for key in state if "diffusion.net" in key and "weight" in key)
    state[key] = state[key] + 1


def strip(state: State) -> None:
    for key in [key for key in state if "fixed_" in key]:
        del state[key]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop, r"lacks or adds 2 tensors: 'cond_lin\.bias', 'cond_lin\.weight'"),
        (widen, r"'cond_lin\.weight' has shape \(16, 17\), not \(16, 16\)"),
        (spoil, r"'cond_lin\.weight' holds values that are not finite"),
        (fork, "two U-Nets that differ"),
        (strip, "is not of LORIS: it lacks 'cond_diffusion.unet.fixed_"),
    ],
)
def test_what_does_not_fit_is_named(
    tmp_path: Path, change: Callable[[State], None], message: str
) -> None:
    save_released_format(tmp_path / "loris.pt", model())
    state: State = torch.load(tmp_path / "loris.pt", weights_only=True)
    change(state)
    torch.save(state, tmp_path / "loris.pt")
    with pytest.raises(WeightsError, match=message):
        load_paper_model(tmp_path / "loris.pt", device=CPU)


def test_a_pickled_module_is_refused_unopened_with_the_way_out(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (os.mkdir, (str(tmp_path / "sprung"),))

    torch.save({"model": Trap()}, tmp_path / "whole.pt")
    with pytest.raises(WeightsError, match="could run code") as caught:
        load_paper_model(tmp_path / "whole.pt", device=CPU)
    assert "state_dict()" in caught.value.hint
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("content", [b"", b"no checkpoint", pickle.dumps([1, 2])])
def test_what_is_no_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(WeightsError):
        load_paper_model(tmp_path / "a.pt", device=CPU)


def test_another_models_safetensors_are_refused(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors", {"loris.kind": "mini"})
    with pytest.raises(WeightsError, match="not a paper model"):
        load_paper_model(tmp_path / "a.safetensors", device=CPU)


def test_what_torch_never_saved_is_refused_in_words_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    path.write_text("junk\n")

    with pytest.raises(WeightsError, match=r"weights\.pt is not a checkpoint$"):
        read_state_dict(path, hint="give another")


def old_form(path: Path) -> PaperModel:
    """A network as torch before 1.6 would have saved it."""
    made = model()
    state = {f"module.{key}": value for key, value in made.state_dict().items()}
    torch.save(state, path, _use_new_zipfile_serialization=False)
    return made


@pytest.mark.parametrize("name", ["old.pt", "old.bin"])
def test_a_file_that_torch_wrote_before_it_zipped_is_read_whatever_its_name(
    tmp_path: Path, name: str
) -> None:
    made = old_form(tmp_path / name)

    assert detect_preset(str(tmp_path / name)) == "paper"
    assert same(made, load_paper_model(tmp_path / name, device=CPU))
