"""I3D-R50 of pytorchvideo, whose features a new network is told of.

eight pictures, 0.3 s apart -> pytorchvideo's network up to its classifier -> one row of 2048

An inflated ResNet-50 (Carreira and Zisserman, CVPR 2017) that was trained on Kinetics-400 on
"8x8" clips: eight of 64 frames at 30 a second. pytorchvideo builds the network and names the
address of its weights; neither the one nor the other ships with this project.
"""

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from loris_cli.config import cache_home
from loris_cli.errors import WeightsError
from loris_cli.system.atomic_files import printable_path
from loris_cli.system.downloads import download_file
from loris_cli.system.file_fingerprints import (
    FileFingerprint,
    fingerprint_file,
    fingerprint_record_path,
    read_recorded_sha256,
    record_fingerprint,
)
from loris_cli.system.optional_packages import import_optional
from loris_cli.system.progress import Reporter
from loris_cli.system.state_dict_files import check_state_dict, check_trained, read_state_dict

FEATURE_WIDTH = 2048
INPUT_SIZE_PX = 256
PIXEL_MEAN, PIXEL_STD = 0.45, 0.225
"""Of all three colours, 0..1, in pytorchvideo's tutorial for the models of its hub."""

FRAMES_PER_CLIP = 8
INPUT_FPS = 10.0
FRAME_STRIDE = 3
"""Pictures between one of a row and the next: pytorchvideo spreads eight evenly over 64 frames
at 30 a second, the first and the last among them, which is every ninth, or 0.3 s."""

WEIGHTS_FILE_NAME = "I3D_8x8_R50.pyth"
"""What pytorchvideo calls the weights."""
DEPENDENCY_PURPOSE = "make features of the picture with I3D-R50"


class I3DR50(nn.Module):
    """The network without its classifier."""

    def __init__(self) -> None:
        """Let pytorchvideo build it, with random weights.

        Raises:
            MissingDependencyError: pytorchvideo, or torchvision, is not installed.
        """
        super().__init__()
        hub = _import_pytorchvideo_hub()
        self.network: Any = hub.i3d_r50(pretrained=False)

    def forward(self, frames: Tensor) -> Tensor:
        """A row of features for eight pictures.

        Args:
            frames: ``(batch, 3, 8, 256, 256)``, 0..1.

        Returns:
            ``(batch, 2048)``: what the classifier is shown, so that its linear layer would make
            the network's own scores of it.
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
    """The user's weights, or those that lie where they were put, or pytorchvideo's own.

    Args:
        user_path: a file; None looks into the cache, and where torch's hub keeps its own, and
            then asks the network.
        offline: whether the network may not be asked.
        reporter: whom to tell.

    Returns:
        the file, and its SHA-256: nobody here has seen it, so it is noted when it is first
        loaded. The user's own file may become another, which is told of; a fetched one not.

    Raises:
        WeightsError: there are none, or they are not those that were noted.
    """
    if user_path is not None:
        if not user_path.is_file():
            raise WeightsError(
                f"no weights {printable_path(user_path)}",
                hint="give the state dict of an I3D-R50",
            )
        seen = fingerprint_file(user_path)
        for text in seen.warnings:
            reporter.warn(text)
        return seen
    ours = cache_home() / "weights" / WEIGHTS_FILE_NAME
    torchs = Path(torch.hub.get_dir()) / "checkpoints" / WEIGHTS_FILE_NAME
    place = next((path for path in (ours, torchs) if path.is_file()), ours)
    if not place.is_file():
        url = str(_import_pytorchvideo_hub("resnet").checkpoint_paths["i3d_r50"])
        download_file(
            url,
            place,
            sha256=read_recorded_sha256(place),
            manual_hint=f"put the file of {url} at {place}, or name it: i3d-r50=FILE",
            offline=offline,
            reporter=reporter,
        )
    seen = fingerprint_file(place)
    if seen.warnings:
        raise WeightsError(
            seen.warnings[0],
            hint=f"remove it and it is fetched anew; if it is right, remove {fingerprint_record_path(place)}",
        )
    return seen


def load_i3d_r50(identity: FileFingerprint, *, device: torch.device) -> I3DR50:
    """The network with weights of pytorchvideo's form.

    Args:
        identity: of `find_i3d_r50_weights`.
        device: where to put it.

    Raises:
        MissingDependencyError: pytorchvideo is not installed.
        WeightsError: the file is none, or of another network, or has learned nothing.
    """
    network = I3DR50()
    expected = network.network.state_dict()
    state = read_state_dict(
        identity.path,
        hint=f"give pytorchvideo's {WEIGHTS_FILE_NAME}, or a state dict",
        nested_key="model_state",
    )
    plain = {key.removeprefix("module."): value for key, value in state.items()}
    check_state_dict(plain, expected, identity.path)
    check_trained(plain, identity.path)
    network.network.load_state_dict(plain)
    if not identity.is_recorded:
        record_fingerprint(identity)
    return network.to(device).eval().requires_grad_(False)


def _import_pytorchvideo_hub(submodule: str = "") -> Any:
    """The models of pytorchvideo, whose import warns of things of its own."""
    name = "pytorchvideo.models.hub" + (f".{submodule}" if submodule else "")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import_optional("torchvision", extra="visual", purpose=DEPENDENCY_PURPOSE)
        return import_optional(name, extra="visual", purpose=DEPENDENCY_PURPOSE)
