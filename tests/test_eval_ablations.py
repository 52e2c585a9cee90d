"""Ablation tables of the paper: variants identified by their configuration; ``loris eval``."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click_dataset import CLIP_S, write_click_dataset
from conftest import RunLoris
from tiny_models import TINY_PAPER_CONFIG

from loris_cli.evaluation.runner.ablations import (
    VARIANT_NAMES,
    VARIANT_OVERRIDES,
    build_ablation_tables,
    derive_variant_config,
    identify_variant,
    infer_full_config,
)
from loris_cli.models.paper_checkpoint import read_paper_config, save_paper_model
from loris_cli.models.paper_config import PaperConfig, to_official_config
from loris_cli.models.paper_unet import PaperModel

VISUAL_CONFIG = replace(
    TINY_PAPER_CONFIG,
    head_features=16,
    n_visual_frames=round(2 * CLIP_S),
    n_pose_frames=round(16 * CLIP_S),
)
# Configuration of `loris train --preset paper` for clips without visual features.
POSE_CONFIG = replace(VISUAL_CONFIG, visual_projection="none", motion_encoder=True)


def write_weights(path: Path, config: PaperConfig) -> Path:
    """Write weights that differ from the initial ones, so that the output is not zero."""
    torch.manual_seed(0)
    network = PaperModel(config)
    with torch.no_grad():
        for name, value in network.named_parameters():
            if name.endswith(".g"):
                value.mul_(1.1)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_paper_model(path, network)
    return path


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LORIS_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ablations") / "data"
    write_click_dataset(folder, subset="fe25")
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of three runs: the full model, a variant, and a model of another size."""
    folder = tmp_path_factory.mktemp("runs")
    configs = {
        "run-1": POSE_CONFIG,
        "run-2": replace(POSE_CONFIG, hawkes_phase="none"),
        "other-size": replace(POSE_CONFIG, context_features=32),
    }
    for name, config in configs.items():
        write_weights(folder / name / "paper.safetensors", config)
    return folder


@pytest.mark.parametrize(
    "full",
    [
        pytest.param(VISUAL_CONFIG, id="visual"),
        pytest.param(to_official_config(VISUAL_CONFIG), id="official"),
        pytest.param(replace(VISUAL_CONFIG, aligned_rhythm=True), id="aligned_rhythm"),
    ],
)
@pytest.mark.parametrize("name", VARIANT_NAMES)
def test_variant_is_identified_by_its_configuration(name: str, full: PaperConfig) -> None:
    config = derive_variant_config(name, full)
    assert config is not None
    assert identify_variant(config, full) == name
    assert identify_variant(replace(config, channels=128), full) is None
    assert infer_full_config([config, full]) == full


def test_full_model_with_poses_has_no_variants_for_motion_and_lstm() -> None:
    assert infer_full_config([replace(POSE_CONFIG, hawkes_phase="none")]) == POSE_CONFIG
    missing = [
        name for name in VARIANT_NAMES if derive_variant_config(name, POSE_CONFIG) is None
    ]
    assert missing == ["m", "lstm"]


def test_missing_variants_are_listed_with_their_training_command() -> None:
    conditioning, architecture = build_ablation_tables(list(VARIANT_OVERRIDES), {}, "fe25")
    assert [line.name for line in conditioning.lines] == ["w/o V", "w/o R", "w/ M", "full"]
    reasons = {line.name: line.missing_reason for line in architecture.lines}
    assert "loris train" not in reasons["w/o LSTM"]  # the default full model uses poses
    assert reasons["w/o PE"].endswith(
        "loris train --preset paper --split fe25 --out runs/pe --set positional_encoding=false"
    )


def test_configuration_is_read_from_a_weights_file(runs: Path) -> None:
    assert read_paper_config(runs / "run-1" / "paper.safetensors") == POSE_CONFIG


