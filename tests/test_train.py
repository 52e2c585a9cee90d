"""``loris train --preset mini`` with small networks, on three clips of noise bursts."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from builders import make_clip, make_poses, write_clip
from conftest import RunLoris
from safetensors.torch import load_file
from tiny_models import TINY_NOTES_AUTOENCODER, TINY_NOTES_DENOISER

from loris_cli.dataset.manifest import Clip, write_manifest
from loris_cli.models.mel_autoencoder import MelAutoencoder
from loris_cli.models.mini_checkpoint import load_mini_checkpoint
from loris_cli.models.mini_unet import MiniDenoiser
from loris_cli.pose.keypoints import write_poses
from loris_cli.training import mini_stages

FULL_LATENT_CONFIG = mini_stages.MINI_LATENT_CONFIG
FULL_DENOISER_CONFIG = mini_stages.MINI_DENOISER_CONFIG
RATE_HZ = 22_050
CLIP_S = 6.0
TINY_LATENT_CONFIG = TINY_NOTES_AUTOENCODER
TINY_DENOISER_CONFIG = replace(TINY_NOTES_DENOISER, motion_width=8)

# The program with the tiny networks; workers with spawn import the script as well.
TINY_TRAINING_SCRIPT = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import test_train
from loris_cli.training import mini_stages
mini_stages.MINI_LATENT_CONFIG = test_train.TINY_LATENT_CONFIG
mini_stages.MINI_DENOISER_CONFIG = test_train.TINY_DENOISER_CONFIG
if __name__ == "__main__":
    from loris_cli.commands.app import main
    main()
"""


def make_set_options(**settings: object) -> list[str]:
    """Options ``--set KEY=VALUE`` of the command."""
    return [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]


SHORT_RUN = [
    *make_set_options(steps=2, batch_size=2, validation_clips=1),
    *("--device", "cpu", "--split", "clicks"),
]


@pytest.fixture(autouse=True)
def tiny_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mini_stages, "MINI_LATENT_CONFIG", TINY_LATENT_CONFIG)
    monkeypatch.setattr(mini_stages, "MINI_DENOISER_CONFIG", TINY_DENOISER_CONFIG)


@pytest.fixture(scope="module")
def training_script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("program") / "loris.py"
    path.write_text(TINY_TRAINING_SCRIPT)
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data set of two training clips, the first with poses, and a validation clip."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    clips = [
        make_clip("clip0", duration_s=CLIP_S, poses="poses/clip0.npz"),
        make_clip("clip1", duration_s=CLIP_S),
        make_clip("clip2", duration_s=CLIP_S, partition="val"),
    ]
    for k, clip in enumerate(clips):
        accents_s = np.arange(1.0, CLIP_S - 0.5, 0.9) + 0.1 * k
        audio = 0.01 * rng.normal(size=round(CLIP_S * RATE_HZ))
        for accent_s in accents_s:
            start = round(accent_s * RATE_HZ)
            audio[start : start + 400] += np.hanning(800)[400:] * rng.normal(size=400)
        pose_arrays = {
            "pose_peaks_s": accents_s + 0.02,
            "pose_peak_strengths": np.ones(len(accents_s)),
            "motion_energy": np.full(round(CLIP_S * 16), 0.5),
        }
        arrays = pose_arrays if clip.poses else {}
        write_clip(folder, clip, 0.9 * audio / np.abs(audio).max(), accents_s, **arrays)
        if clip.poses:
            keypoints = rng.uniform(0, 100, (round(CLIP_S * 16), 17, 2))
            write_poses(folder / clip.poses, make_poses(keypoints, size=(100, 100)))
    write_manifest(folder, clips)
    return folder


