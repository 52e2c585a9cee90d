"""A data set of made-up music, as large as wanted and the same every time.

python -m loris_cli.dataset.synthetic FOLDER --clips 1608
"""

import argparse
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import soundfile

from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.dataset.manifest import Clip, write_manifest
from loris_cli.synthesis.composer import compose
from loris_cli.synthesis.sound import render
from loris_cli.synthesis.styles import STYLES

CLIP_S = 24.0
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
    )
    if not (folder / clip.audio).exists():  # the sound is written last
        score = compose(seed, genre, CLIP_S)
        np.savez(
            folder / clip.rhythm,
            accents_s=score.accents_s,
            strengths=score.strengths,
            energy=score.energy,
            beats_s=score.beats_s,
        )
        part = folder / f"{clip.audio}.part"
        soundfile.write(part, render(score, seed=seed), SAMPLE_RATE_HZ, format="FLAC")
        part.rename(folder / clip.audio)
    return clip


def make_corpus(folder: Path, *, n_train: int, n_val: int, n_test: int, jobs: int) -> None:
    """Make a data set with its manifest; goes on where it was stopped."""
    for name in ("audio", "rhythm"):
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
