"""Fixtures shared by several test modules: weights, videos, poses, and the command line."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

# pytest's importlib mode does not add the folder of the tests to the path.
sys.path.insert(0, str(Path(__file__).parent))

# Read when torch is imported, and by subprocesses. The networks of the tests are too small for
# several threads, which wait long for each other if other processes use the CPU.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def unsafe_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start each test without the variable that commands set for their subprocesses.

    With it, scripts of tests could not import their neighbours.
    """
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)


@pytest.fixture(scope="session")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Untrained weights of the smallest mini model."""
    import torch
    from tiny_models import TINY_AUTOENCODER, TINY_DENOISER

    from loris_cli.models.mel_autoencoder import MelAutoencoder
    from loris_cli.models.mini_checkpoint import save_mini_checkpoint
    from loris_cli.models.mini_unet import MiniDenoiser

    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    state = torch.get_rng_state()
    torch.manual_seed(0)
    save_mini_checkpoint(path, MelAutoencoder(TINY_AUTOENCODER), MiniDenoiser(TINY_DENOISER))
    torch.set_rng_state(state)
    return path


@pytest.fixture(scope="session")
def note_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Untrained weights of a small mini model that is conditioned on notes."""
    import torch
    from tiny_models import TINY_NOTES_AUTOENCODER, TINY_NOTES_DENOISER

    from loris_cli.models.mel_autoencoder import MelAutoencoder
    from loris_cli.models.mini_checkpoint import save_mini_checkpoint
    from loris_cli.models.mini_unet import MiniDenoiser

    path = tmp_path_factory.mktemp("weights") / "notes.safetensors"
    torch.manual_seed(0)
    save_mini_checkpoint(
        path, MelAutoencoder(TINY_NOTES_AUTOENCODER), MiniDenoiser(TINY_NOTES_DENOISER)
    )
    return path


@pytest.fixture(scope="session")
def moving_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Video of 2 s with a textured square that moves left and right, and no person."""
    return write_square_video(tmp_path_factory.mktemp("videos") / "moving.mp4", moves=True)


@pytest.fixture(scope="session")
def static_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Video of 2 s without motion."""
    return write_square_video(tmp_path_factory.mktemp("videos") / "still.mp4", moves=False)


def write_square_video(path: Path, *, moves: bool) -> Path:
    """Write a video of a textured square: 2 s, ``(160, 120)``, 16 fps."""
    from loris_cli.pose.overlay import write_mp4

    rng = np.random.default_rng(0)
    background = rng.integers(60, 120, (120, 160, 3)).astype(np.uint8)
    square = np.kron(rng.integers(0, 255, (10, 10, 3)), np.ones((4, 4, 1))).astype(np.uint8)
    frames = []
    for k in range(32):
        left = 60 + 6 * abs(k % 8 - 4) * moves
        frame = background.copy()
        frame[40:80, left : left + 40] = square
        frames.append(frame)
    write_mp4(path, frames, 16, (160, 120))
    return path


@pytest.fixture(scope="session")
def pose_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Poses of 2 s, as long as ``moving_video``, with arms that stop at 0.5, 1 and 1.5 s."""
    from builders import make_poses

    from loris_cli.pose.keypoints import write_poses

    n_frames = 32
    keypoints = np.zeros((n_frames, 17, 2))
    keypoints[:] = [
        (80, 20), (77, 17), (83, 17), (74, 19), (86, 19), (68, 35), (92, 35), (62, 50),
        (98, 50), (60, 64), (100, 64), (72, 66), (88, 66), (71, 88), (89, 88), (70, 110),
        (90, 110),
    ]  # fmt: skip
    lift = np.interp(np.arange(n_frames) % 16, [0, 5, 8, 13, 16], [0, 0, 20, 20, 0])
    keypoints[:, 7:11, 0] += lift[:, None] * (-1, 1, -1, 1)
    keypoints[:, 7:11, 1] -= lift[:, None]
    path = tmp_path_factory.mktemp("poses") / "poses.npz"
    write_poses(path, make_poses(keypoints))
    return path


@pytest.fixture(scope="session")
def resnet_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random I3D-R50 weights in the format of pytorchvideo, with nonzero running means."""
    import torch

    from loris_cli.errors import MissingDependencyError
    from loris_cli.models.i3d_resnet50 import I3DR50, WEIGHTS_FILE_NAME

    try:
        state = torch.get_rng_state()
        torch.manual_seed(0)
        network = I3DR50().network
    except MissingDependencyError as missing:
        pytest.skip(f"{missing}: `make legacy` installs it")
    for name, value in network.named_buffers():
        if name.endswith("running_mean"):
            value.normal_(0, 0.1)
    torch.set_rng_state(state)
    path = tmp_path_factory.mktemp("zoo") / WEIGHTS_FILE_NAME
    torch.save({"model_state": network.state_dict(), "epoch": 3}, path)
    return path


@dataclass(frozen=True)
class CliResult:
    """Exit code and output of the program."""

    exit_code: int
    stdout: str
    stderr: str


RunLoris = Callable[..., CliResult]


@pytest.fixture
def loris(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> RunLoris:
    """Run the program in this process, because a new process takes seconds to start."""
    from loris_cli.commands import app

    def run(*arguments: object) -> CliResult:
        monkeypatch.setattr(sys, "argv", ["loris", *map(str, arguments)])
        capfd.readouterr()
        code = app.run_app()
        output = capfd.readouterr()
        return CliResult(code, output.out, output.err)

    return run


PROGRAM_SCRIPT = """
if __name__ == "__main__":
    from loris_cli.commands.app import main
    main()
"""


@pytest.fixture(scope="session")
def loris_script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Script that runs the program, for tests of a separate process."""
    path = tmp_path_factory.mktemp("program") / "loris.py"
    path.write_text(PROGRAM_SCRIPT)
    return path
