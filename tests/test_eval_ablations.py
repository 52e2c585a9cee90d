"""Tables 5 and 6 of the paper: variants are known by their configuration, or refused."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import RunLoris
from corpus import CLIP_S, write_click_dataset
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

PICTURE = replace(
    TINY_PAPER_CONFIG,
    head_features=16,
    n_visual_frames=round(2 * CLIP_S),
    n_pose_frames=round(16 * CLIP_S),
)
BODY = replace(PICTURE, visual_projection="none", motion_encoder=True)
"""As `loris train --preset paper` makes it where clips have no features of the picture."""


def save(path: Path, config: PaperConfig) -> Path:
    """Weights that are no longer those of a new network."""
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
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LORIS_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ablations") / "data"
    write_click_dataset(folder, subset="fe25")
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for name in ("full", "hawkes"):  # names of folders tell nothing
        config = derive_variant_config(name, BODY)
        assert config is not None
        save(folder / f"run-{len(name)}" / "paper.safetensors", config)
    save(folder / "another" / "paper.safetensors", replace(BODY, context_features=32))
    return folder


@pytest.mark.parametrize(
    "full", [PICTURE, to_official_config(PICTURE), replace(PICTURE, aligned_rhythm=True)]
)
@pytest.mark.parametrize("name", VARIANT_NAMES)
def test_a_variant_is_known_by_its_one_switch(name: str, full: PaperConfig) -> None:
    config = derive_variant_config(name, full)
    assert config is not None
    assert identify_variant(config, full) == name
    assert identify_variant(replace(config, channels=128), full) is None  # of another size
    assert infer_full_config([config, full]) == full


def test_who_sees_the_body_alone_has_no_lstm_to_leave_out() -> None:
    assert infer_full_config([replace(BODY, hawkes_phase="none")]) == BODY
    assert [name for name in VARIANT_NAMES if derive_variant_config(name, BODY) is None] == [
        "m",
        "lstm",
    ]
    [conditioning, architecture] = build_ablation_tables(list(VARIANT_OVERRIDES), {}, "fe25")
    assert [line.name for line in conditioning.lines] == ["w/o V", "w/o R", "w/ M", "full"]
    lacking = {line.name: line.missing_reason for line in architecture.lines}
    assert "uses poses" in lacking["w/o LSTM"]
    assert lacking["w/o PE"].endswith(
        "loris train --preset paper --split fe25 --out runs/pe --set positional_encoding=false"
    )


def test_a_configuration_is_read_without_the_weights(runs: Path) -> None:
    assert read_paper_config(runs / "run-4" / "paper.safetensors") == BODY


def test_a_folder_of_runs_fills_the_table_of_the_paper(
    loris: RunLoris, data: Path, runs: Path
) -> None:
    words = ("eval", "--split", "fe25", "--data", data, "--ablation", "hawkes",
             "--ablation", "pe", "--ablation-weights", runs, "--steps", 2, "--takes", 1,
             "--clips", 2, "--bound", "latent_reconstruction", "--no-strict", "--device",
             "cpu", "--jobs", 1)  # fmt: skip

    output = loris(*words, "--format", "json")

    assert output.exit_code == 0, output.stderr
    result = json.loads(output.stdout)
    assert [row["id"] for row in result["systems"]] == ["hawkes", "full"]
    assert "another/paper.safetensors is no variant" in output.stderr.replace("\n", " ")
    assert "latent" in result["unavailable"]["latent_reconstruction"]
    [table] = result["paper_tables"]
    assert (table["number"], table["title"]) == (6, "architecture")
    hawkes, position, full = table["lines"]
    assert (hawkes["name"], hawkes["system"], hawkes["n"]) == ("w/o Hawkes", "hawkes", 2)
    assert hawkes["official"] == result["systems"][0]["official"]
    assert hawkes["published"]["F1"] == 0.549
    assert (position["system"], position["official"]) == (None, None)
    assert "loris train --preset paper" in position["missing_reason"]
    assert (full["system"], full["published"]["BCS"]) == ("full", 0.588)

    shown = loris(*words).stdout  # from the cache

    assert "Table 6 of the paper, architecture" in shown
    assert "w/o PE: not trained: loris train" in shown


@pytest.mark.parametrize(
    ("name", "change", "why"),
    [
        ("pe", {"hawkes_phase": "none"}, "not 'pe' but 'hawkes'"),
        (
            "pe",
            {"positional_encoding": False, "hawkes_phase": "none"},
            'its hawkes_phase is "none"',
        ),
        (
            "hawkes",
            {"hawkes_phase": "none", "context_features": 32},
            "its context_features is 32, not 16",
        ),
    ],
)
def test_a_file_that_is_not_its_variant_is_refused(
    loris: RunLoris, data: Path, runs: Path, tmp_path: Path, name: str, change: dict[str, Any],
    why: str,
) -> None:  # fmt: skip
    path = save(tmp_path / "a.safetensors", replace(BODY, **change))

    result = loris("eval", "--split", "fe25", "--data", data, "--ablation", name,
                 "--ablation-weights", f"full={runs / 'run-4'}",
                 "--ablation-weights", f"{name}={path}")  # fmt: skip

    assert result.exit_code == 2
    assert why in result.stderr


def test_what_is_no_variant_and_no_run_is_told(
    loris: RunLoris, data: Path, small_model: Path, tmp_path: Path
) -> None:
    words = (
        "eval",
        "--split",
        "fe25",
        "--data",
        data,
        "--ablation",
        "pe",
        "--ablation-weights",
    )
    (tmp_path / "run").mkdir()

    assert loris(*words, "nothing=x").exit_code == 2
    assert loris(*words, tmp_path / "gone").exit_code == 4
    assert loris(*words, f"pe={tmp_path / 'run'}").exit_code == 4
    assert loris(*words, tmp_path / "run").exit_code == 4
    other = loris(*words, f"pe={small_model}")
    assert other.exit_code == 3
    assert "is not a paper model" in other.stderr
    assert loris(*words[:-1], "--sweep", "steps=2").exit_code == 2
