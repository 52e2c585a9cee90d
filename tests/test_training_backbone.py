"""Learning rates of the parameters of a pretrained backbone and of new layers."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from builders import make_clip, write_clip
from tiny_models import TINY_DENOISER, TINY_PAPER_CONFIG

from loris_cli.models.mini_unet import MiniDenoiser
from loris_cli.models.paper_unet import PaperModel
from loris_cli.training.checkpoints import write_weights
from loris_cli.training.datasets import TrainingClips
from loris_cli.training.lr_schedule import build_parameter_groups, compute_lr
from loris_cli.training.mini_weights import list_backbone_parameters
from loris_cli.training.paper_stage import PaperStage
from loris_cli.training.settings import TrainingRecipe, TrainingSettings, resolve_settings

CONFIG = replace(TINY_PAPER_CONFIG, visual_projection="none", n_genres=12)
LATE_STEP = 5000


def count_late_rates(stage: PaperStage, settings: TrainingSettings) -> dict[str, float]:
    """Return the learning rate of each parameter of the network after the warm-up."""
    groups = build_parameter_groups(settings, stage.loss_module, stage.backbone_keys)
    rates = {
        id(parameter): compute_lr(settings, group, LATE_STEP, 2 * LATE_STEP)
        for group, parameters in groups.items()
        for parameter in parameters
    }
    return {name: rates[id(p)] for name, p in stage.network.named_parameters()}


def build_stage(folder: Path, backbone: Path, recipe: TrainingRecipe) -> dict[str, float]:
    clip = make_clip("a", duration_s=2.0)
    write_clip(folder, clip, np.zeros(44_100), np.array([1.0]))
    clips = TrainingClips(data_dir=folder, train=[clip], val=[clip])
    settings = resolve_settings(
        preset="paper", stage="conditional", recipe=recipe, subset="fe25",
        overrides=["audio_accent_probability=1"],
    )  # fmt: skip
    stage = PaperStage(clips, settings, backbone_path=backbone, config=CONFIG)
    return count_late_rates(stage, settings)


def is_new(name: str) -> bool:
    is_in_unet = name.startswith("cond_diffusion.unet.")
    return not is_in_unet or any(part in name for part in ("cross_", "rhythm_", "fixed_"))


@pytest.mark.parametrize(("recipe", "backbone_rate"), [("paper", 3e-6), ("official", 2e-4)])
@pytest.mark.parametrize("source", ["trained", "released"])
def test_new_conditioning_of_the_paper_trains_at_its_own_rate(
    tmp_path: Path, recipe: TrainingRecipe, backbone_rate: float, source: str
) -> None:
    state = PaperModel(CONFIG).state_dict()
    path = tmp_path / "backbone.safetensors"
    if source == "trained":
        write_weights(path, state, {"loris.stage": "unconditional"})
    else:
        path = tmp_path / "backbone.pt"
        unet = {
            name.removeprefix("cond_diffusion."): value
            for name, value in state.items()
            if not is_new(name)
        }
        torch.save(unet, path)

    rates = build_stage(tmp_path, path, recipe)

    assert {rate for name, rate in rates.items() if is_new(name)} == {3e-3}
    assert {rate for name, rate in rates.items() if not is_new(name)} == {backbone_rate}
    assert sum("rhythm_hawkes" in name for name in rates) > 10


def test_conditioning_of_a_conditional_stage_belongs_to_its_backbone(tmp_path: Path) -> None:
    path = tmp_path / "backbone.safetensors"
    write_weights(path, PaperModel(CONFIG).state_dict(), {"loris.stage": "conditional"})
    rates = build_stage(tmp_path, path, "paper")
    assert {rate for name, rate in rates.items() if "cross_" in name} == {3e-6}
    assert {rate for name, rate in rates.items() if "gencoder" in name} == {3e-3}


def test_new_conditioning_of_mini_is_not_of_the_backbone(tmp_path: Path) -> None:
    path = tmp_path / "backbone.safetensors"
    denoiser = MiniDenoiser(TINY_DENOISER)
    write_weights(path, denoiser.state_dict(), {"loris.stage": "unconditional"})
    names = set(list_backbone_parameters(path, denoiser))
    unet = {name for name, _ in denoiser.named_parameters() if name.startswith("unet.")}
    new = {name for name in unet if "cross_attend" in name or "to_features" in name}
    assert names == unet - new
    assert len(new) > 20


def test_padded_parameters_of_mini_are_not_of_the_backbone(tmp_path: Path) -> None:
    path = tmp_path / "backbone.safetensors"
    write_weights(
        path, MiniDenoiser(TINY_DENOISER).state_dict(), {"loris.stage": "conditional"}
    )
    wider = MiniDenoiser(replace(TINY_DENOISER, harmony_channels=32))
    missing = {name for name, _ in wider.named_parameters()}
    missing -= set(list_backbone_parameters(path, wider))
    assert "null_aligned" in missing
    assert not any("cross_attend" in name for name in missing)
    assert any(name.startswith("unet.") for name in missing)
