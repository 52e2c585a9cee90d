"""Sample rate, frame rate, style labels and data folders shared by all stages."""

import os
from pathlib import Path
from typing import Literal

from platformdirs import user_cache_path, user_data_path

SAMPLE_RATE_HZ = 22_050
"""Sample rate of all internal audio (paper, Sec. 4.1)."""

SAMPLES_PER_LATENT_FRAME = 1024
"""Samples per latent frame of ``mini``: four frames of its mel spectrogram."""
LATENT_FPS = SAMPLE_RATE_HZ / SAMPLES_PER_LATENT_FRAME
"""Latent frames per second of ``mini``."""

POSE_FPS = 16.0
"""Frame rate of all poses: 25 s are 400 frames, as in the paper's tensor shapes."""

GENRES = (
    "ballet-jazz", "lock", "waack", "middle-hip-hop", "break", "la-hip-hop", "street-jazz",
    "house", "pop", "krump", "floor", "skate",
)  # fmt: skip
"""Style labels: the ten AIST genres in the order of the paper's one-hot vector, two sports."""

BaselineName = Literal["foley", "cmt", "d2mgan", "cdcd"]
"""Trained baselines, in the order of the paper's tables."""

SamplerName = Literal["adpm2", "heun", "euler", "euler-ancestral", "dpmpp-2m", "dpmpp-2m-sde"]
"""Diffusion samplers (`loris_cli.models.diffusion`)."""

Precision = Literal["auto", "fp32", "bf16"]
"""Precision of networks; ``auto`` is bf16 on CUDA devices that support it, else fp32."""

DEFAULT_MMPOSE_CONFIG = "td-hm_hrnet-w48_8xb32-210e_coco-256x192"
"""mmpose configuration of the paper's pose estimator: HRNet-W48 trained on COCO."""


def data_home(override: Path | None = None) -> Path:
    """Return the data set folder: ``override``, ``LORIS_DATA`` or the user data folder."""
    if override is not None:
        return override
    folder = os.environ.get("LORIS_DATA")
    return Path(folder) if folder else user_data_path("loris", appauthor=False)


def cache_home() -> Path:
    """Return the cache folder: ``LORIS_CACHE`` or the user cache folder."""
    folder = os.environ.get("LORIS_CACHE")
    return Path(folder) if folder else user_cache_path("loris", appauthor=False)
