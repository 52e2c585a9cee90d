"""A tiny data set of click trains at known times."""

from pathlib import Path

import numpy as np
import soundfile

from loris_cli.config import POSE_FPS, SAMPLE_RATE_HZ
from loris_cli.dataset.manifest import Clip, write_manifest
from loris_cli.evaluation.runner.audio_sources import ClickTrain, load_samples

CLIP_S = 6.0


def write_click_dataset(folder: Path, *, n_clips: int = 4, subset: str = "fe50") -> list[Clip]:
    """Clips whose clicks are random, two of each source."""
    rng = np.random.default_rng(0)
    for name in ("audio", "rhythm"):
        (folder / name).mkdir(parents=True)
    clips = []
    for k in range(n_clips):
        clip = Clip(
            id=f"clip-{k}",
            subset=subset,
            partition="test",
            duration_s=CLIP_S,
            genre="floor",
            source=f"video-{k // 2}",
            audio=f"audio/{k}.flac",
            rhythm=f"rhythm/{k}.npz",
        )
        moments = np.sort(rng.choice(np.arange(0.25, CLIP_S - 0.2, 0.25), 7, replace=False))
        samples, _ = load_samples(
            ClickTrain(
                click_times_s=tuple(moments.tolist()), n_samples=round(CLIP_S * SAMPLE_RATE_HZ)
            )
        )
        soundfile.write(folder / clip.audio, samples, SAMPLE_RATE_HZ)
        np.savez(
            folder / clip.rhythm,
            accents_s=moments,
            strengths=np.ones(len(moments)),
            energy=np.full(round(CLIP_S * POSE_FPS), 0.5),
            beats_s=np.zeros(0),
        )
        clips.append(clip)
    write_manifest(folder, clips)
    return clips
