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
from loris_cli.soundtrack.clip_features import select_accents
from loris_cli.synthetic.composer import MusicalScore, compose_score
from loris_cli.synthetic.dancer import simulate_dance
from loris_cli.synthetic.midi_synthesis import render_score

CLIP_S = 24.0
DANCE_INTERVAL = 2
"""One clip of each style in so many has a body that dances to it."""
FIRST_TEST_SEED, FIRST_VAL_SEED = 2_000_000, 1_000_000
"""Held-out clips have seeds from here on: no training clip is ever one of them."""


def make_clip(seed: int, *, folder: Path, partition: str) -> Clip:
    """Compose and play one clip, unless it is there already."""
    name = f"{partition}-{seed:07d}"
    genre = STYLES[seed % len(STYLES)]
    clip = Clip(
        id=name,
        subset="synthetic",
        partition=partition,
        duration_s=CLIP_S,
        genre=genre.name,
        source="synthesised",
        audio=f"audio/{name}.flac",
        rhythm=f"rhythm/{name}.npz",
        poses=f"poses/{name}.npz" if seed // len(STYLES) % DANCE_INTERVAL == 0 else "",
    )
    if not (folder / clip.audio).exists():  # the sound is written last
        score = compose_score(seed, genre, CLIP_S)
        harmony = score.harmony
        told: dict[str, Any] = {
            "accents_s": score.accents_s,
            "strengths": score.strengths,
            "energy": score.energy,
            "beats_s": harmony.beats_s,
            "key": np.array(harmony.tonic),
            "scale": np.array(harmony.scale),
            "starts_s": harmony.chord_starts_s,
            "degrees": harmony.chord_degrees,
            "pulses_s": harmony.subdivisions_s,
            "notes": score.arrangement.note_array.astype(np.float32),
            "programs": np.array(sorted(score.arrangement.channel_programs.items())),
        }
        if clip.poses:
            told |= _write_dance(seed, score, folder / clip.poses)
        np.savez(folder / clip.rhythm, **told)
        part = folder / f"{clip.audio}.part"
        soundfile.write(part, render_score(score, seed=seed), SAMPLE_RATE_HZ, format="FLAC")
        part.rename(folder / clip.audio)
    return clip


def _write_dance(
    seed: int, score: MusicalScore, poses_path: Path
) -> dict[str, np.ndarray[Any, Any]]:
    """Let a body dance to a piece; what its rhythm then looks like."""
    seen = simulate_dance(
        seed, score.accents_s, score.strengths, duration_s=CLIP_S, energy=score.energy
    )
    write_poses(poses_path, seen.poses)
    rhythm = rhythm_from_poses(seen.poses.keypoints, fps=seen.poses.fps)
    peaks_s, strengths = select_accents(rhythm.times_s, rhythm.strengths)
    return {
        "seen_peaks_s": peaks_s,
        "seen_strengths": strengths,
        "seen_energy": motion_energy(seen.poses.keypoints, seen.poses.fps),
        "strikes_s": seen.impacts_s,
        "looseness": np.array(seen.timing_jitter),
    }


def make_music_data_set(
    folder: Path, *, n_train: int, n_val: int, n_test: int, n_workers: int
) -> None:
    """Make a data set with its manifest; goes on where it was stopped."""
    for name in ("audio", "rhythm", "poses"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    clips: list[Clip] = []
    with ProcessPoolExecutor(n_workers) as pool:
        for split, first, n in (
            ("train", 0, n_train),
            ("val", FIRST_VAL_SEED, n_val),
            ("test", FIRST_TEST_SEED, n_test),
        ):
            make = partial(make_clip, folder=folder, partition=split)
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
    make_music_data_set(
        given.folder,
        n_train=given.clips,
        n_val=given.val,
        n_test=given.test,
        n_workers=given.jobs,
    )


if __name__ == "__main__":
    main()
