"""Features of a moving body by an ST-GCN: the paper's ablation "w/ M".

    poses -> nine units, each graph then time -> mean over joints -> 1x1 convolution -> tokens

After Yan et al., "Spatial Temporal Graph Convolutional Networks" (AAAI 2018), at the sizes of
the specification, 8. `encoders.MotionEncoder` is the small one that `mini` has.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from loris_cli.models.mini_encoders import N_JOINTS, build_partitioned_adjacency
from loris_cli.pose.keypoints import COCO_SKELETON

CENTER_JOINTS = (0,)
"""Joints in the middle of the body, as that code sees it: the nose."""
UNIT_CHANNELS_AND_STRIDES = (
    (64, 1), (64, 1), (64, 1), (64, 1), (128, 2), (128, 1), (128, 1), (256, 2), (256, 1),
)  # fmt: skip
"""Channels and stride of each unit."""
TEMPORAL_KERNEL_FRAMES = 9
"""Frames that a unit looks at."""
DROPOUT = 0.1


class StgcnUnit(nn.Module):
    """Each joint and its neighbours in three parts, then nine frames."""

    def __init__(
        self, in_channels: int, out_channels: int, *, stride: int, is_first: bool
    ) -> None:
        """Make a unit; the first has nothing to skip."""
        super().__init__()
        self.spread = nn.Conv2d(in_channels, 3 * out_channels, 1)
        self.along = nn.Sequential(
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
            nn.Conv2d(
                out_channels,
                out_channels,
                (TEMPORAL_KERNEL_FRAMES, 1),
                (stride, 1),
                (TEMPORAL_KERNEL_FRAMES // 2, 0),
            ),
            nn.BatchNorm2d(out_channels),
            nn.Dropout(DROPOUT),
        )
        self.skip: nn.Module | None = None
        if not is_first:
            plain = in_channels == out_channels and stride == 1
            self.skip = (
                nn.Identity()
                if plain
                else nn.Sequential(
                    nn.Conv2d(in_channels, out_channels, 1, (stride, 1)),
                    nn.BatchNorm2d(out_channels),
                )
            )

    def forward(self, x: Tensor, graph: Tensor) -> Tensor:
        """``(batch, inside, frames, 17)`` to ``(batch, outside, frames / stride, 17)``."""
        batch, _, frames, joints = x.shape
        parts = self.spread(x).reshape(batch, 3, -1, frames, joints)
        seen: Tensor = self.along(torch.einsum("bpctj,pij->bcti", parts, graph))
        return functional.relu(seen if self.skip is None else seen + self.skip(x))


class PaperMotionEncoder(nn.Module):
    """A moving body as tokens of a width."""

    graph: Tensor

    def __init__(self, features: int) -> None:
        """Make the nine units, with random weights."""
        super().__init__()
        with torch.device("cpu"):  # known, not learned
            self.register_buffer(
                "graph",
                build_partitioned_adjacency(COCO_SKELETON, CENTER_JOINTS),
                persistent=False,
            )
        inside = [3, *(channels for channels, _ in UNIT_CHANNELS_AND_STRIDES)]
        self.units = nn.ModuleList(
            StgcnUnit(inside[k], channels, stride=stride, is_first=k == 0)
            for k, (channels, stride) in enumerate(UNIT_CHANNELS_AND_STRIDES)
        )
        self.importance = nn.ParameterList(
            [nn.Parameter(torch.ones(3, N_JOINTS, N_JOINTS)) for _ in UNIT_CHANNELS_AND_STRIDES]
        )
        self.out = nn.Conv1d(UNIT_CHANNELS_AND_STRIDES[-1][0], features, 1)

    def forward(self, pose: Tensor, n_tokens: int) -> Tensor:
        """Tokens to attend to.

        Args:
            pose: x, y and score of each joint, ``(batch, frames, 17, 3)`` at 16 Hz.
            n_tokens: wanted; an eighth of the frames in the paper's sizes.

        Returns:
            ``(batch, n_tokens, features)``
        """
        x = pose.permute(0, 3, 1, 2)
        for unit, importance in zip(self.units, self.importance, strict=True):
            x = unit(x, self.graph * importance)
        tokens: Tensor = functional.adaptive_avg_pool1d(self.out(x.mean(dim=3)), n_tokens)
        return tokens.transpose(1, 2)
