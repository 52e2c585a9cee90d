"""Inception I3D, whose features condition the released networks.

    frames at 16 fps -> 3-D convolutions -> spatial mean -> 2 rows per second

Carreira and Zisserman, "Quo Vadis, Action Recognition?" (CVPR 2017), Fig. 3: Inception-V1 with
all filters and pools inflated to three dimensions. Parameter names match the common PyTorch
conversion of the weights, so its files can be loaded; this project does not include them.
"""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from loris_cli.system.state_dict_files import check_state_dict, check_trained, read_state_dict

INPUT_SIZE_PX = 224

Size3D = tuple[int, int, int]
INCEPTION_FILTERS: dict[str, tuple[int, int, int, int, int, int]] = {
    "Mixed_3b": (64, 96, 128, 16, 32, 32),
    "Mixed_3c": (128, 128, 192, 32, 96, 64),
    "Mixed_4b": (192, 96, 208, 16, 48, 64),
    "Mixed_4c": (160, 112, 224, 24, 64, 64),
    "Mixed_4d": (128, 128, 256, 24, 64, 64),
    "Mixed_4e": (112, 144, 288, 32, 64, 64),
    "Mixed_4f": (256, 160, 320, 32, 128, 128),
    "Mixed_5b": (256, 160, 320, 32, 128, 128),
    "Mixed_5c": (384, 192, 384, 48, 128, 128),
}
"""Number of filters in each Inception module (Szegedy et al., 2015, Table 1)."""
POOLS_BEFORE_LAYER: dict[str, tuple[Size3D, Size3D]] = {
    "Conv3d_2b_1x1": ((1, 3, 3), (1, 2, 2)),
    "Mixed_3b": ((1, 3, 3), (1, 2, 2)),
    "Mixed_4b": ((3, 3, 3), (2, 2, 2)),
    "Mixed_5b": ((2, 2, 2), (2, 2, 2)),
}
"""Kernel size and stride of the max pools, by the name of the layer that follows."""
BATCH_NORM_EPS = 1e-3


def pad_same(x: Tensor, kernel_size: Size3D, stride: Size3D) -> Tensor:
    """Zero-pad like TensorFlow's "SAME" mode: any extra zero is added at the end.

    Args:
        x: ``(batch, channels, frames, rows, columns)``.
        kernel_size: kernel size of the convolution or pool that follows.
        stride: stride of the convolution or pool.
    """
    pads: list[int] = []
    for length, size, step in zip(x.shape[2:], kernel_size, stride, strict=True):
        total = max(size - (length % step or step), 0)
        pads = [total // 2, total - total // 2, *pads]
    return functional.pad(x, pads)


class Unit3D(nn.Module):
    """Convolution, batch norm, ReLU."""

    def __init__(self, in_channels: int, filters: int, size: int = 1, stride: int = 1) -> None:
        """Build a unit with a cubic kernel."""
        super().__init__()
        self.size, self.stride = (size,) * 3, (stride,) * 3
        self.conv3d = nn.Conv3d(in_channels, filters, size, stride, bias=False)
        self.bn = nn.BatchNorm3d(filters, eps=BATCH_NORM_EPS, momentum=0.01)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(batch, in, ...)`` to ``(batch, out, ...)``."""
        return functional.relu(self.bn(self.conv3d(pad_same(x, self.size, self.stride))))


class InceptionModule(nn.Module):
    """Inception module: four parallel branches."""

    def __init__(self, in_channels: int, filters: tuple[int, int, int, int, int, int]) -> None:
        """Build a module with these numbers of filters."""
        super().__init__()
        self.b0 = Unit3D(in_channels, filters[0])
        self.b1a, self.b1b = Unit3D(in_channels, filters[1]), Unit3D(filters[1], filters[2], 3)
        self.b2a, self.b2b = Unit3D(in_channels, filters[3]), Unit3D(filters[3], filters[4], 3)
        self.b3b = Unit3D(in_channels, filters[5])

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(batch, in, ...)`` to ``(batch, out, ...)`` at the same resolution."""
        pooled = functional.max_pool3d(pad_same(x, (3, 3, 3), (1, 1, 1)), 3, 1)
        branches = (self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(pooled))
        return torch.cat(branches, dim=1)


class InceptionI3D(nn.Module):
    """Inception I3D without its classifier."""

    def __init__(self) -> None:
        """Build the layers with random weights."""
        super().__init__()
        self.add_module("Conv3d_1a_7x7", Unit3D(3, 64, 7, 2))
        self.add_module("Conv3d_2b_1x1", Unit3D(64, 64))
        self.add_module("Conv3d_2c_3x3", Unit3D(64, 192, 3))
        in_channels = 192
        for name, filters in INCEPTION_FILTERS.items():
            self.add_module(name, InceptionModule(in_channels, filters))
            in_channels = filters[0] + filters[2] + filters[4] + filters[5]

    def forward(self, frames: Tensor) -> Tensor:
        """Return features, one row per 8 frames, rounded up.

        Args:
            frames: ``(batch, 3, frames, 224, 224)``, -1..1.

        Returns:
            ``(batch, rows, 1024)``. Each row is the spatial mean, averaged with that of the
            next row, as by the original 2 x 7 x 7 pool. The last row has no next row.
        """
        x = frames
        for name, layer in self.named_children():
            if name in POOLS_BEFORE_LAYER:
                size, stride = POOLS_BEFORE_LAYER[name]
                x = functional.max_pool3d(pad_same(x, size, stride), size, stride)
            x = layer(x)
        rows = x.mean(dim=(3, 4)).transpose(1, 2)
        after = torch.cat([rows[:, 1:], rows[:, -1:]], dim=1)
        return (rows + after) / 2


def load_inception_i3d(path: Path, *, device: torch.device) -> InceptionI3D:
    """Load the network from a state dict; the classifier is ignored.

    Raises:
        WeightsError: the file is not a state dict of this network, or is untrained.
    """
    state = read_state_dict(path, hint="pass an Inception I3D state dict, such as rgb_*.pt")
    plain = {key.removeprefix("module."): value for key, value in state.items()}
    trained = {key: value for key, value in plain.items() if not key.startswith("logits.")}
    network = InceptionI3D()
    expected = network.state_dict()
    # Older files lack the batch-norm counters, which inference does not use.
    counters = {key: value for key, value in expected.items() if key.endswith("_tracked")}
    check_state_dict(counters | trained, expected, path)
    check_trained(trained, path)
    network.load_state_dict(counters | trained)
    return network.to(device).eval().requires_grad_(False)
