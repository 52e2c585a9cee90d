"""Sizes of the CDCD network, ``full`` as published and ``compact`` for a CPU."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from loris_cli.baselines.d2mgan.config import MOTION_KERNELS
from loris_cli.baselines.learned_method import Compat, NetworkSize
from loris_cli.baselines.windows import VISUAL_ROWS_PER_S
from loris_cli.config import GENRES, POSE_FPS, SAMPLE_RATE_HZ

TOKEN_HOP_SAMPLES = 128
"""Samples per token: the top level of the Jukebox VQ-VAE in the release."""
N_CHUNKS = 8
"""Chunks of a token sequence that are permuted for a negative sample."""
MOTION_WIDTH = 17 * 4
"""Features of a motion frame: position and velocity of 17 joints."""
OFFICIAL_MOTION_FPS = 60
"""Rate of the motion in the release."""
N_GENRES = len(GENRES) + 1
"""Genres of loris, and one class for an unknown genre."""
DILATIONS = (1, 3, 9, 27)
"""Dilations of the residual blocks of the motion encoders."""
MIN_MOTION_HIDDEN = 48
"""Below it, the reflection padding of the one-token motion encoder exceeds its input."""
_LIMITS: Mapping[str, tuple[int, int]] = {
    "n_codes": (2, 4096), "n_tokens": (N_CHUNKS, 4096), "n_steps": (2, 1000),
    "n_sampling_steps": (1, 1000), "width": (4, 2048), "depth": (1, 48), "heads": (1, 64),
    "tokens_per_position": (1, 16), "motion_features": (1, 4096),
    "motion_hidden": (MIN_MOTION_HIDDEN, 4096), "visual_width": (0, 4096),
    "genre_features": (1, 1024), "n_negatives": (0, 64),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class CdcdConfig:
    """Sizes of the network; the defaults are those of the publication but for ``compat``."""

    compat: Compat = "paper"
    """``official``: one condition token from untrained encoders (docs/differences.md, X1 and
    X2). ``paper``: a condition token per frame, all encoders trained."""
    n_codes: int = 2048
    """Codes of the VQ-VAE."""
    n_tokens: int = 1033
    """Tokens of a window: 6 s at 128 samples per token."""
    n_steps: int = 80
    """Diffusion steps."""
    n_sampling_steps: int = 80
    """Steps of generation; if there are fewer than ``n_steps``, steps are skipped
    (docs/differences.md, X6)."""
    width: int = 1024
    depth: int = 19
    heads: int = 16
    tokens_per_position: int = 1
    """Neighbouring tokens that share a position of the transformer; 1 in the publication
    (docs/differences.md, X8)."""
    motion_features: int = 1024
    """Features of the encoded motion."""
    motion_hidden: int = 800
    """Width of a motion frame after the first linear layer, ``official`` only."""
    motion_channels: tuple[int, ...] = (512, 512, 1024)
    """Channels of the three stages of the motion encoder; ``paper`` uses the last."""
    visual_width: int = 0
    """Width of the visual features; 0 for none."""
    genre_features: int = 256
    n_negatives: int = 10
    """Negative samples per example of the contrastive loss; 0 disables that loss."""

    def __post_init__(self) -> None:
        """Check the sizes.

        Raises:
            ValueError: a size is out of range, or two sizes do not fit.
        """
        for name, (low, high) in _LIMITS.items():
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name} is not between {low} and {high}")
        if self.width % (2 * self.heads):
            raise ValueError("width is not an even multiple of heads")
        if self.n_sampling_steps > self.n_steps:
            raise ValueError("n_sampling_steps exceeds n_steps")
        if len(self.motion_channels) != 3:
            raise ValueError("motion_channels does not have three values")
        if not all(1 <= channels <= 4096 for channels in self.motion_channels):
            raise ValueError("motion_channels is out of range")

    @property
    def window_s(self) -> float:
        """Return the duration of a window in seconds."""
        return self.n_tokens * TOKEN_HOP_SAMPLES / SAMPLE_RATE_HZ

    @property
    def motion_width(self) -> int:
        """Return the number of features of a motion frame."""
        return MOTION_WIDTH

    @property
    def n_motion_frames(self) -> int:
        """Return the number of motion frames of a window."""
        rate_hz = OFFICIAL_MOTION_FPS if self.compat == "official" else POSE_FPS
        return max(round(self.window_s * rate_hz), 1)

    @property
    def n_blocks(self) -> int:
        """Return the number of residual blocks after each convolution of the motion encoder."""
        return len(DILATIONS)

    @property
    def motion_length(self) -> int:
        """Return the length of the output of the motion encoder's convolutions."""
        return self.motion_hidden - sum(kernel - 1 for kernel in MOTION_KERNELS)

    @property
    def n_visual_rows(self) -> int:
        """Return the number of rows of visual features of a window."""
        return math.ceil(self.window_s * VISUAL_ROWS_PER_S)

    @property
    def n_positions(self) -> int:
        """Return the number of positions of the transformer."""
        return math.ceil(self.n_tokens / self.tokens_per_position)


CONFIGS: Mapping[NetworkSize, CdcdConfig] = {
    "full": CdcdConfig(visual_width=2048),
    "compact": CdcdConfig(
        width=256,
        depth=8,
        heads=4,
        tokens_per_position=4,
        n_sampling_steps=25,
        motion_features=256,
        motion_hidden=128,
        motion_channels=(64, 64, 128),
        genre_features=64,
    ),
}
