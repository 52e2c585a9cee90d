"""Sizes of the paper's network, its two variants, and the switches of the paper's ablations."""

import math
from dataclasses import dataclass, replace
from typing import Literal

from loris_cli.config import POSE_FPS, SAMPLE_RATE_HZ
from loris_cli.models.unet_config import UNetConfig

HawkesPhase = Literal["interval", "constant", "kernel", "none"]


@dataclass(frozen=True, kw_only=True)
class PaperConfig(UNetConfig):
    """Sizes (paper, 4.1), variants, and ablations.

    The variant ``official`` is what the released weights were trained with, ``paper`` what the
    text describes.
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
    """Width of the condition tokens."""
    visual_features: int = 1024
    """Width of a row of visual features: 1024 of the Inception I3D, 2048 of I3D-R50."""
    n_visual_frames: int = 50
    """Rows of video features, 2 a second."""
    n_pose_frames: int = 400
    """Pose frames, 16 a second; the rhythm has two fewer."""
    n_genres: int = 0
    """10 for dance; 0 without genre conditioning."""
    compat: Literal["paper", "official"] = "paper"
    """How poses and rhythm are prepared, and how long the audio of a clip is."""
    visual_projection: Literal["lstm", "linear", "none"] = "lstm"
    """Encoder of video features; linear is the ablation w/o LSTM, none w/o V."""
    motion_encoder: bool = False
    """Features of an ST-GCN on the poses, added to those of the video: the ablation w/ M."""
    rhythm_conditioning: Literal["attention", "multiply", "none"] = "attention"
    """Rhythm conditioning; multiply is the ablation w/ rhymul, none w/o R."""
    shared_rhythm_encoder: bool = False
    """One rhythm encoder for all blocks instead of one in each (M4): 235 M parameters fewer."""
    aligned_rhythm: bool = False
    """The rhythm a second time, as channels aligned with the audio."""
    hawkes_phase: HawkesPhase = "interval"
    """What shifts the phase of a position (Eq. 9): the time since the last peak, a constant
    (the released code), a sum of decaying traces of peaks, or nothing (w/o Hawkes)."""
    positional_encoding: bool = True
    """False is the ablation w/o PE."""
    rhythm_embedding_scale: float = 1.0
    """Scale of the rhythm embedding; the released code has the root of its width, 32 (M3)."""
    null_rhythm: Literal["learned", "onehot"] = "learned"
    """Null rhythm of guidance: learned values in 0..1, or, as in the released code, one peak
    where an untrained parameter is largest (M9)."""
    lstm_initial_state: Literal["zeros", "noise"] = "zeros"
    """Initial state of the Bi-LSTM; noise in the released code, at every call (M7)."""

    def __post_init__(self) -> None:
        """Check that an aligned rhythm comes with rhythm conditioning."""
        if self.aligned_rhythm and self.rhythm_conditioning == "none":
            raise ValueError("an aligned rhythm needs a rhythm")

    @property
    def clip_duration_s(self) -> float:
        """Seconds of video in one clip of the network."""
        return self.n_pose_frames / POSE_FPS

    @property
    def n_samples(self) -> int:
        """Audio samples of a clip.

        As many as cover the clip; in the released variant the largest power of two within it,
        which leaves out the last second or two (D6).
        """
        n_samples = self.clip_duration_s * SAMPLE_RATE_HZ
        if self.compat == "official":
            return int(2 ** math.floor(math.log2(n_samples)))
        return math.ceil(n_samples / self.stride) * self.stride

    @property
    def has_visual_tokens(self) -> bool:
        """Whether the condition has tokens of video or motion."""
        return self.visual_projection != "none" or self.motion_encoder


def to_official_config(config: PaperConfig) -> PaperConfig:
    """Return the same sizes in the variant of the released weights."""
    return replace(
        config,
        compat="official",
        hawkes_phase="constant",
        rhythm_embedding_scale=math.sqrt(config.context_features),
        null_rhythm="onehot",
        lstm_initial_state="noise",
    )
