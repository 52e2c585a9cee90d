"""I3D-R50 of pytorchvideo, whose features condition newly trained networks.

eight frames, 0.3 s apart -> pytorchvideo's network without classifier -> one row of 2048

An inflated ResNet-50 (Carreira and Zisserman, CVPR 2017) trained on Kinetics-400 with "8x8"
clips: eight of 64 frames at 30 fps. pytorchvideo builds the network and provides the URL of its
weights; this project includes neither.
"""

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from loris_cli.config import cache_home
from loris_cli.errors import WeightsError
from loris_cli.system import file_fingerprints
from loris_cli.system.downloads import download_file
from loris_cli.system.file_fingerprints import FileFingerprint
from loris_cli.system.optional_packages import import_optional
from loris_cli.system.progress import Reporter
from loris_cli.system.state_dict_files import check_state_dict, check_trained, read_state_dict

INPUT_SIZE_PX = 256
PIXEL_MEAN, PIXEL_STD = 0.45, 0.225
"""Normalization of all color channels, 0..1, as in pytorchvideo's hub tutorial."""

FRAMES_PER_CLIP = 8
INPUT_FPS = 10.0
FRAME_STRIDE = 3
"""Interval between the frames of a row. pytorchvideo takes eight evenly spaced frames from 64
at 30 fps, including the first and the last: every ninth frame, or 0.3 s."""

WEIGHTS_FILE_NAME = "I3D_8x8_R50.pyth"
"""File name of pytorchvideo's weights."""
DEPENDENCY_PURPOSE = "extract visual features with I3D-R50"


class I3DR50(nn.Module):
    """I3D-R50 without its classifier."""

    def __init__(self) -> None:
        """Build the network with pytorchvideo, with random weights.

        Raises:
            MissingDependencyError: pytorchvideo or torchvision is not installed.
        """
        super().__init__()
        self.network: Any = _import_pytorchvideo_hub().i3d_r50(pretrained=False)

    def forward(self, frames: Tensor) -> Tensor:
        """Return one row of features for eight frames.

        Args:
            frames: ``(batch, 3, 8, 256, 256)``, 0..1.

        Returns:
            ``(batch, 2048)``, the input of the classifier's linear layer.
        """
        *blocks, head = self.network.blocks.children()
        x = (frames - PIXEL_MEAN) / PIXEL_STD
        for block in blocks:
            x = block(x)
        rows: Tensor = head.pool(x).mean(dim=(2, 3, 4))
        return rows


def find_i3d_r50_weights(
    user_path: Path | None, *, offline: bool, reporter: Reporter
) -> FileFingerprint:
    """Find the weights given by the user or downloaded before; else download pytorchvideo's.

    Args:
        user_path: weights file; None searches the cache and the torch hub folder.
        offline: do not download.
        reporter: receives warnings and progress.

    Returns:
        the file and its SHA-256, which is recorded when the file is first loaded. If the file
        has changed since then, a user's file causes a warning, a downloaded one an error.

    Raises:
        WeightsError: no weights were found, or a downloaded file has changed.
    """
    if user_path is not None:
        if not user_path.is_file():
            raise WeightsError(f"no such file: {user_path}", hint="pass an I3D-R50 state dict")
        fingerprint = file_fingerprints.fingerprint_file(user_path)
        for text in fingerprint.warnings:
            reporter.warn(text)
        return fingerprint
    folders = (cache_home() / "weights", Path(torch.hub.get_dir(), "checkpoints"))
    paths = [folder / WEIGHTS_FILE_NAME for folder in folders]
    path = next((path for path in paths if path.is_file()), paths[0])
    if not path.is_file():
        url = str(_import_pytorchvideo_hub("resnet").checkpoint_paths["i3d_r50"])
        download_file(
            url,
            path,
            sha256=file_fingerprints.read_recorded_sha256(path),
            manual_hint=f"download {url} to {path}, or pass the file as i3d-r50=FILE",
            offline=offline,
            reporter=reporter,
        )
    fingerprint = file_fingerprints.fingerprint_file(path)
    if fingerprint.warnings:
        record = file_fingerprints.fingerprint_record_path(path)
        hint = f"delete it to download it again, or delete {record} to accept it"
        raise WeightsError(fingerprint.warnings[0], hint=hint)
    return fingerprint


def load_i3d_r50(fingerprint: FileFingerprint, *, device: torch.device) -> I3DR50:
    """Load the network from weights in pytorchvideo's format.

    Args:
        fingerprint: weights file, from `find_i3d_r50_weights`.
        device: device of the network.

    Raises:
        MissingDependencyError: pytorchvideo is not installed.
        WeightsError: the file is not a state dict of this network, or is untrained.
    """
    network = I3DR50()
    state = read_state_dict(
        fingerprint.path,
        hint=f"pass pytorchvideo's {WEIGHTS_FILE_NAME}, or a state dict",
        nested_key="model_state",
    )
    plain = {key.removeprefix("module."): value for key, value in state.items()}
    check_state_dict(plain, network.network.state_dict(), fingerprint.path)
    check_trained(plain, fingerprint.path)
    network.network.load_state_dict(plain)
    if not fingerprint.is_recorded:
        file_fingerprints.record_fingerprint(fingerprint)
    return network.to(device).eval().requires_grad_(False)


def _import_pytorchvideo_hub(submodule: str = "") -> Any:
    """Import pytorchvideo's hub models, with import warnings suppressed."""
    name = "pytorchvideo.models.hub" + (f".{submodule}" if submodule else "")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import_optional("torchvision", extra="visual", purpose=DEPENDENCY_PURPOSE)
        return import_optional(name, extra="visual", purpose=DEPENDENCY_PURPOSE)
