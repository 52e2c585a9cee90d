"""Small data set of click trains at known times."""

from pathlib import Path

import numpy as np
from builders import make_clip, make_poses, write_clip
from numpy.typing import ArrayLike

from loris_cli.config import POSE_FPS, SAMPLE_RATE_HZ
from loris_cli.dataset.manifest import Clip, write_manifest
from loris_cli.evaluation.runner.audio_sources import ClickTrain, load_samples
from loris_cli.pose.keypoints import write_poses

CLIP_S = 6.0


def write_click_dataset(
    folder: Path, *, n_clips: int = 4, subset: str = "fe50", has_poses: bool = True
) -> list[Clip]:
    """Write a data set of test clips, two per source, each with clicks at 7 random times.

    Args:
        folder: folder of the data set.
        n_clips: number of clips, ``clip-0``, ``clip-1``, ...
        subset: subset of all clips.
        has_poses: whether the clips have poses, whose peaks are the times of the clicks.

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
            poses=f"poses/clip-{k}.npz" if has_poses else "",
        )
        click_times_s = np.sort(
            rng.choice(np.arange(0.25, CLIP_S - 0.2, 0.25), 7, replace=False)
        )
        source = ClickTrain(
            click_times_s=tuple(click_times_s.tolist()),
            n_samples=round(CLIP_S * SAMPLE_RATE_HZ),
        )
        samples = load_samples(source)[0]
        n_frames = round(CLIP_S * POSE_FPS)
        pose_rhythm: dict[str, ArrayLike] = {
            "pose_peaks_s": click_times_s,
            "pose_peak_strengths": np.ones(len(click_times_s)),
            "motion_energy": np.full(n_frames, 0.5),
        }
        write_clip(folder, clip, samples, accents_s=click_times_s, **pose_rhythm)
        if has_poses:
            keypoints = np.random.default_rng(k).uniform(0, 99, (n_frames, 17, 2))
            write_poses(folder / clip.poses, make_poses(keypoints))
        clips.append(clip)
    write_manifest(folder, clips)
    return clips
