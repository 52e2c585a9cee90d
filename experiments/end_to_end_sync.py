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
from bootstrap import Figure, bootstrap
from numpy.typing import NDArray

from loris_cli.audio.onsets import DETECTOR, Hits, detect_onsets, match, offsets
from loris_cli.models.generator_interface import MusicGenerator
from loris_cli.models.mini_checkpoint import load_mini
from loris_cli.soundtrack.latent_generator import LatentGenerator
from loris_cli.soundtrack.pipeline import make_soundtrack, own_sound
from loris_cli.soundtrack.video_analysis import observe
from loris_cli.synthetic.motion import STRONG, strike_motion
from loris_cli.synthetic.render import render_video
from loris_cli.synthetic.scene import Place
from loris_cli.system.atomic_files import replacing

Array = NDArray[np.float64]

FIRST_SEED = 5000
WINDOW_S = 0.07
CLIP_S = 12.0
SHIFT_S = 0.61
"""Strikes moved by this are nobody's: what hits them hits by chance."""


def evaluate(
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
        motion = strike_motion(seed, CLIP_S)
        video, out = folder / f"{seed}.mp4", folder / f"{seed}.loris.mp4"
        if not video.exists():
            place: Place = "rink" if seed % 2 else "gym"
            with replacing(video, overwrite=False) as part:
                render_video(part, motion, fps=fps, seed=seed, place=place)
        seen = observe(video, method="directogram")
        make_soundtrack(seen, out, generator=generator, seed=seed, overwrite=True)
        sound = own_sound(out)
        assert sound is not None
        onsets = detect_onsets(sound)
        hard = motion.strike_times_s[motion.strike_strengths >= STRONG]
        n_strong += len(hard)
        late.append(offsets(hard, onsets))
        early.append(offsets(hard, seen.rhythm.times_s))
        if len(hard):
            strong.append(_recall(hard, onsets))
            chance.append(_recall((hard + SHIFT_S) % CLIP_S, onsets))
            peaks_hit.append(_recall(hard, seen.rhythm.times_s))
        precision.append(match(motion.strike_times_s, onsets, window_s=WINDOW_S).precision)
    every, peaks = np.concatenate(late), np.concatenate(early)
    return {
        "clips": n_clips,
        "first_seed": first_seed,
        "strong_strikes": n_strong,
        "strong_strikes_with_an_onset_near": len(every),
        "window_s": WINDOW_S,
        "detector": DETECTOR,
        "strong_hit": asdict(bootstrap(strong)),
        "strong_hit_by_chance": asdict(bootstrap(chance)),
        "strong_hit_by_peaks": asdict(bootstrap(peaks_hit)),
        "precision": asdict(bootstrap(precision)),
        "median_offset_s": asdict(_median(every)),
        "median_offset_of_peaks_s": asdict(_median(peaks)),
    }


def _recall(moments_s: Array, onsets_s: Array) -> float:
    hits: Hits = match(np.sort(moments_s), onsets_s, window_s=WINDOW_S)
    return hits.recall


def _median(values: Array) -> Figure:
    rng = np.random.default_rng(0)
    medians = np.median(rng.choice(values, (2000, len(values))), axis=1)
    low, high = np.percentile(medians, [2.5, 97.5])
    return Figure(float(np.median(values)), float(low), float(high))


def main() -> None:
    """Read the command line, evaluate, print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED)
    parser.add_argument("--keep", type=Path, help="folder for the videos")
    given = parser.parse_args()
    device = torch.device("cpu")
    generator = LatentGenerator(model=load_mini(given.model, device=device), device=device)
    with tempfile.TemporaryDirectory() as room:
        folder: Path = given.keep or Path(room)
        folder.mkdir(parents=True, exist_ok=True)
        figures = evaluate(
            generator, n_clips=given.clips, folder=folder, first_seed=given.first_seed
        )
        print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
