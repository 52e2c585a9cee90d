"""Small data set of click trains at known times."""

from pathlib import Path

import numpy as np
from builders import make_clip, write_clip

from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.dataset.manifest import Clip, write_manifest
from loris_cli.evaluation.runner.audio_sources import ClickTrain, load_samples

CLIP_S = 6.0


def write_click_dataset(folder: Path, *, n_clips: int = 4, subset: str = "fe50") -> list[Clip]:
    """Write a data set of test clips, two per source, each with clicks at 7 random times.

    Args:
        folder: folder of the data set.
        n_clips: number of clips, ``clip-0``, ``clip-1``, ...
        subset: subset of all clips.

    Returns:
        rows of the manifest.
    """
    rng = np.random.default_rng(0)
    clips = []
    for k in range(n_clips):
        clip = make_clip(
            f"clip-{k}",
            subset=subset,
            partition="test",
            duration_s=CLIP_S,
            genre="floor",
            source=f"video-{k // 2}",
        )
        click_times_s = np.sort(
            rng.choice(np.arange(0.25, CLIP_S - 0.2, 0.25), 7, replace=False)
        )
        source = ClickTrain(
            click_times_s=tuple(click_times_s.tolist()),
            n_samples=round(CLIP_S * SAMPLE_RATE_HZ),
        )
        samples = load_samples(source)[0]
        write_clip(folder, clip, samples, accents_s=click_times_s)
        clips.append(clip)
    write_manifest(folder, clips)
    return clips
