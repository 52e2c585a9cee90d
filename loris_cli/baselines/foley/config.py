"""Configuration of Foley Music: sizes of publication and compact network."""

import math
from dataclasses import dataclass
from typing import Literal

from loris_cli.models.stgcn import N_JOINTS

WINDOW_S = 6.0
"""Duration of a window (released configuration)."""
POSE_RATE_HZ = 22
N_POSE_FRAMES = 132
"""Pose frames of a window: 6 s at 22 Hz (released configuration)."""
DROPOUT = 0.1
MAX_UNITS, MAX_LAYERS = 16, 24
MAX_CHANNELS, MAX_FEATURES, MAX_FF_FEATURES, MAX_EVENTS = 512, 2048, 4096, 2048
MAX_UNIT_STRIDE = 4


@dataclass(frozen=True, kw_only=True)
class FoleyConfig:
    """Sizes and compatibility mode. The defaults are the sizes of the released code."""

    unit_channels: tuple[int, ...] = (64, 64, 64, 64, 128, 128, 128, 256, 256, 256)
    """Output channels of each unit of the ST-GCN."""
    unit_strides: tuple[int, ...] = (1, 1, 1, 1, 2, 1, 1, 2, 1, 1)
    """Temporal stride of each unit."""
    n_joints: int = N_JOINTS
    """Joints of a pose: 17, those of COCO (docs/differences.md, F1)."""
    features: int = 512
    """Width of the decoder and of the pose tokens."""
    n_layers: int = 6
    heads: int = 8
    ff_features: int = 1024
    """Width of the hidden layer of the feed-forward networks."""
    max_events: int = 512
    """Maximum number of events of a window."""
    compat: Literal["paper", "official"] = "paper"
    """``official`` keeps the defects of the released code (docs/differences.md, F3 to F13)."""

    def __post_init__(self) -> None:
        """Check the sizes.

        Raises:
            ValueError: sizes out of range or inconsistent.
        """
        if not 1 <= len(self.unit_channels) == len(self.unit_strides) <= MAX_UNITS:
            raise ValueError("unit_channels and unit_strides need the same length, 1 to 16")
        if not all(1 <= c <= MAX_CHANNELS for c in self.unit_channels):
            raise ValueError(f"unit_channels out of range: {self.unit_channels}")
        if not all(1 <= stride <= MAX_UNIT_STRIDE for stride in self.unit_strides):
            raise ValueError(f"unit_strides out of range: {self.unit_strides}")
        if self.n_joints != N_JOINTS:
            raise ValueError(f"n_joints must be {N_JOINTS}, got {self.n_joints}")
        limits = {
            "features": MAX_FEATURES,
            "n_layers": MAX_LAYERS,
            "heads": self.features,
            "ff_features": MAX_FF_FEATURES,
            "max_events": MAX_EVENTS,
        }
        for name, limit in limits.items():
            if not 1 <= getattr(self, name) <= limit:
                raise ValueError(f"{name} out of range: {getattr(self, name)}")
        if self.features % self.heads or self.features % 2:
            raise ValueError("features must be even and a multiple of heads")
        if self.compat not in ("paper", "official"):
            raise ValueError(f"unknown compat: {self.compat}")

    @property
    def n_pose_tokens(self) -> int:
        """Number of pose tokens of a window; 33 at the sizes of the publication."""
        n_tokens = N_POSE_FRAMES
        for stride in self.unit_strides:
            n_tokens = math.ceil(n_tokens / stride)
        return n_tokens


FULL_CONFIG = FoleyConfig()
COMPACT_CONFIG = FoleyConfig(
    unit_channels=(32, 32, 64, 64, 128, 128),
    unit_strides=(1, 1, 2, 1, 2, 1),
    features=256,
    n_layers=4,
    heads=8,
    ff_features=1024,
)
"""Network that can be trained on a CPU."""
