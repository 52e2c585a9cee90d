"""Configuration of the paper's network: sizes, compatibility mode, ablations."""

import math
from dataclasses import dataclass, replace
from typing import Literal

from loris_cli.config import POSE_FPS, SAMPLE_RATE_HZ
from loris_cli.models.unet_config import UNetConfig

RHYTHM_SUBFRAMES = 8
"""Aligned rhythm values per frame of the first level; its group norms have 8 groups."""
MIN_CLIP_S = 0.5
"""Duration of a row of visual features, the grid of windows."""

HawkesPhase = Literal["interval", "constant", "kernel", "none"]


@dataclass(frozen=True, kw_only=True)
class PaperConfig(UNetConfig):
    """Sizes (paper, Sec. 5.1 and App. B.1), compatibility mode and ablations.

    The compatibility mode ``official`` is that of the released weights; ``paper`` follows the
    text.
    """

    in_channels: int = 2
    channels: int = 256
    patch_factor: int = 32
    multipliers: tuple[int, ...] = (1, 2, 4, 4, 4, 4, 4)
    factors: tuple[int, ...] = (4, 4, 4, 2, 2, 2)
    num_blocks: tuple[int, ...] = (2, 2, 2, 2, 2, 2)
    attentions: tuple[bool, ...] = (False, False, False, True, True, True)
    heads: int = 16
    head_features: int = 64
    context_features: int = 1024
    """Width of the conditioning tokens."""
    visual_features: int = 1024
    """Width of a row of visual features: 1024 for Inception I3D, 2048 for I3D-R50."""
    n_visual_frames: int = 50
    """Rows of visual features, 2 per second."""
    n_pose_frames: int = 400
    """Pose frames, 16 per second; the rhythm has two fewer steps."""
    n_genres: int = 0
    """10 for dance; 0 without genre conditioning."""
    compat: Literal["paper", "official", "strict"] = "paper"
    """Compatibility mode; selects the extraction of poses and rhythm, and the audio length of a
    clip. ``strict`` is ``paper`` with the peaks of Eq. 4 to 7 alone."""
    visual_projection: Literal["lstm", "linear", "none"] = "lstm"
    """Encoder of the visual features; linear is the ablation "w/o LSTM", none "w/o V"."""
    motion_encoder: bool = False
    """Append ST-GCN features of the poses to the visual features: the ablation "w/ M"."""
    rhythm_conditioning: Literal["attention", "multiply", "none"] = "attention"
    """Rhythm conditioning; multiply is the ablation "w/ rhymul", none "w/o R"."""
    shared_rhythm_encoder: bool = False
    """Share one rhythm encoder among all blocks instead of one per block, which saves 235 M
    parameters (docs/differences.md, M4)."""
    aligned_rhythm: bool = False
    """Also pass the rhythm to the U-Net as channels aligned with the audio."""
    hawkes_phase: HawkesPhase = "interval"
    """Phase offset of the positional encoding (Eq. 9): the time since the last peak, a constant
    (the released code, docs/differences.md, M1), a sum of decaying traces of the peaks, or none
    (the ablation "w/o Hawkes")."""
    positional_encoding: bool = True
    """False is the ablation "w/o PE"."""
    rhythm_embedding_scale: float = 1.0
    """Scale of the rhythm embedding; the released code uses the square root of its width, 32
    (docs/differences.md, M3)."""
    null_rhythm: Literal["learned", "onehot"] = "learned"
    """Null rhythm for guidance: learned values in 0..1, or a single peak at the arg-max of an
    untrained parameter, as in the released code (docs/differences.md, M9)."""
    lstm_initial_state: Literal["zeros", "noise"] = "zeros"
    """Initial state of the Bi-LSTM; the released code draws noise at every call
    (docs/differences.md, M7)."""

    def __post_init__(self) -> None:
        """Validate combinations of values.

        Raises:
            ValueError: they do not define a network.
        """
        super().__post_init__()
        if self.aligned_rhythm and self.rhythm_conditioning == "none":
            raise ValueError("aligned_rhythm requires rhythm_conditioning")
        if self.aligned_rhythm and self.patch_factor * self.factors[0] % RHYTHM_SUBFRAMES:
            raise ValueError(f"aligned_rhythm requires a stride of {RHYTHM_SUBFRAMES}")
        if self.context_features % 2:
            raise ValueError("context_features must be even")
        if self.in_channels > 2:
            raise ValueError("in_channels must be 1 or 2")
        if min(self.clip_duration_s, self.n_samples / SAMPLE_RATE_HZ) < MIN_CLIP_S:
            raise ValueError(f"clips must have at least {MIN_CLIP_S} s")
        if self.n_samples % self.stride:
            raise ValueError("the length of a clip is no multiple of the stride")

    @property
    def clip_duration_s(self) -> float:
        """Duration of a clip in seconds."""
        return self.n_pose_frames / POSE_FPS

    @property
    def n_samples(self) -> int:
        """Audio samples of a clip.

        The smallest valid length that covers the clip; in the compatibility mode ``official``
        the largest power of two within it, which omits the last one or two seconds
        (docs/differences.md, D6).
        """
        n_samples = self.clip_duration_s * SAMPLE_RATE_HZ
        if self.compat == "official":
            return int(2 ** math.floor(math.log2(n_samples)))
        return math.ceil(n_samples / self.stride) * self.stride

    @property
    def has_visual_tokens(self) -> bool:
        """Whether the condition has video or motion tokens."""
        return self.visual_projection != "none" or self.motion_encoder


def to_official_config(config: PaperConfig) -> PaperConfig:
    """Return a configuration of the same sizes in the compatibility mode ``official``."""
    return replace(
        config,
        compat="official",
        hawkes_phase="constant",
        rhythm_embedding_scale=math.sqrt(config.context_features),
        null_rhythm="onehot",
        lstm_initial_state="noise",
    )