@pytest.mark.slow
def test_folder_of_runs_fills_table_6(loris: RunLoris, data: Path, runs: Path) -> None:
    arguments = ("eval", "--split", "fe25", "--data", data, "--ablation", "hawkes",
             "--ablation", "pe", "--ablation-weights", runs, "--steps", 2, "--takes", 1,
             "--clips", 2, "--bound", "latent_reconstruction", "--no-strict", "--device",
             "cpu", "--jobs", 1)  # fmt: skip

    output = loris(*arguments, "--format", "json")

    assert output.exit_code == 0, output.stderr
    result = json.loads(output.stdout)
    assert [row["id"] for row in result["systems"]] == ["hawkes", "full"]
    assert str(runs / "other-size" / "paper.safetensors") in output.stderr
    assert "latent_reconstruction" in result["unavailable"]
    [table] = result["paper_tables"]
    assert table["number"] == 6
    hawkes, position, full = table["lines"]
    assert (hawkes["name"], hawkes["system"], hawkes["n"]) == ("w/o Hawkes", "hawkes", 2)
    assert hawkes["official"] == result["systems"][0]["official"]
    assert hawkes["published"]["F1"] == 0.549
    assert (position["system"], position["official"]) == (None, None)
    assert "loris train --preset paper" in position["missing_reason"]
    training_command = position["missing_reason"].partition("loris train")[2]
    assert (full["system"], full["published"]["BCS"]) == ("full", 0.588)

    text = loris(*arguments).stdout  # from the cache

    assert "Table 6" in text
    assert training_command in " ".join(text.split())


@pytest.mark.parametrize(
    ("name", "overrides", "values"),
    [
        ("pe", {"hawkes_phase": "none"}, ["'hawkes'", "--ablation-weights hawkes="]),
        (
            "pe",
            {"positional_encoding": False, "hawkes_phase": "none"},
            ["hawkes_phase", '"none"', '"interval"'],
        ),
        (
            "hawkes",
            {"hawkes_phase": "none", "context_features": 32},
            ["context_features", "32", "16"],
        ),
    ],
    ids=["other variant", "two settings", "other size"],
)
def test_weights_that_are_not_the_named_variant_are_rejected(
    loris: RunLoris,
    data: Path,
    runs: Path,
    tmp_path: Path,
    name: str,
    overrides: dict[str, Any],
    values: list[str],
) -> None:
    path = write_weights(tmp_path / "a.safetensors", replace(POSE_CONFIG, **overrides))

    result = loris("eval", "--split", "fe25", "--data", data, "--ablation", name,
                 "--ablation-weights", f"full={runs / 'run-1'}",
                 "--ablation-weights", f"{name}={path}")  # fmt: skip

    assert result.exit_code == 2
    problem = result.stderr.replace(str(tmp_path), "")
    assert f"'{name}'" in problem
    for value in values:
        assert value in problem


@pytest.mark.parametrize(
    ("weights", "exit_code"),
    [
        pytest.param("unknown=x", 2, id="unknown variant"),
        pytest.param("{folder}/missing", 4, id="missing folder"),
        pytest.param("pe={folder}/empty", 4, id="run without weights"),
        pytest.param("{folder}/empty", 4, id="folder without runs"),
        pytest.param("pe={model}", 3, id="mini model"),
    ],
)
def test_unusable_ablation_weights_are_rejected(
    loris: RunLoris, data: Path, small_model: Path, tmp_path: Path, weights: str, exit_code: int
) -> None:
    (tmp_path / "empty").mkdir()
    argument = weights.format(folder=tmp_path, model=small_model)

    result = loris("eval", "--split", "fe25", "--data", data, "--ablation", "pe",
                 "--ablation-weights", argument)  # fmt: skip

    assert result.exit_code == exit_code, result.stderr
    assert Path(argument.removeprefix("pe=")).name in result.stderr


def test_ablation_with_a_sweep_is_rejected(loris: RunLoris, data: Path) -> None:
    result = loris("eval", "--split", "fe25", "--data", data, "--ablation", "pe", "--sweep",
                 "steps=2")  # fmt: skip

    assert result.exit_code == 2
    assert "--sweep" in result.stderr
