"""``loris train`` as a researcher meets it, on three clips of clicks."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from conftest import RunLoris
from safetensors.torch import load_file

from loris_cli.dataset.manifest import Clip, write_manifest
from loris_cli.models.mini_checkpoint import load_mini_checkpoint
from loris_cli.pose.keypoints import Poses, write_poses

QUICK = [
    "--set",
    "steps=2",
    "--set",
    "batch_size=2",
    "--set",
    "validation_clips=1",
    "--device",
    "cpu",
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips to train on, the first with a body, and one held out."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    clips = []
    for name in ("audio", "rhythm", "poses"):
        (folder / name).mkdir()
    for k, part in enumerate(("train", "train", "val")):
        accents_s = np.arange(1.0, 23.0, 0.9) + 0.1 * k
        audio = 0.01 * rng.normal(size=24 * 22_050)
        for accent_s in accents_s:
            at = round(accent_s * 22_050)
            audio[at : at + 400] += np.hanning(800)[400:] * rng.normal(size=400)
        clip = Clip(
            id=f"clip{k}",
            subset="clicks",
            partition=part,
            duration_s=24.0,
            genre="pop",
            source="clicks",
            audio=f"audio/clip{k}.flac",
            rhythm=f"rhythm/clip{k}.npz",
            poses="poses/clip0.npz" if k == 0 else "",
        )
        soundfile.write(folder / clip.audio, 0.9 * audio / np.abs(audio).max(), 22_050)
        arrays: dict[str, Any] = {"accents_s": accents_s, "strengths": np.ones(len(accents_s))}
        arrays |= {"energy": np.full(384, 0.5), "beats_s": np.empty(0)}
        if clip.poses:
            arrays |= {
                "pose_peaks_s": accents_s + 0.02,
                "pose_peak_strengths": arrays["strengths"],
            }
            arrays |= {"motion_energy": arrays["energy"], "timing_jitter": np.array(0.5)}
            keypoints = rng.uniform(0, 100, (384, 17, 3)).astype(np.float32)
            keypoints[..., 2] = 0.9
            write_poses(
                folder / clip.poses,
                Poses(
                    keypoints=keypoints,
                    times_s=np.arange(384) / 16,
                    fps=16.0,
                    size=(100, 100),
                    interpolated=np.zeros(384, dtype=bool),
                    cuts=np.zeros(0, dtype=np.int64),
                ),
            )
        np.savez(folder / clip.rhythm, **arrays)
        clips.append(clip)
    write_manifest(folder, clips)
    return folder


@pytest.fixture(scope="module")
def trained(data: Path, loris_script: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps a stage, by the program itself."""
    out = tmp_path_factory.mktemp("runs") / "run"
    arguments = [
        "train",
        "--data",
        data,
        "--split",
        "clicks",
        "-o",
        out,
        *QUICK,
        "--set",
        "validation_samples=1",
    ]
    completed = subprocess.run(
        [sys.executable, str(loris_script), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert completed.returncode == 0, completed.stderr
    assert completed.stdout == f"{out / 'mini.safetensors'}\n"
    assert "latent: step 2, validation loss" in completed.stderr
    assert "conditional: step 2, validation loss" in completed.stderr
    assert "onset_recall" in completed.stderr
    return out


def test_a_run_makes_a_model_its_logs_and_its_sounds(trained: Path) -> None:
    model = load_mini_checkpoint(str(trained / "mini.safetensors"), device=torch.device("cpu"))
    assert model.denoiser.config.window_frames == 512
    # These clips have no chords or notes, so the model is not conditioned on them.
    assert not model.denoiser.config.trained_with_harmony
    assert not model.denoiser.config.trained_with_notes
    # The code it learned has unit variance: its statistics came along.
    assert not torch.equal(
        model.autoencoder.code_std, torch.ones_like(model.autoencoder.code_std)
    )

    for stage in ("latent", "conditional"):
        rows = [
            json.loads(row)
            for row in (trained / stage / "metrics.jsonl").read_text().splitlines()
        ]
        assert {row["step"] for row in rows} == {2}
        assert any("val_loss" in row for row in rows)
        assert json.loads((trained / stage / "settings.json").read_text())["batch_size"] == 2
    (path,) = (trained / "conditional" / "samples").iterdir()
    samples, rate_hz = soundfile.read(path)
    assert (rate_hz, len(samples)) == (22_050, 24 * 22_050)
    assert np.isfinite(samples).all()


def test_an_export_of_a_run_is_its_model(
    trained: Path, loris: RunLoris, tmp_path: Path
) -> None:
    out = tmp_path / "mine.safetensors"
    result = loris("train", "export", trained, "-o", out)
    assert (result.exit_code, result.stdout) == (0, f"{out}\n"), result.stderr
    one, other = load_file(out), load_file(trained / "mini.safetensors")
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_called_again_it_has_nothing_left_to_do(
    trained: Path, data: Path, loris: RunLoris
) -> None:
    before = (trained / "conditional" / "resume.pt").read_bytes()
    result = loris("train", "--data", data, "--split", "clicks", "-o", trained, *QUICK, "-q")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{trained / 'mini.safetensors'}\n"
    assert (trained / "conditional" / "resume.pt").read_bytes() == before


def test_more_steps_go_on_from_there(trained: Path, data: Path, loris: RunLoris) -> None:
    arguments = ["--split", "clicks", "-o", trained, *QUICK, "--stage", "conditional"]
    result = loris(
        "train",
        "--data",
        data,
        *arguments,
        "--set",
        "steps=3",
        "--set",
        "validation_samples=0",
        "-v",
    )
    assert result.exit_code == 0, result.stderr
    assert "conditional: step 3, loss" in result.stderr
    assert "step 2, loss" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--seed", "4"], 2, "was started with seed 0, not 4"),
        (["--no-resume"], 2, "holds this run already"),
        (["--set", "batch_size=4"], 2, "was started with batch_size 2, not 4"),
        (["--set", "learning_rate=1"], 2, "was started with learning_rate"),
        (["--split", "fe25"], 4, "has no clips of 'fe25'"),
        (["--set", "speed=1"], 2, "no setting 'speed'"),
        (["--set", "accumulation_steps=4"], 2, "a batch of 2 cannot be divided"),
        (["--backbone", "none.safetensors"], 4, "no backbone"),
        (["--config", "none.toml"], 4, "none.toml"),
        (["--recipe", "paper"], 2, "was started with recipe 'default', not 'paper'"),
        (["--device", "cuda"], 2, "no device cuda"),
        (["--data", "nowhere"], 4, "manifest.jsonl"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_lost(
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
    fixed = ["--data", data, "--split", "clicks", "-o", trained, *QUICK, "--set", "steps=9"]
    if "paper" in arguments:
        fixed += ["--stage", "conditional"]
    result = loris("train", *fixed, *arguments)

    assert result.exit_code == code, result.stderr
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stderr.splitlines()[-1].startswith("hint: ")
    assert {path: path.stat().st_mtime_ns for path in trained.rglob("*.safetensors")} == before


def test_a_folder_that_is_no_run_is_left_alone(
    data: Path, loris: RunLoris, tmp_path: Path
) -> None:
    (tmp_path / "thesis.txt").write_text("all of it")
    result = loris("train", "--data", data, "--split", "clicks", "-o", tmp_path, *QUICK)
    assert result.exit_code == 1
    assert "is no run" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_without_a_latent_there_is_nothing_to_denoise(
    data: Path, loris: RunLoris, tmp_path: Path
) -> None:
    arguments = ["--split", "clicks", "-o", tmp_path / "run", *QUICK, "--stage", "conditional"]
    result = loris("train", "--data", data, *arguments)
    assert result.exit_code == 2
    assert "has no latent stage" in result.stderr


def test_a_dry_run_tells_what_it_would_take_and_makes_nothing(
    data: Path, loris: RunLoris, tmp_path: Path
) -> None:
    arguments = ["--split", "clicks", "-o", tmp_path / "run", *QUICK, "--dry-run"]
    result = loris("train", "--data", data, *arguments, "--set", "steps=100")
    assert result.exit_code == 0, result.stderr
    latent, conditional = result.stdout.splitlines()
    assert "11.6 M parameters, 2 clips, 100 steps of" in latent
    assert "25.4 M parameters" in conditional
    assert "MiB" in conditional
    assert list(tmp_path.iterdir()) == []


def test_a_backbone_is_what_the_papers_rates_need(
    data: Path, loris: RunLoris, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    arguments = [
        "--data",
        data,
        "--split",
        "clicks",
        "-o",
        run,
        *QUICK,
        "--set",
        "validation_samples=0",
        "-q",
    ]
    first = loris("train", *arguments, "--stage", "latent", "--stage", "unconditional")
    assert first.exit_code == 0, first.stderr
    assert first.stdout == f"{run / 'unconditional' / 'best.safetensors'}\n"

    arguments += ["--backbone", run / "unconditional" / "best.safetensors", "--recipe", "paper"]
    second = loris("train", *arguments, "--stage", "conditional")
    assert second.exit_code == 0, second.stderr
    rows = (run / "conditional" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(rows[0])["learning_rate"] == {"backbone": 2e-4, "new": 2e-4}


def test_a_latent_is_no_backbone(trained: Path, data: Path, loris: RunLoris) -> None:
    arguments = ["--data", data, "--split", "clicks", "-o", trained, *QUICK, "--set", "steps=9"]
    arguments += [
        "--stage",
        "conditional",
        "--backbone",
        trained / "latent" / "best.safetensors",
    ]
    result = loris("train", *arguments)
    assert result.exit_code == 4
    assert "is no backbone" in result.stderr


def test_the_clips_are_what_the_manifest_says(data: Path) -> None:
    rows = [json.loads(row) for row in (data / "manifest.jsonl").read_text().splitlines()]
    assert {row["partition"] for row in rows} == {"train", "val"}
    assert set(rows[0]) == set(asdict(Clip(**rows[0])))


@pytest.mark.parametrize(
    ("number", "whole_process_group"), [(signal.SIGTERM, False), (signal.SIGUSR1, True)]
)
def test_a_signal_ends_it_well_and_the_same_command_goes_on(
    data: Path, loris_script: Path, tmp_path: Path, number: int, whole_process_group: bool
) -> None:
    """Of a whole job, as schedulers do it, the readers of examples get the signal too."""
    run = tmp_path / "run"
    arguments = ["train", "--data", data, "--split", "clicks", "-o", run, "--stage", "latent"]
    arguments += [*QUICK, "--set", "log_every=1", "--set", "validate_every=1000"]
    arguments += ["--set", f"loader_workers={int(whole_process_group)}"]
    command = [sys.executable, str(loris_script), *map(str, arguments), "--set", "steps=900"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    ) as process:
        log = run / "latent" / "metrics.jsonl"
        while process.poll() is None and not (
            log.exists() and log.read_text().count("\n") >= 2
        ):
            time.sleep(0.1)
        if whole_process_group:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        _, err = process.communicate(timeout=60)

    assert process.returncode == 0, err.decode()
    step = torch.load(run / "latent" / "resume.pt", weights_only=True)["step"]
    assert 2 <= step < 900
    resume_command = [*command[:-1], f"steps={step + 1}"]
    completed = subprocess.run(resume_command, capture_output=True, text=True, check=False)
    assert completed.returncode == 0, completed.stderr
    steps = [json.loads(row)["step"] for row in log.read_text().splitlines()]
    assert steps[-1] == step + 1
    assert sorted(set(steps)) == list(range(1, step + 2))
