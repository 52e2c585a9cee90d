"""Motion encoders: ST-GCN features of poses.

    poses -> units of graph and temporal convolution -> mean over joints -> tokens

After Yan et al., "Spatial Temporal Graph Convolutional Networks" (AAAI 2018): nine units for
the paper's ablation "w/ M", three for ``mini``.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from loris_cli.pose.keypoints import COCO_SKELETON

N_JOINTS = 17
CENTER_JOINTS = (0,)
"""Center of the skeleton in the reference code: the nose."""
MINI_CENTER_JOINTS = (11, 12)
MINI_SKELETON_EDGES = (
    *(edge for edge in COCO_SKELETON if edge not in ((1, 2), (3, 5), (4, 6))), (0, 5), (0, 6),
)  # fmt: skip
"""Skeleton of ``mini`` with 18 edges: shoulders are connected to the nose, not the ears."""
UNIT_CHANNELS_AND_STRIDES = (
    (64, 1), (64, 1), (64, 1), (64, 1), (128, 2), (128, 1), (128, 1), (256, 2), (256, 1),
)  # fmt: skip
"""Output channels and temporal stride of each unit."""
TEMPORAL_KERNEL_FRAMES = 9
"""Temporal kernel size of a unit."""
DROPOUT = 0.1


def build_adjacency(edges: Sequence[tuple[int, int]], center_joints: Sequence[int]) -> Tensor:
    """Return the adjacency matrices of a skeleton in three partitions: self, inward, outward.

    Spatial configuration partitioning (Yan et al., 2018, Sec. 3.3). The inward partition has
    the neighbours that are nearer to the center than the joint, the outward partition all
    others. Each nonzero row sums to one.

    Args:
        edges: pairs of neighbouring joints.
        center_joints: joints at the center of the skeleton.

    Returns:
        ``(3, 17, 17)``; entry ``[p, i, j]`` is the weight of joint ``j`` for joint ``i``.
    """
    neighbours = torch.zeros(N_JOINTS, N_JOINTS)
    for a, b in edges:
        neighbours[a, b] = neighbours[b, a] = 1
    hops = torch.full((N_JOINTS,), torch.inf)
    hops[list(center_joints)] = 0
    for _ in range(N_JOINTS):
        for a, b in edges:
            hops[a], hops[b] = min(hops[a], hops[b] + 1), min(hops[b], hops[a] + 1)
    inwards = neighbours * (hops[None] < hops[:, None])
    outwards = neighbours * (hops[None] >= hops[:, None])
    graph = torch.stack([torch.eye(N_JOINTS), inwards, outwards])
    return graph / graph.sum(dim=2, keepdim=True).clamp(min=1)


def convolve_graph(x: Tensor, graph: Tensor) -> Tensor:
    """Return the weighted sum over partitions and neighbouring joints.

    Args:
        x: features of each partition, ``(batch, 3 * channels, frames, 17)``.
        graph: adjacency matrices from `build_adjacency`.

    Returns:
        ``(batch, channels, frames, 17)``
    """
    return torch.einsum("bpctj,pij->bcti", x.reshape(len(x), 3, -1, *x.shape[2:]), graph)


class StgcnUnit(nn.Module):
    """Unit of the paper's ST-GCN: graph convolution, then convolution over nine frames."""

    def __init__(
        self, in_channels: int, out_channels: int, *, stride: int, is_first: bool
    ) -> None:
        """Build a unit; the first has no residual connection."""
        super().__init__()
        kernel = TEMPORAL_KERNEL_FRAMES
        self.spread = nn.Conv2d(in_channels, 3 * out_channels, 1)
        self.along = nn.Sequential(
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
            nn.Conv2d(out_channels, out_channels, (kernel, 1), (stride, 1), (kernel // 2, 0)),
            nn.BatchNorm2d(out_channels),
            nn.Dropout(DROPOUT),
        )
        self.skip: nn.Module | None = None
        if not is_first and in_channels == out_channels and stride == 1:
            self.skip = nn.Identity()
        elif not is_first:
            conv = nn.Conv2d(in_channels, out_channels, 1, (stride, 1))
            self.skip = nn.Sequential(conv, nn.BatchNorm2d(out_channels))

    def forward(self, x: Tensor, graph: Tensor) -> Tensor:
        """Map ``(batch, in, frames, 17)`` to ``(batch, out, frames / stride, 17)``."""
        out: Tensor = self.along(convolve_graph(self.spread(x), graph))
        return functional.relu(out if self.skip is None else out + self.skip(x))


class PaperMotionEncoder(nn.Module):
    """Motion encoder of the ablation "w/ M", and, with other units, of Foley Music."""

    graph: Tensor

    def __init__(
        self, features: int, units: Sequence[tuple[int, int]] = UNIT_CHANNELS_AND_STRIDES
    ) -> None:
        """Build the units with random weights.

        Args:
            features: width of the tokens.
            units: output channels and temporal stride of each unit.
        """
        super().__init__()
        with torch.device("cpu"):  # constant, not in checkpoints, so not on "meta"
            graph = build_adjacency(COCO_SKELETON, CENTER_JOINTS)
        self.register_buffer("graph", graph, persistent=False)
        in_channels = (3, *(channels for channels, _ in units))
        self.units = nn.ModuleList(
            StgcnUnit(in_channels[k], channels, stride=stride, is_first=k == 0)
            for k, (channels, stride) in enumerate(units)
        )
        self.importance = nn.ParameterList(
            nn.Parameter(torch.ones(3, N_JOINTS, N_JOINTS)) for _ in units
        )
        self.out = nn.Conv1d(in_channels[-1], features, 1)

    def forward(self, pose: Tensor, n_tokens: int) -> Tensor:
        """Return tokens for cross-attention.

        Args:
            pose: x, y and score of each joint, ``(batch, frames, 17, 3)``; at 16 Hz for the
                ablation.
            n_tokens: number of tokens.

        Returns:
            ``(batch, n_tokens, features)``
        """
        x = pose.permute(0, 3, 1, 2)
        for unit, importance in zip(self.units, self.importance, strict=True):
            x = unit(x, self.graph * importance)
        tokens: Tensor = functional.adaptive_avg_pool1d(self.out(x.mean(dim=3)), n_tokens)
        return tokens.transpose(1, 2)


class MiniStgcnUnit(nn.Module):
    """Unit of ``mini``'s ST-GCN: graph convolution, then convolution over five frames."""

    graph: Tensor

    def __init__(self, in_channels: int, out_channels: int, *, stride: int) -> None:
        """Build a unit with a temporal stride."""
        super().__init__()
        with torch.device("cpu"):  # constant, as in `PaperMotionEncoder`
            graph = build_adjacency(MINI_SKELETON_EDGES, MINI_CENTER_JOINTS)
        self.register_buffer("graph", graph, persistent=False)
        self.spread = nn.Conv2d(in_channels, 3 * out_channels, 1)
        self.norm = nn.GroupNorm(4, out_channels)
        self.along = nn.Conv2d(out_channels, out_channels, (5, 1), (stride, 1), (2, 0))
        self.skip = nn.Conv2d(in_channels, out_channels, 1, (stride, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(batch, in, frames, 17)`` to ``(batch, out, frames / stride, 17)``."""
        h = self.norm(convolve_graph(self.spread(x), self.graph))
        out: Tensor = self.along(functional.gelu(h)) + self.skip(x)
        return functional.gelu(out)


class MiniMotionEncoder(nn.Module):
    """Motion encoder of ``mini``: tokens at 4 Hz from three units.

    The paper's motion features come from an ST-GCN pretrained for action recognition, which is
    not available. This encoder is small and trained jointly with the denoiser.
    """

    def __init__(self, features: int, *, width: int) -> None:
        """Build an encoder for tokens of width ``features``."""
        super().__init__()
        self.blocks = nn.Sequential(
            MiniStgcnUnit(3, width, stride=1),
            MiniStgcnUnit(width, 2 * width, stride=2),
            MiniStgcnUnit(2 * width, 2 * width, stride=2),
        )
        self.out = nn.Linear(2 * width, features)

    def forward(self, pose: Tensor) -> Tensor:
        """Return tokens for cross-attention.

        Args:
            pose: x and y relative to the median position, in heights of the performer, and the
                score, ``(batch, frames, 17, 3)`` at 16 Hz.

        Returns:
            ``(batch, frames / 4, features)``, rounded up.
        """
        h = self.blocks(pose.permute(0, 3, 1, 2)).mean(dim=3)
        tokens: Tensor = self.out(h.transpose(1, 2))
        return tokens
