"""Generate a data set of synthetic music of any size, deterministically."""

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from loris_cli.composition.styles import STYLES
from loris_cli.composition.synthesis import (
    choose_synthesizer,
    describe_training_piece,
    synthesize_training_piece,
)
from loris_cli.composition.synthesizer_settings import DEFAULT_SYNTHESIZER, SynthesizerSettings
from loris_cli.dataset.manifest import SYNTHETIC_SOURCE, Clip, write_manifest
from loris_cli.dataset.write_clip import (
    compute_pose_rhythm_arrays,
    write_flac,
    write_hashed_file,
)
from loris_cli.pose.keypoints import write_poses
from loris_cli.synthetic.composer import compose_score
from loris_cli.synthetic.dancer import simulate_dance
from loris_cli.system.progress import NullReporter, Reporter

CLIP_S = 24.0
DANCE_INTERVAL = 2
"""Every n-th clip of each style has dancer poses."""
FIRST_SEEDS = {"train": 0, "val": 1_000_000, "test": 2_000_000}
"""First seed of each partition; the ranges are disjoint, so no clip is in two partitions."""


def make_clip(
    seed: int,
    *,
    folder: Path,
    partition: str,
    synthesizers: Sequence[SynthesizerSettings] = (DEFAULT_SYNTHESIZER,),
) -> Clip:
    """Compose and render one clip, unless its files exist; the seed chooses the synthesizer."""
    name = f"{partition}-{seed:07d}"
    genre = STYLES[seed % len(STYLES)]
    clip = Clip(
        id=name,
        subset="synthetic",
        partition=partition,
        duration_s=CLIP_S,
        genre=genre.name,
        source=SYNTHETIC_SOURCE,
        audio=f"audio/{name}.flac",
        rhythm=f"rhythm/{name}.npz",
        poses=f"poses/{name}.npz" if seed // len(STYLES) % DANCE_INTERVAL == 0 else "",
        synthetic=True,
    )
    if (folder / clip.audio).exists():  # the audio file is written last
        return clip
    synthesizer = choose_synthesizer(synthesizers, seed)
    score = compose_score(seed, genre, CLIP_S)
    harmony, arrangement = score.harmony, score.arrangement
    arrays: dict[str, Any] = {
        "accents_s": score.accents_s,
        "strengths": score.strengths,
        "energy": score.energy,
        "beats_s": harmony.beats_s,
        "tonic": np.array(harmony.tonic),
        "scale": np.array(harmony.scale),
        "chord_starts_s": harmony.chord_starts_s,
        "chord_degrees": harmony.chord_degrees,
        "subdivisions_s": harmony.subdivisions_s,
        "notes": arrangement.note_array.astype(np.float32),
        "channel_programs": np.array(sorted(arrangement.channel_programs.items())),
        "production": describe_training_piece(seed, synthesizer),
    }
    if clip.poses:
        accents = score.accents_s, score.strengths
        dance = simulate_dance(seed, *accents, duration_s=CLIP_S, energy=score.energy)
        write_hashed_file(folder / clip.poses, partial(write_poses, poses=dance.poses))
        arrays |= compute_pose_rhythm_arrays(dance.poses)
        arrays["impacts_s"] = dance.impacts_s
    write_hashed_file(folder / clip.rhythm, partial(np.savez, **arrays))
    audio = synthesize_training_piece(
        arrangement,
        duration_s=CLIP_S,
        seed=seed,
        synthesizer=synthesizer,
    )
    write_hashed_file(folder / clip.audio, partial(write_flac, samples=audio))
    return clip


def generate_music_dataset(
    folder: Path,
    *,
    n_train: int = 1608,
    n_val: int = 48,
    n_test: int = 288,
    n_workers: int = 2,
    synthesizers: Sequence[SynthesizerSettings] = (DEFAULT_SYNTHESIZER,),
    reporter: Reporter | None = None,
) -> None:
    """Generate a data set of synthetic music with its manifest; resumes an interrupted run.

    Args:
        folder: data set folder.
        n_train: number of training clips.
        n_val: number of validation clips.
        n_test: number of test clips.
        n_workers: number of worker processes.
        synthesizers: synthesizers with their soundfonts; each clip is played by one of them.
        reporter: receives the progress.
    """
    counts = {"train": n_train, "val": n_val, "test": n_test}
    clips: list[Clip] = []
    for synthesizer in synthesizers:
        synthesizer.check()
    folder.mkdir(parents=True, exist_ok=True)
    with (
        ProcessPoolExecutor(n_workers) as pool,
        (reporter or NullReporter()).stage("clips", sum(counts.values())) as advance,
    ):
        for partition, n_clips in counts.items():
            first = FIRST_SEEDS[partition]
            make = partial(
                make_clip, folder=folder, partition=partition, synthesizers=synthesizers
            )
            for clip in pool.map(make, range(first, first + n_clips), chunksize=8):
                clips.append(clip)
                advance(1)
    write_manifest(folder, clips)
