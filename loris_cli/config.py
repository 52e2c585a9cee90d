"""Rates and labels that all stages share, and the folders of data."""

import os
from pathlib import Path

from platformdirs import user_cache_path, user_data_path

SAMPLE_RATE_HZ = 22_050
"""Rate of all audio inside the project (paper, Sec. 4.1)."""

POSE_FPS = 16.0
"""Rate of all poses: 400 frames are 25 s, as in the paper's shapes."""

GENRES = (
    "ballet-jazz", "lock", "waack", "middle-hip-hop", "break", "la-hip-hop", "street-jazz",
    "house", "pop", "krump", "floor", "skate",
)  # fmt: skip
"""Style labels: AIST's ten in the order of the paper's one-hot label, then the two sports."""

DEFAULT_MMPOSE_CONFIG = "td-hm_hrnet-w48_8xb32-210e_coco-256x192"
"""Configuration of mmpose for the paper's estimator: HRNet-W48 on COCO."""


def data_home(override: Path | None = None) -> Path:
    """Folder of data sets: ``override``, else ``LORIS_DATA``, else the platform's."""
    if override is not None:
        return override
    folder = os.environ.get("LORIS_DATA")
    return Path(folder) if folder else user_data_path("loris", appauthor=False)


def cache_home() -> Path:
    """Folder of what can be made again: ``LORIS_CACHE``, else the platform's."""
    folder = os.environ.get("LORIS_CACHE")
    return Path(folder) if folder else user_cache_path("loris", appauthor=False)
