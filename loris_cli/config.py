"""Rates that every stage counts in, and the places where data lies."""

import os
from pathlib import Path

from platformdirs import user_cache_path, user_data_path

SAMPLE_RATE_HZ = 22_050
"""Rate of all sound inside the project (paper, Sec. 4.1)."""

POSE_FPS = 16.0
"""Rate of all poses: 400 frames are 25 s, as in the paper's shapes."""

GENRES = (
    "ballet-jazz", "lock", "waack", "middle-hip-hop", "break", "la-hip-hop", "street-jazz",
    "house", "pop", "krump", "floor", "skate",
)  # fmt: skip
"""Style labels: AIST's ten in the order of the paper's one-hot label, then the two sports."""


DEFAULT_MMPOSE_CONFIG = "td-hm_hrnet-w48_8xb32-210e_coco-256x192"
"""The configuration of mmpose that stands for the paper's estimator: HRNet-W48 on COCO."""


def data_home(override: Path | None = None) -> Path:
    """Folder of data sets: what was chosen, else ``LORIS_DATA``, else the platform's."""
    if override is not None:
        return override
    named = os.environ.get("LORIS_DATA")
    return Path(named) if named else user_data_path("loris", appauthor=False)


def cache_home() -> Path:
    """Folder of what can be made again: ``LORIS_CACHE``, else the platform's."""
    named = os.environ.get("LORIS_CACHE")
    return Path(named) if named else user_cache_path("loris", appauthor=False)
