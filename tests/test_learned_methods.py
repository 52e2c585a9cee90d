"""Training, weights files and use of trained baselines, with a method of two parameters."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders import make_clip, make_features, make_poses, write_clip
from conftest import RunLoris
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny_method import TINY_METHOD, TinyNetwork

from loris_cli.array_types import Samples
from loris_cli.baselines import learned_methods
from loris_cli.baselines.learned_checkpoint import (
    detect_learned_method,
    load_learned_model,
)
from loris_cli.dataset.manifest import read_manifest, write_manifest
from loris_cli.errors import InputError, UsageError, WeightsError
from loris_cli.models.int8_weights import SCALE_SUFFIX, dequantize_int8, quantize_int8
from loris_cli.pose.keypoints import write_poses

CPU = torch.device("cpu")
CLIP_S = 3.0
RATE_HZ = 22_050


@pytest.fixture(autouse=True)
def tiny_method(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(learned_methods.METHOD_OBJECTS, "foley", "tiny_method:TINY_METHOD")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three training clips, of which one has no poses, and a validation clip."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    clips = []
    for clip_id in "abcd":
        clip = make_clip(
            clip_id,
            duration_s=CLIP_S,
            partition="val" if clip_id == "d" else "train",
            poses="" if clip_id == "c" else f"poses/{clip_id}.npz",
        )
        n_frames = round(CLIP_S * 16)
        write_clip(
            folder,
            clip,
            rng.uniform(-0.5, 0.5, round(CLIP_S * RATE_HZ)),
            np.arange(0.5, CLIP_S, 0.5),
            pose_peaks_s=np.arange(0.5, CLIP_S, 1.0),
            pose_peak_strengths=np.ones(3),
            motion_energy=rng.uniform(0, 1, n_frames),
        )
        if clip.poses:
            write_poses(folder / clip.poses, make_poses(rng.uniform(0, 99, (n_frames, 17, 2))))
        clips.append(clip)
    write_manifest(folder, clips)
    return folder


def train(
    loris: RunLoris, data: Path, out: Path, *options: str, steps: int = 4
) -> tuple[int, str]:
    result = loris(
        "train", "--data", data, "--split", "clicks", "--method", "foley", "-o", out,
        "--set", f"steps={steps}", "--set", "validation_clips=2", *options,
    )  # fmt: skip
    return result.exit_code, result.stderr


@pytest.fixture
def weights(loris: RunLoris, data: Path, tmp_path: Path) -> Path:
    code, stderr = train(loris, data, tmp_path / "run")
    assert code == 0, stderr
    return tmp_path / "run" / "foley.safetensors"


def test_a_trained_method_is_one_file_in_8_bits(weights: Path) -> None:
    with safe_open(weights, framework="pt") as file:
        assert file.metadata()["loris.kind"] == "foley"
        assert file.metadata()["loris.step"] == "4"
        assert file.get_tensor("network.scale.weight").dtype == torch.int8
    model = load_learned_model("foley", weights, device=CPU)
    last = load_file(weights.parent / "conditional" / "best.safetensors")
    for name, value in model.network.state_dict().items():
        torch.testing.assert_close(value, last[f"network.{name}"], atol=0.005, rtol=0)
    assert detect_learned_method(weights) == "foley"


def test_clips_without_training_data_are_skipped_with_the_reason(
    loris: RunLoris, data: Path, tmp_path: Path
) -> None:
    code, stderr = train(loris, data, tmp_path / "run")
    assert code == 0
    assert "1 of 4 clips are not used: it has no poses" in stderr
    (folder,) = (tmp_path / "run" / "prepared").iterdir()
    assert len(list(folder.glob("*.npz"))) == 3
    assert len(list(folder.glob("*.skipped"))) == 1


def test_a_run_in_two_parts_prepares_the_clips_once(
    loris: RunLoris, data: Path, tmp_path: Path
) -> None:
    train(loris, data, tmp_path / "run", steps=4)
    prepared = {p: p.stat().st_mtime_ns for p in (tmp_path / "run" / "prepared").rglob("*")}
    code, stderr = train(loris, data, tmp_path / "run", steps=8)
    assert code == 0
    assert "no poses" not in stderr
    assert {p: p.stat().st_mtime_ns for p in prepared} == prepared
    with safe_open(tmp_path / "run" / "foley.safetensors", framework="pt") as file:
        assert file.metadata()["loris.step"] == "8"


def test_another_network_size_needs_another_run_folder(
    loris: RunLoris, data: Path, tmp_path: Path
) -> None:
    assert train(loris, data, tmp_path / "run")[0] == 0
    code, _ = train(loris, data, tmp_path / "run", "--size", "full")
    assert code == UsageError.exit_code


def test_training_data_without_poses_is_an_input_error(
    loris: RunLoris, data: Path, tmp_path: Path
) -> None:
    shutil.copytree(data, tmp_path / "data")
    clips = [replace(clip, poses="") for clip in read_manifest(data)]
    write_manifest(tmp_path / "data", clips)
    code, stderr = train(loris, tmp_path / "data", tmp_path / "run")
    assert code == InputError.exit_code
    assert "no poses" in stderr


def test_soundtrack_uses_trained_weights(
    loris: RunLoris, weights: Path, moving_video: Path, pose_file: Path, tmp_path: Path
) -> None:
    options = "soundtrack", moving_video, "--poses", pose_file, "--model", weights, "--json"
    takes = []
    for name, seed in (("a.wav", "1"), ("b.wav", "1"), ("c.wav", "2")):
        result = loris(*options, "-o", tmp_path / name, "--seed", seed)
        assert result.exit_code == 0, result.stderr
        takes.append((tmp_path / name).read_bytes())
        row = json.loads(result.stdout)
        assert (row["method"], row["model"]) == ("foley", "foley.safetensors")
    assert takes[0][100:] == takes[1][100:]
    assert takes[0][100:] != takes[2][100:]


def test_options_of_diffusion_models_are_refused(
    loris: RunLoris, weights: Path, moving_video: Path, tmp_path: Path
) -> None:
    options = "soundtrack", moving_video, "-o", tmp_path / "a.wav", "--model", weights
    for extra in (("--steps", "5"), ("--guidance", "2"), ("--compile",)):
        assert loris(*options, *extra).exit_code == UsageError.exit_code


def test_untrained_methods_refuse_to_generate(
    loris: RunLoris, moving_video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loris_cli.baselines.learned_checkpoint.WEIGHTS_DIR", tmp_path)
    result = loris("soundtrack", moving_video, "-o", tmp_path / "a.wav", "--method", "cdcd")
    assert result.exit_code == WeightsError.exit_code
    assert "loris train --method cdcd" in result.stderr
    assert not (tmp_path / "a.wav").exists()


def rewrite(
    path: Path, out: Path, tensors: Mapping[str, torch.Tensor], **metadata: str
) -> Path:
    with safe_open(path, framework="pt") as file:
        save_file(dict(tensors), out, {**file.metadata(), **metadata})
    return out


@pytest.mark.parametrize(
    "metadata",
    [
        {"loris.step": "0"},
        {"loris.schema": "1"},
        {"loris.kind": "cmt"},
        {"loris.network": '{"width": 1000000}'},
        {"loris.network": '{"unknown": 1}'},
        {"loris.network": "[]"},
    ],
    ids=["untrained", "schema", "other method", "huge", "unknown field", "no object"],
)
def test_invalid_weights_files_are_refused(
    weights: Path, tmp_path: Path, metadata: dict[str, str]
) -> None:
    hostile = rewrite(weights, tmp_path / "x.safetensors", load_file(weights), **metadata)
    with pytest.raises(WeightsError):
        load_learned_model("foley", hostile, device=CPU)


def test_weights_of_another_shape_are_refused(weights: Path, tmp_path: Path) -> None:
    tensors = load_file(weights)
    tensors["network.scale.bias"] = torch.zeros(7)
    hostile = rewrite(weights, tmp_path / "shape.safetensors", tensors)
    with pytest.raises(WeightsError):
        load_learned_model("foley", hostile, device=CPU)
    tensors = load_file(weights)
    tensors[f"network.scale.weight{SCALE_SUFFIX}"] = torch.full((2,), float("nan"))
    hostile = rewrite(weights, tmp_path / "nan.safetensors", tensors)
    with pytest.raises(WeightsError):
        load_learned_model("foley", hostile, device=CPU)


def read_systems(report: Path) -> dict[str, dict[str, Any]]:
    return {system["id"]: system for system in json.loads(report.read_text())["systems"]}


def test_eval_scores_trained_weights_as_a_method(
    loris: RunLoris, weights: Path, tmp_path: Path
) -> None:
    from click_dataset import write_click_dataset

    write_click_dataset(tmp_path / "clips")
    out = tmp_path / "report.json"
    result = loris(
        "eval", "--data", tmp_path / "clips", "--split", "fe50", "--model", weights,
        "--bound", "click_1hz", "--takes", "1", "--format", "json", "-o", out,
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    system = read_systems(out)["foley"]
    assert system["category"] == "method"
    # Clicks on the visual peaks, which are those of the reference in these clips.
    assert system["official"]["F1"] > 0.9


def test_method_all_leaves_out_what_is_not_trained(
    loris: RunLoris, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from click_dataset import write_click_dataset

    monkeypatch.setattr("loris_cli.baselines.learned_checkpoint.WEIGHTS_DIR", tmp_path)
    clips = write_click_dataset(tmp_path / "clips")
    trained = replace(clips[0], id="train-0", partition="train", source="other")
    write_manifest(tmp_path / "clips", [*clips, trained])
    out = tmp_path / "report.json"
    result = loris(
        "eval", "--data", tmp_path / "clips", "--split", "fe50", "--model", "none",
        "--method", "all", "--clips", "1", "--takes", "1", "--format", "json", "-o", out,
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert "loris train --method cmt" in result.stderr
    systems = read_systems(out)
    assert {"score", "drums", "groove", "retrieval"} <= systems.keys()
    assert "cmt" not in systems


def test_int8_weights_are_within_half_a_step_and_stable() -> None:
    torch.manual_seed(0)
    state = {"w": torch.randn(5, 4, 3), "zero": torch.zeros(2, 2), "b": torch.randn(5)}
    small = quantize_int8(state)
    restored = dequantize_int8(small)
    assert small["w"].dtype == torch.int8
    assert torch.equal(restored["b"], state["b"])
    assert torch.equal(restored["zero"], state["zero"])
    step = state["w"].flatten(1).abs().amax(dim=1) / 127
    error = (restored["w"] - state["w"]).abs().flatten(1).amax(dim=1)
    assert (error <= step / 2 * 1.001).all()
    again = quantize_int8(restored)
    assert all(torch.equal(again[name], small[name]) for name in ("w", "zero"))


def test_generator_of_a_loaded_method_uses_its_weights(weights: Path) -> None:
    model = load_learned_model("foley", weights, device=CPU)
    assert isinstance(model.network, TinyNetwork)
    before = generate(model.network)
    model.network.scale.bias.add_(1)
    assert before.shape == (1, 2 * RATE_HZ)
    assert not np.array_equal(before, generate(model.network))


def generate(network: TinyNetwork) -> Samples:
    assert TINY_METHOD.build_generator is not None
    generator = TINY_METHOD.build_generator(network, None, CPU)
    blocks = generator.generate(make_features(2.0), seed=0, progress=lambda done, total: None)
    return np.concatenate(list(blocks))


def test_export_writes_the_file_of_the_run(
    loris: RunLoris, weights: Path, tmp_path: Path
) -> None:
    out = tmp_path / "exported.safetensors"
    assert loris("train", "export", weights.parent, "-o", out).exit_code == 0
    one, other = load_file(weights), load_file(out)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    result = loris("train", "export", weights, "-o", tmp_path / "x.pt", "--format", "official")
    assert result.exit_code == UsageError.exit_code


def test_dry_run_prints_parameters_and_operations(
    loris: RunLoris, data: Path, tmp_path: Path
) -> None:
    result = loris(
        "train", "--data", data, "--split", "clicks", "--method", "foley", "--size", "full",
        "-o", tmp_path / "run", "--dry-run",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert "parameters" in result.stdout
    assert "FLOP" in result.stdout
    assert not (tmp_path / "run").exists()
