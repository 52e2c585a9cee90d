"""In time from end to end: bodies that strike at known moments, heard in the finished file.

    strikes -> rendered video -> decode, pose, rhythm, model, mux -> decode -> onsets

    python experiments/end_to_end_sync.py --clips 24

What a viewer sees and hears is compared, and nothing in between: the strike is where the limb
stops dead, the onset is found in the sound of the muxed file.
"""

import argparse
import json
import tempfile
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from bootstrap import MeanWithInterval, bootstrap_mean
from numpy.typing import NDArray

from loris_cli.audio.onsets import (
    PEAK_PICKING,
    OnsetMatch,
    compute_onset_deviations,
    detect_onsets,
    match_onsets,
)
from loris_cli.models.generator_interface import MusicGenerator
from loris_cli.models.mini_checkpoint import load_mini_checkpoint
from loris_cli.soundtrack.latent_generator import LatentGenerator
from loris_cli.soundtrack.pipeline import OutputOptions, make_soundtrack, read_mono_audio
from loris_cli.soundtrack.video_analysis import analyze_video
from loris_cli.synthetic.motion import MIN_STRONG_IMPACT, sample_impact_motion
from loris_cli.synthetic.render import render_video
from loris_cli.synthetic.scene import RoomName
from loris_cli.system.atomic_files import atomic_write

Array = NDArray[np.float64]

FIRST_SEED = 5000
MATCH_WINDOW_S = 0.07
CLIP_S = 12.0
CHANCE_SHIFT_S = 0.61
"""Strikes moved by this are nobody's: what hits them hits by chance."""


def evaluate_end_to_end_sync(
    generator: MusicGenerator,
    *,
    n_clips: int,
    folder: Path,
    first_seed: int = FIRST_SEED,
    fps: float = 30.0,
) -> dict[str, object]:
    """Render, make soundtracks, listen.

    Args:
        generator: the model.
        n_clips: how many dancers.
        folder: for the videos; those that are there are used again.
        first_seed: of the dancers; what is chosen is chosen on others than it is told of.
        fps: of the rendered videos.

    Returns:
        figures with 95 % intervals over clips.
    """
    late, early = [], []
    n_strong = 0
    strong, chance, peaks_hit, precision = [], [], [], []
    for seed in range(first_seed, first_seed + n_clips):
        motion = sample_impact_motion(seed, CLIP_S)
        video, out = folder / f"{seed}.mp4", folder / f"{seed}.loris.mp4"
        if not video.exists():
            place: RoomName = "rink" if seed % 2 else "gym"
            with atomic_write(video, overwrite=False) as part:
                render_video(part, motion, fps=fps, seed=seed, room_name=place)
        seen = analyze_video(video, method="directogram")
        make_soundtrack(
            seen, out, generator=generator, seed=seed, options=OutputOptions(overwrite=True)
        )
        sound = read_mono_audio(out)
        assert sound is not None
        onsets = detect_onsets(sound)
        hard = motion.impact_times_s[motion.impact_strengths >= MIN_STRONG_IMPACT]
        n_strong += len(hard)
        late.append(compute_onset_deviations(hard, onsets))
        early.append(compute_onset_deviations(hard, seen.rhythm.times_s))
        if len(hard):
            strong.append(_strike_recall(hard, onsets))
            chance.append(_strike_recall((hard + CHANCE_SHIFT_S) % CLIP_S, onsets))
            peaks_hit.append(_strike_recall(hard, seen.rhythm.times_s))
        precision.append(
            match_onsets(motion.impact_times_s, onsets, window_s=MATCH_WINDOW_S).precision
        )
    every, peaks = np.concatenate(late), np.concatenate(early)
    return {
        "clips": n_clips,
        "first_seed": first_seed,
        "strong_strikes": n_strong,
        "strong_strikes_with_an_onset_near": len(every),
        "window_s": MATCH_WINDOW_S,
        "detector": PEAK_PICKING,
        "strong_hit": asdict(bootstrap_mean(strong)),
        "strong_hit_by_chance": asdict(bootstrap_mean(chance)),
        "strong_hit_by_peaks": asdict(bootstrap_mean(peaks_hit)),
        "precision": asdict(bootstrap_mean(precision)),
        "median_offset_s": asdict(_bootstrap_median(every)),
        "median_offset_of_peaks_s": asdict(_bootstrap_median(peaks)),
    }


def _strike_recall(strike_times_s: Array, onsets_s: Array) -> float:
    hits: OnsetMatch = match_onsets(np.sort(strike_times_s), onsets_s, window_s=MATCH_WINDOW_S)
    return hits.recall


def _bootstrap_median(values: Array) -> MeanWithInterval:
    rng = np.random.default_rng(0)
    medians = np.median(rng.choice(values, (2000, len(values))), axis=1)
    low, high = np.percentile(medians, [2.5, 97.5])
    return MeanWithInterval(float(np.median(values)), float(low), float(high))


def main() -> None:
    """Read the command line, evaluate, print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED)
    parser.add_argument("--keep", type=Path, help="folder for the videos")
    given = parser.parse_args()
    device = torch.device("cpu")
    generator = LatentGenerator(
        model=load_mini_checkpoint(given.model, device=device), device=device
    )
    with tempfile.TemporaryDirectory() as room:
        folder: Path = given.keep or Path(room)
        folder.mkdir(parents=True, exist_ok=True)
        figures = evaluate_end_to_end_sync(
            generator, n_clips=given.clips, folder=folder, first_seed=given.first_seed
        )
        print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
