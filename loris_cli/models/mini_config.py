"""Sizes of the U-Net of ``mini``; read without importing torch."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open

from loris_cli.models.condition_routes import Conditioning
from loris_cli.models.unet_config import UNetConfig

BUILTIN_MODELS = {"mini": Path(__file__).with_name("mini.safetensors")}
"""Files of the models bundled with the package, by name."""


@dataclass(frozen=True, kw_only=True)
class MiniDenoiserConfig(UNetConfig):
    """Sizes of the U-Net and its conditioning; 0 disables a condition."""

    latent_channels: int = 32
    rhythm_channels: int = 20
    harmony_channels: int = 0
    """32, or 0 without harmony conditioning."""
    motion_width: int = 0
    """Width of the motion encoder, or 0 for none."""
    note_latent_channels: int = 0
    """Channels of the note spectrogram's latents, or 0 without note conditioning."""
    trained_with_harmony: bool = True
    trained_with_notes: bool = True
    """These are False if no training clip had harmony or notes; generation then omits them."""
    alignment_channels: int = 64
    """Channels of the tokens attended to by time."""
    conditionings: tuple[Conditioning, ...] = ("score",)
    """Conditionings that the network was trained with."""
    n_genres: int = 12
    channels: int = 160
    multipliers: tuple[int, ...] = (1, 1, 2, 2)
    factors: tuple[int, ...] = (2, 2, 2)
    num_blocks: tuple[int, ...] = (2, 2, 2)
    attentions: tuple[bool, ...] = (False, True, True)
    heads: int = 5
    head_features: int = 32
    rhythm_features: int = 160
    window_frames: int = 256
    """Length of a training example and of a generation window, in latent frames."""


def read_builtin_config(name: str) -> MiniDenoiserConfig:
    """Return the sizes of a bundled model, from the header of its file.

    Args:
        name: a key of `BUILTIN_MODELS`.
    """
    with safe_open(BUILTIN_MODELS[name], framework="numpy") as file:
        values: dict[str, Any] = json.loads(file.metadata()["loris.denoiser"])
    values = {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}
    return MiniDenoiserConfig(**values)
