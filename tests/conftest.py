"""What several test files need: the folder of ``media``, a small model, a tiny film, a user."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

# pytest's importlib mode puts no folder on the path.
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a small network that has learned nothing: enough for all but the music."""
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
def moving_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of a textured square that hops to and fro: optical flow, no person."""
    return write_square_video(tmp_path_factory.mktemp("films") / "moving.mp4", moves=True)


@pytest.fixture(scope="session")
def static_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds in which nothing moves."""
    return write_square_video(tmp_path_factory.mktemp("films") / "still.mp4", moves=False)


def write_square_video(path: Path, *, moves: bool) -> Path:
    """Two seconds of a textured square, ``(160, 120)`` at 16 fps."""
    from loris_cli.pose.overlay import write_mp4

    rng = np.random.default_rng(0)
    ground = rng.integers(60, 120, (120, 160, 3)).astype(np.uint8)
    square = np.kron(rng.integers(0, 255, (10, 10, 3)), np.ones((4, 4, 1))).astype(np.uint8)
    pictures = []
    for k in range(32):
        left = 60 + 6 * abs(k % 8 - 4) * moves
        shown = ground.copy()
        shown[40:80, left : left + 40] = square
        pictures.append(shown)
    write_mp4(path, pictures, 16, (160, 120))
    return path


@pytest.fixture(scope="session")
def pose_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Poses of a person whose arms stop at 0.5, 1 and 1.5 s, as long as ``moving_video``."""
    from loris_cli.pose.keypoints import Poses, write_poses

    n_frames = 32
    keypoints = np.zeros((n_frames, 17, 3), np.float32)
    keypoints[..., :2] = [
        (80, 20), (77, 17), (83, 17), (74, 19), (86, 19), (68, 35), (92, 35), (62, 50),
        (98, 50), (60, 64), (100, 64), (72, 66), (88, 66), (71, 88), (89, 88), (70, 110),
        (90, 110),
    ]  # fmt: skip
    keypoints[..., 2] = 0.9
    lift = np.interp(np.arange(n_frames) % 16, [0, 5, 8, 13, 16], [0, 0, 20, 20, 0])
    keypoints[:, 7:11, 0] += lift[:, None] * (-1, 1, -1, 1)
    keypoints[:, 7:11, 1] -= lift[:, None]
    path = tmp_path_factory.mktemp("poses") / "body.npz"
    poses = Poses(
        keypoints=keypoints,
        times_s=np.arange(n_frames) / 16,
        fps=16.0,
        size=(160, 120),
        interpolated=np.zeros(n_frames, bool),
        cuts=np.zeros(0, np.int64),
    )
    write_poses(path, poses)
    return path


@pytest.fixture(scope="session")
def resnet_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """I3D-R50 as pytorchvideo has it, random, but its batch norms have seen something."""
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
    """What the program said, and how it ended."""

    exit_code: int
    stdout: str
    stderr: str


RunLoris = Callable[..., CliResult]


@pytest.fixture
def loris(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> RunLoris:
    """The program, run in this process: starting another takes seconds."""
    from loris_cli.commands import app
    from loris_cli.system import device

    # Small networks need no second thread, and two wait long where others are at work.
    monkeypatch.setattr(device, "CPU_THREADS", 1)

    def call(*words: object) -> CliResult:
        monkeypatch.setattr(sys, "argv", ["loris", *map(str, words)])
        capfd.readouterr()
        code = app.run_app()
        said = capfd.readouterr()
        return CliResult(code, said.out, said.err)

    return call


# Spawned workers import this script too, so they use one thread as it does.
SINGLE_THREAD_SCRIPT = """
from loris_cli.system import device
device.CPU_THREADS = 1
if __name__ == "__main__":
    from loris_cli.commands.app import main
    main()
"""


@pytest.fixture(scope="session")
def loris_script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("program") / "loris.py"
    path.write_text(SINGLE_THREAD_SCRIPT)
    return path
