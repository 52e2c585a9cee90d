"""What becomes of the conditions before the U-Net attends to them (paper, Sec. 3.3).

peaks -> tokens with Hawkes positions;  joints of a body -> graph convolutions -> tokens
"""

from collections.abc import Sequence

import torch
from audio_diffusion_pytorch.modules import TransformerBlock1d
from torch import Tensor, nn
from torch.nn import functional


def sinusoid_frequencies(features: int) -> Tensor:
    """Of the sinusoids of a position of this width, ``(features / 2,)`` (Eq. 9)."""
    frequency: Tensor = 10_000.0 ** -(torch.arange(0, features, 2) / features)
    return frequency


class MiniHawkesEncoding(nn.Module):
    """A sinusoid of position, its phase shifted by the time since the last peak (Eq. 9).

    Sines first, then cosines: the layout of the released checkpoints. They were trained on
    a constant interval of one, which says nothing of the peaks; ours is the one the text asks
    for, the seconds since the last peak.
    """

    frequencies: Tensor

    def __init__(self, features: int) -> None:
        """Make the sinusoid of a width, which is even."""
        super().__init__()
        self.register_buffer("frequencies", sinusoid_frequencies(features))
        self.Wt = nn.Linear(1, features // 2, bias=False)

    def forward(self, interval_s: Tensor) -> Tensor:
        """Positions ``(batch, tokens, features)`` from seconds ``(batch, tokens)``."""
        index = torch.arange(interval_s.shape[1], device=interval_s.device)
        phase = index[:, None] * self.frequencies + self.Wt(interval_s[..., None])
        return torch.cat([phase.sin(), phase.cos()], dim=-1)


class MiniRhythmEncoder(nn.Module):
    """Peaks as tokens: embedding, Hawkes position, one transformer block (Eq. 10).

    One encoder is shared by all blocks of the U-Net (the light option of the
    specification, M4); the embedding is not scaled up by the root of its width (M3),
    which would drown the positions.
    """

    def __init__(self, features: int, *, heads: int, head_features: int) -> None:
        """Make an encoder of tokens of a width."""
        super().__init__()
        self.embedding = nn.Embedding(2, features)
        self.pos_emb = MiniHawkesEncoding(features)
        self.transformer = TransformerBlock1d(
            channels=features, num_heads=heads, head_features=head_features, multiplier=2
        )

    def forward(self, peaks: Tensor, interval_s: Tensor) -> Tensor:
        """Tokens to attend to.

        Args:
            peaks: 1 where a peak is, else 0, ``(batch, tokens)`` at 16 Hz.
            interval_s: time since the last peak, ``(batch, tokens)``.

        Returns:
            ``(batch, tokens, features)``
        """
        tokens = self.embedding(peaks.long()) + self.pos_emb(interval_s)
        encoded: Tensor = self.transformer(tokens.transpose(1, 2)).transpose(1, 2)
        return encoded


MINI_SKELETON_EDGES = (
    (0, 1), (0, 2), (1, 3), (2, 4), (0, 5), (0, 6), (5, 6), (5, 7), (7, 9), (6, 8), (8, 10),
    (5, 11), (6, 12), (11, 12), (11, 13), (13, 15), (12, 14), (14, 16),
)  # fmt: skip
"""Pairs of joints of COCO-17 that are joined."""
N_JOINTS = 17


HIP_JOINTS = (11, 12)


def build_partitioned_adjacency(
    edges: Sequence[tuple[int, int]] = MINI_SKELETON_EDGES,
    center_joints: Sequence[int] = HIP_JOINTS,
) -> Tensor:
    """The graph of a body in three parts: each joint itself, inwards, outwards.

    The spatial configuration of ST-GCN (Yan et al., 2018, Sec. 3.3): neighbours nearer to the
    middle of the body than the joint, and neighbours farther away; each row sums to one.

    Args:
        edges: pairs of joints that are joined.
        center_joints: joints that are the middle.

    Returns:
        ``(3, 17, 17)``; entry ``[p, i, j]`` is how much of joint ``j`` reaches joint ``i``.
    """
    joined = torch.zeros(N_JOINTS, N_JOINTS)
    for a, b in edges:
        joined[a, b] = joined[b, a] = 1
    hops = torch.full((N_JOINTS,), torch.inf)
    hops[list(center_joints)] = 0
    for _ in range(N_JOINTS):
        for a, b in edges:
            hops[a], hops[b] = min(hops[a], hops[b] + 1), min(hops[b], hops[a] + 1)
    inwards = joined * (hops[None] < hops[:, None])
    outwards = joined * (hops[None] >= hops[:, None])
    parts = torch.stack([torch.eye(N_JOINTS), inwards, outwards])
    return parts / parts.sum(dim=2, keepdim=True).clamp(min=1)


class MiniStgcnUnit(nn.Module):
    """Joints look at their neighbours, then along time: one ST-GCN unit."""

    graph: Tensor

    def __init__(self, in_channels: int, out_channels: int, *, stride: int) -> None:
        """Make a unit that keeps one frame in ``stride``."""
        super().__init__()
        with torch.device("cpu"):  # known, not learned: not in a checkpoint, nor ever "meta"
            self.register_buffer("graph", build_partitioned_adjacency(), persistent=False)
        self.spread = nn.Conv2d(in_channels, 3 * out_channels, 1)
        self.norm = nn.GroupNorm(4, out_channels)
        self.along = nn.Conv2d(out_channels, out_channels, (5, 1), (stride, 1), (2, 0))
        self.skip = nn.Conv2d(in_channels, out_channels, 1, (stride, 1))

    def forward(self, x: Tensor) -> Tensor:
        """``(batch, inside, frames, 17)`` to ``(batch, outside, frames / stride, 17)``."""
        batch, _, frames, joints = x.shape
        parts = self.spread(x).reshape(batch, 3, -1, frames, joints)
        seen = torch.einsum("bpctj,pij->bcti", parts, self.graph)
        out: Tensor = self.along(functional.gelu(self.norm(seen))) + self.skip(x)
        return functional.gelu(out)


class MiniMotionEncoder(nn.Module):
    """A moving body as tokens at 4 Hz, by an ST-GCN (Yan et al., 2018) of three units.

    The paper's features of motion are those of an ST-GCN trained to name actions, which is
    not to be had here; this one is small and learns with the rest.
    """

    def __init__(self, features: int, *, width: int) -> None:
        """Make an encoder of tokens of a width."""
        super().__init__()
        self.blocks = nn.Sequential(
            MiniStgcnUnit(3, width, stride=1),
            MiniStgcnUnit(width, 2 * width, stride=2),
            MiniStgcnUnit(2 * width, 2 * width, stride=2),
        )
        self.out = nn.Linear(2 * width, features)

    def forward(self, pose: Tensor) -> Tensor:
        """Tokens to attend to.

        Args:
            pose: x and y in body heights from the body's usual place and a score,
                ``(batch, frames, 17, 3)`` at 16 Hz.

        Returns:
            ``(batch, frames / 4, features)``, rounded up.
        """
        seen = self.blocks(pose.permute(0, 3, 1, 2)).mean(dim=3)
        tokens: Tensor = self.out(seen.transpose(1, 2))
        return tokens