@pytest.fixture(scope="module")
def trained(
    data: Path, training_script: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Run folder of two steps per stage, trained in a separate process."""
    out = tmp_path_factory.mktemp("runs") / "run"
    arguments = ["train", "--data", data, "-o", out, *SHORT_RUN]
    arguments += make_set_options(validation_samples=1)
    completed = subprocess.run(
        [sys.executable, str(training_script), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert completed.returncode == 0, completed.stderr
    assert completed.stdout == f"{out / 'mini.safetensors'}\n"
    for name in ("latent: step 2", "conditional: step 2", "onset_recall"):
        assert name in completed.stderr
    return out


@pytest.mark.slow
def test_run_folder_has_model_metrics_and_samples(trained: Path) -> None:
    model = load_mini_checkpoint(str(trained / "mini.safetensors"), device=torch.device("cpu"))
    assert model.denoiser.config.window_frames == TINY_DENOISER_CONFIG.window_frames
    # The clips have no chords or notes, so the model is not conditioned on them.
    assert not model.denoiser.config.trained_with_harmony
    assert not model.denoiser.config.trained_with_notes
    # The statistics of the latents were measured and saved.
    code_std = model.autoencoder.code_std
    assert not torch.equal(code_std, torch.ones_like(code_std))

    for stage in ("latent", "conditional"):
        metrics = (trained / stage / "metrics.jsonl").read_text().splitlines()
        rows = [json.loads(row) for row in metrics]
        assert {row["step"] for row in rows} == {2}
        assert any("val_loss" in row for row in rows)
        assert json.loads((trained / stage / "settings.json").read_text())["batch_size"] == 2
    (path,) = (trained / "conditional" / "samples").iterdir()
    samples, rate_hz = soundfile.read(path)
    assert (rate_hz, len(samples)) == (RATE_HZ, round(CLIP_S * RATE_HZ))
    assert np.isfinite(samples).all()


@pytest.mark.slow
def test_export_equals_the_model_of_the_run(
    trained: Path, loris: RunLoris, tmp_path: Path
) -> None:
    out = tmp_path / "exported.safetensors"
    result = loris("train", "export", trained, "-o", out)
    assert (result.exit_code, result.stdout) == (0, f"{out}\n"), result.stderr
    one, other = load_file(out), load_file(trained / "mini.safetensors")
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.slow
def test_repeated_command_leaves_a_complete_run_unchanged(
    trained: Path, data: Path, loris: RunLoris
) -> None:
    before = (trained / "conditional" / "resume.pt").read_bytes()
    result = loris("train", "--data", data, "-o", trained, *SHORT_RUN, "-q")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{trained / 'mini.safetensors'}\n"
    assert (trained / "conditional" / "resume.pt").read_bytes() == before


@pytest.fixture
def other_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let new networks differ from those of models trained before."""
    latent = replace(TINY_LATENT_CONFIG, latent_channels=12, width=24)
    denoiser = replace(
        TINY_DENOISER_CONFIG, latent_channels=12, note_latent_channels=12, window_frames=32
    )
    monkeypatch.setattr(mini_stages, "MINI_LATENT_CONFIG", latent)
    monkeypatch.setattr(mini_stages, "MINI_DENOISER_CONFIG", denoiser)


@pytest.mark.slow
@pytest.mark.usefixtures("other_networks")
def test_fine_tuning_starts_from_the_networks_of_a_model(
    trained: Path, data: Path, loris: RunLoris, tmp_path: Path
) -> None:
    model, run = trained / "mini.safetensors", tmp_path / "run"
    words = ("--data", data, "-o", run, *SHORT_RUN)
    options = make_set_options(learning_rate=0, validation_samples=0)
    result = loris("train", *words, *options, "--backbone", model)
    assert result.exit_code == 0, result.stderr

    assert {path.name for path in (run / "latent").iterdir()} == {"last.safetensors"}
    fine_tuned, original = load_file(run / "mini.safetensors"), load_file(model)
    assert fine_tuned.keys() == original.keys()
    for name, value in original.items():
        # Rounding to 8 bits again changes the scales in their last digit.
        torch.testing.assert_close(fine_tuned[name], value, rtol=1e-5, atol=1e-6)

    before = (run / "latent" / "last.safetensors").read_bytes()
    assert loris("train", *words, *options).exit_code == 2  # the model was omitted
    assert (run / "latent" / "last.safetensors").read_bytes() == before


@pytest.mark.slow
@pytest.mark.usefixtures("other_networks")
def test_dry_run_of_fine_tuning_measures_the_networks_of_the_model(
    trained: Path, data: Path, loris: RunLoris, tmp_path: Path
) -> None:
    model, run = trained / "mini.safetensors", tmp_path / "run"
    words = ("--backbone", model, "-o", run, *SHORT_RUN, "--dry-run")
    result = loris("train", "--data", data, *words)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("conditional:")
    assert not run.exists()


@pytest.mark.slow
def test_latent_stage_with_a_model_trains_the_decoder_alone(
    trained: Path, data: Path, loris: RunLoris, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    model = trained / "mini.safetensors"
    options = ["--stage", "latent", "--backbone", model, *SHORT_RUN]
    result = loris("train", "--data", data, "-o", run, *options)
    assert result.exit_code == 0, result.stderr

    autoencoder = load_mini_checkpoint(str(model), device=torch.device("cpu")).autoencoder
    old, new = autoencoder.state_dict(), load_file(run / "latent" / "last.safetensors")
    unchanged = {name for name in old if torch.equal(old[name], new[name])}
    parameters = {name for name, _ in autoencoder.named_parameters()}
    assert parameters & unchanged == {name for name in parameters if name.startswith("encoder")}
    assert {"code_mean", "code_std", "mel_mean", "mel_std"} <= unchanged


@pytest.mark.slow
def test_more_steps_continue_a_complete_run(
    trained: Path, data: Path, loris: RunLoris, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    options = make_set_options(steps=3, validation_samples=0)
    result = loris(
        *("train", "--data", data, "-o", run, *SHORT_RUN, "--stage", "conditional"),
        *(*options, "-v"),
    )
    assert result.exit_code == 0, result.stderr
    assert "conditional: step 3" in result.stderr
    rows = (run / "conditional" / "metrics.jsonl").read_text().splitlines()
    steps = [json.loads(row)["step"] for row in rows if "val_loss" not in json.loads(row)]
    assert steps == [2, 3]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--seed", "4"], 2, r"\bseed 0\b.*\b4\b"),
        (["--no-resume"], 2, r"--no-resume"),
        (["--set", "batch_size=4"], 2, r"\bbatch_size 2\b.*\b4\b"),
        (["--set", "learning_rate=1"], 2, r"\blearning_rate\b.*\b1\.0\b"),
        (["--split", "fe25"], 4, r"'fe25'"),
        (["--set", "speed=1"], 2, r"'speed'"),
        (["--set", "accumulation_steps=4"], 2, r"\bbatch_size 2\b.*\b4\b"),
        (["--backbone", "none.safetensors"], 4, r"none\.safetensors"),
        (["--config", "none.toml"], 4, r"none\.toml"),
        (["--recipe", "paper", "--stage", "conditional"], 2, r"'default'.*'paper'"),
        (["--device", "cuda"], 2, r"\bcuda\b"),
        (["--data", "nowhere"], 4, r"nowhere.*manifest\.jsonl"),
    ],
    ids=[
        "seed",
        "no-resume",
        "batch-size",
        "learning-rate",
        "subset-without-clips",
        "unknown-setting",
        "accumulation-steps",
        "missing-backbone",
        "missing-config-file",
        "recipe",
        "missing-device",
        "missing-data",
    ],
)
def test_rejected_option_leaves_the_run_unchanged(
    trained: Path,
    data: Path,
    loris: RunLoris,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    before = {path: path.stat().st_mtime_ns for path in trained.rglob("*.safetensors")}
    fixed = ["--data", data, "-o", trained, *SHORT_RUN, *make_set_options(steps=9)]
    result = loris("train", *fixed, *arguments)

    assert result.exit_code == code, result.stderr
    assert re.search(message, result.stderr), result.stderr
    assert "Traceback" not in result.stderr
    assert result.stderr.splitlines()[-1].startswith("hint: ")
    assert {path: path.stat().st_mtime_ns for path in trained.rglob("*.safetensors")} == before


def test_folder_with_other_files_is_left_unchanged(
    data: Path, loris: RunLoris, tmp_path: Path
) -> None:
    (tmp_path / "thesis.txt").write_text("text")
    result = loris("train", "--data", data, "-o", tmp_path, *SHORT_RUN)
    assert result.exit_code == 1
    assert str(tmp_path) in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_conditional_stage_without_latent_stage_is_a_usage_error(
    data: Path, loris: RunLoris, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    result = loris("train", "--data", data, "-o", run, *SHORT_RUN, "--stage", "conditional")
    assert result.exit_code == 2
    assert "latent" in result.stderr
    assert not (run / "conditional" / "resume.pt").exists()


def test_dry_run_prints_the_cost_and_writes_nothing(
    data: Path, loris: RunLoris, tmp_path: Path
) -> None:
    options = [*make_set_options(steps=100), "--dry-run"]
    result = loris("train", "--data", data, "-o", tmp_path / "run", *SHORT_RUN, *options)
    assert result.exit_code == 0, result.stderr
    latent, conditional = result.stdout.splitlines()
    for line, network in (
        (latent, MelAutoencoder(TINY_LATENT_CONFIG)),
        (conditional, MiniDenoiser(TINY_DENOISER_CONFIG)),
    ):
        n_parameters = sum(p.numel() for p in network.parameters())
        for value in (f"{n_parameters / 1e6:.1f} M", "2 clips", "100 steps", "MiB"):
            assert value in line
    assert list(tmp_path.iterdir()) == []


def test_mini_networks_have_13_5_and_25_7_million_parameters() -> None:
    with torch.device("meta"):
        networks = MelAutoencoder(FULL_LATENT_CONFIG), MiniDenoiser(FULL_DENOISER_CONFIG)
    sizes = [sum(p.numel() for p in network.parameters()) for network in networks]
    assert [round(size / 1e6, 1) for size in sizes] == [13.5, 25.7]


@pytest.mark.slow
def test_paper_recipe_applies_its_rates_to_a_backbone(
    data: Path, loris: RunLoris, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    arguments = ["--data", data, "-o", run, *SHORT_RUN, "-q"]
    arguments += make_set_options(validation_samples=0)
    backbone = run / "unconditional" / "best.safetensors"
    first = loris("train", *arguments, "--stage", "latent", "--stage", "unconditional")
    assert first.exit_code == 0, first.stderr
    assert first.stdout == f"{backbone}\n"

    arguments += ["--backbone", backbone, "--recipe", "paper"]
    second = loris("train", *arguments, "--stage", "conditional")
    assert second.exit_code == 0, second.stderr
    rows = (run / "conditional" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(rows[0])["learning_rate"] == {"backbone": 2e-4, "new": 2e-4}


@pytest.mark.slow
def test_latent_weights_are_rejected_as_backbone(
    trained: Path, data: Path, loris: RunLoris
) -> None:
    weights = trained / "latent" / "best.safetensors"
    options = [*make_set_options(steps=9), "--stage", "conditional", "--backbone", weights]
    result = loris("train", "--data", data, "-o", trained, *SHORT_RUN, *options)
    assert result.exit_code == 4
    assert "best.safetensors" in result.stderr
    assert "--stage unconditional" in result.stderr


def test_manifest_rows_have_the_fields_of_a_clip(data: Path) -> None:
    rows = [json.loads(row) for row in (data / "manifest.jsonl").read_text().splitlines()]
    assert {row["partition"] for row in rows} == {"train", "val"}
    assert set(rows[0]) == set(asdict(Clip(**rows[0])))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "to_process_group"),
    [(signal.SIGTERM, False), (signal.SIGUSR1, True)],
    ids=["SIGTERM-process", "SIGUSR1-process-group"],
)
def test_run_stopped_by_a_signal_is_resumed_by_the_same_command(
    data: Path,
    training_script: Path,
    loris: RunLoris,
    tmp_path: Path,
    number: int,
    to_process_group: bool,
) -> None:
    """Schedulers signal the whole job, including the worker processes of the data loader."""
    run = tmp_path / "run"
    options = make_set_options(
        log_every=1, validate_every=10**6, loader_workers=int(to_process_group)
    )
    arguments = ["train", "--data", data, "-o", run, "--stage", "latent", *SHORT_RUN, *options]
    max_steps = make_set_options(steps=100_000)
    command = [sys.executable, training_script, *arguments, *max_steps]
    with subprocess.Popen(
        [*map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        log = run / "latent" / "metrics.jsonl"
        while process.poll() is None and not (
            log.exists() and log.read_text().count("\n") >= 2
        ):
            time.sleep(0.02)
        if to_process_group:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        _, stderr = process.communicate(timeout=60)

    assert process.returncode == 0, stderr.decode()
    step = torch.load(run / "latent" / "resume.pt", weights_only=True)["step"]
    assert 2 <= step < 100_000
    result = loris(*arguments, *make_set_options(steps=step + 1))
    assert result.exit_code == 0, result.stderr
    steps = [json.loads(row)["step"] for row in log.read_text().splitlines()]
    assert steps[-1] == step + 1
    assert sorted(set(steps)) == list(range(1, step + 2))
