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
from loris_cli.system.atomic_files import printable
from loris_cli.system.downloads import fetch
from loris_cli.system.file_fingerprints import Identity, identify, note, note_of, noted_sha256
from loris_cli.system.optional_packages import require
from loris_cli.system.progress import Reporter
from loris_cli.system.state_dict_files import check_seen, check_state, read_state

FEATURES = 2048
SIDE_PX = 256
MEAN, DEVIATION = 0.45, 0.225
"""Of all three colours, 0..1, in pytorchvideo's tutorial for the models of its hub."""

PICTURES = 8
FPS = 10.0
APART = 3
"""Pictures between one of a row and the next: pytorchvideo spreads eight evenly over 64 frames
at 30 a second, the first and the last among them, which is every ninth, or 0.3 s."""

FILE = "I3D_8x8_R50.pyth"
"""What pytorchvideo calls the weights."""
PURPOSE = "make features of the picture with I3D-R50"


class I3DR50(nn.Module):
    """The network without its classifier."""

    def __init__(self) -> None:
        """Let pytorchvideo build it, with random weights.

        Raises:
            MissingDependencyError: pytorchvideo, or torchvision, is not installed.
        """
        super().__init__()
        hub = _hub()
        self.network: Any = hub.i3d_r50(pretrained=False)

    def forward(self, pictures: Tensor) -> Tensor:
        """A row of features for eight pictures.

        Args:
            pictures: ``(batch, 3, 8, 256, 256)``, 0..1.

        Returns:
            ``(batch, 2048)``: what the classifier is shown, so that its linear layer would make
            the network's own scores of it.
        """
        *blocks, head = self.network.blocks.children()
        x = (pictures - MEAN) / DEVIATION
        for block in blocks:
            x = block(x)
        rows: Tensor = head.pool(x).mean(dim=(2, 3, 4))
        return rows


def weights_file(given: Path | None, *, offline: bool, reporter: Reporter) -> Identity:
    """The user's weights, or those that lie where they were put, or pytorchvideo's own.

    Args:
        given: a file; None looks into the cache, and where torch's hub keeps its own, and
            then asks the network.
        offline: whether the network may not be asked.
        reporter: whom to tell.

    Returns:
        the file, and its SHA-256: nobody here has seen it, so it is noted when it is first
        loaded. The user's own file may become another, which is told of; a fetched one not.

    Raises:
        WeightsError: there are none, or they are not those that were noted.
    """
    if given is not None:
        if not given.is_file():
            raise WeightsError(
                f"no weights {printable(given)}", hint="give the state dict of an I3D-R50"
            )
        seen = identify(given)
        for text in seen.warnings:
            reporter.warn(text)
        return seen
    ours = cache_home() / "weights" / FILE
    torchs = Path(torch.hub.get_dir()) / "checkpoints" / FILE
    place = next((path for path in (ours, torchs) if path.is_file()), ours)
    if not place.is_file():
        url = str(_hub("resnet").checkpoint_paths["i3d_r50"])
        fetch(
            url,
            place,
            sha256=noted_sha256(place),
            instead=f"put the file of {url} at {place}, or name it: i3d-r50=FILE",
            offline=offline,
            reporter=reporter,
        )
    seen = identify(place)
    if seen.warnings:
        raise WeightsError(
            seen.warnings[0],
            hint=f"remove it and it is fetched anew; if it is right, remove {note_of(place)}",
        )
    return seen


def load_i3d_r50(seen: Identity, *, device: torch.device) -> I3DR50:
    """The network with weights of pytorchvideo's form.

    Args:
        seen: of `weights_file`.
        device: where to put it.

    Raises:
        MissingDependencyError: pytorchvideo is not installed.
        WeightsError: the file is none, or of another network, or has learned nothing.
    """
    network = I3DR50()
    expected = network.network.state_dict()
    state = read_state(
        seen.path, hint=f"give pytorchvideo's {FILE}, or a state dict", inside="model_state"
    )
    plain = {key.removeprefix("module."): value for key, value in state.items()}
    check_state(plain, expected, seen.path)
    check_seen(plain, seen.path)
    network.network.load_state_dict(plain)
    if not seen.noted:
        note(seen)
    return network.to(device).eval().requires_grad_(False)


def _hub(part: str = "") -> Any:
    """The models of pytorchvideo, whose import warns of things of its own."""
    name = "pytorchvideo.models.hub" + (f".{part}" if part else "")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        require("torchvision", extra="visual", purpose=PURPOSE)
        return require(name, extra="visual", purpose=PURPOSE)
