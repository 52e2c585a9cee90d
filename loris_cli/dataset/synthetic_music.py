"""A data set of made-up music, as large as wanted and the same every time.

python -m loris_cli.dataset.synthetic_music FOLDER --clips 1608
"""

import argparse
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from loris_cli.composition.styles import STYLES
from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.dataset.manifest import Clip, write_manifest
from loris_cli.pose.keypoints import write_poses
from loris_cli.rhythm.pose_rhythm import motion_energy, rhythm_from_poses
from loris_cli.soundtrack.conditioning import accents_of
from loris_cli.synthetic.composer import Score, compose
from loris_cli.synthetic.dancer import dance
from loris_cli.synthetic.midi_synthesis import render

CLIP_S = 24.0
DANCED = 2
"""One clip of each style in so many has a body that dances to it."""
TEST_SEED, VAL_SEED = 2_000_000, 1_000_000
"""Held-out clips have seeds from here on: no training clip is ever one of them."""


def make_clip(seed: int, *, folder: Path, split: str) -> Clip:
    """Compose and play one clip, unless it is there already."""
    name = f"{split}-{seed:07d}"
    genre = STYLES[seed % len(STYLES)]
    clip = Clip(
        id=name,
        subset="synthetic",
        split=split,
        duration_s=CLIP_S,
        genre=genre.name,
        source="synthesised",
        audio=f"audio/{name}.flac",
        rhythm=f"rhythm/{name}.npz",
        poses=f"poses/{name}.npz" if seed // len(STYLES) % DANCED == 0 else "",
    )
    if not (folder / clip.audio).exists():  # the sound is written last
        score = compose(seed, genre, CLIP_S)
        harmony = score.harmony
        told: dict[str, Any] = {
            "accents_s": score.accents_s,
            "strengths": score.strengths,
            "energy": score.energy,
            "beats_s": harmony.beats_s,
            "key": np.array(harmony.key),
            "scale": np.array(harmony.scale),
            "starts_s": harmony.starts_s,
            "degrees": harmony.degrees,
            "pulses_s": harmony.pulses_s,
            "notes": score.arrangement.table.astype(np.float32),
            "programs": np.array(sorted(score.arrangement.programs.items())),
        }
        if clip.poses:
            told |= _danced(seed, score, folder / clip.poses)
        np.savez(folder / clip.rhythm, **told)
        part = folder / f"{clip.audio}.part"
        soundfile.write(part, render(score, seed=seed), SAMPLE_RATE_HZ, format="FLAC")
        part.rename(folder / clip.audio)
    return clip


def _danced(seed: int, score: Score, poses_path: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Let a body dance to a piece; what its rhythm then looks like."""
    seen = dance(seed, score.accents_s, score.strengths, duration_s=CLIP_S, energy=score.energy)
    write_poses(poses_path, seen.poses)
    rhythm = rhythm_from_poses(seen.poses.keypoints, fps=seen.poses.fps)
    peaks_s, strengths = accents_of(rhythm.times_s, rhythm.strengths)
    return {
        "seen_peaks_s": peaks_s,
        "seen_strengths": strengths,
        "seen_energy": motion_energy(seen.poses.keypoints, seen.poses.fps),
        "strikes_s": seen.strikes_s,
        "looseness": np.array(seen.looseness),
    }


def make_corpus(folder: Path, *, n_train: int, n_val: int, n_test: int, jobs: int) -> None:
    """Make a data set with its manifest; goes on where it was stopped."""
    for name in ("audio", "rhythm", "poses"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    clips: list[Clip] = []
    with ProcessPoolExecutor(jobs) as pool:
        for split, first, n in (
            ("train", 0, n_train),
            ("val", VAL_SEED, n_val),
            ("test", TEST_SEED, n_test),
        ):
            make = partial(make_clip, folder=folder, split=split)
            clips += pool.map(make, range(first, first + n), chunksize=8)
    write_manifest(folder, clips)


def main() -> None:
    """Read the command line and make the data set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--clips", type=int, default=1608, help="for training")
    parser.add_argument("--val", type=int, default=48)
    parser.add_argument("--test", type=int, default=288)
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args()
    make_corpus(
        given.folder, n_train=given.clips, n_val=given.val, n_test=given.test, jobs=given.jobs
    )


if __name__ == "__main__":
    main()
