"""Are the joins of a long soundtrack heard? Hits near them against hits elsewhere.

    python experiments/window_seams.py --clips 4 --seconds 120

A made-up rhythm of full length is given; a moment within a second of the middle of two windows'
overlap is near a seam. Spectral flux there is compared with that elsewhere, in deviations.
"""

import argparse
import json
from dataclasses import asdict

import numpy as np
import torch
from bootstrap import bootstrap_mean
from numpy.typing import NDArray

from loris_cli.audio.onsets import ONSET_HOP_LENGTH, detect_onsets, match_onsets
from loris_cli.composition.styles import STYLES
from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.models.generator_interface import ClipFeatures
from loris_cli.models.mini_checkpoint import load_mini_checkpoint
from loris_cli.soundtrack.conditioning import LATENT_FPS
from loris_cli.soundtrack.latent_generator import LatentGenerator
from loris_cli.synthetic.composer import compose_score
from loris_cli.system.librosa_import import librosa

Array = NDArray[np.float64]

FIRST_SEED = 3_000_000
SEAM_RADIUS_S = 1.0


def compute_seam_times_s(generator: LatentGenerator, duration_s: float) -> Array:
    """Middles of the overlaps of windows, in seconds."""
    starts = np.array(generator.compute_window_layout(duration_s).starts)
    middles: Array = (starts[1:] + starts[:-1] + generator.window_frames) / 2 / LATENT_FPS
    return middles


def evaluate_window_seams(
    generator: LatentGenerator, *, n_clips: int, duration_s: float
) -> dict[str, object]:
    """Hit rates near seams and elsewhere, with 95 % intervals over clips.

    Args:
        generator: the model.
        n_clips: how many pieces, each of another style.
        duration_s: length of each, of several windows.
    """
    near_hits, other_hits, flux_z = [], [], []
    for seed in range(FIRST_SEED, FIRST_SEED + n_clips):
        style = STYLES[seed % len(STYLES)]
        score = compose_score(seed, style, duration_s)
        features = ClipFeatures(
            duration_s=duration_s,
            peaks_s=score.accents_s,
            strengths=score.strengths,
            energy=score.energy,
            genre=style.name,
        )
        blocks = list(generator.generate(features, seed=seed, progress=lambda done, n: None))
        sound = np.concatenate(blocks, axis=1)[0]
        onsets, seams = detect_onsets(sound), compute_seam_times_s(generator, duration_s)
        near = np.abs(score.accents_s[:, None] - seams).min(axis=1) < SEAM_RADIUS_S
        near_hits.append(match_onsets(score.accents_s[near], onsets).recall)
        other_hits.append(match_onsets(score.accents_s[~near], onsets).recall)
        flux = librosa.onset.onset_strength(
            y=sound, sr=SAMPLE_RATE_HZ, hop_length=ONSET_HOP_LENGTH
        )
        moments = np.arange(len(flux)) * ONSET_HOP_LENGTH / SAMPLE_RATE_HZ
        by_seam = np.abs(moments[:, None] - seams).min(axis=1) < SEAM_RADIUS_S
        flux_z.append(float((flux[by_seam].mean() - flux[~by_seam].mean()) / flux.std()))
    return {
        "clips": n_clips,
        "duration_s": duration_s,
        "near_s": SEAM_RADIUS_S,
        "hit_near_seams": asdict(bootstrap_mean(near_hits)),
        "hit_elsewhere": asdict(bootstrap_mean(other_hits)),
        "flux_near_seams_z": asdict(bootstrap_mean(flux_z)),
    }


def main() -> None:
    """Read the command line, evaluate, print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--clips", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=120.0)
    given = parser.parse_args()
    device = torch.device("cpu")
    generator = LatentGenerator(
        model=load_mini_checkpoint(given.model, device=device), device=device
    )
    figures = evaluate_window_seams(generator, n_clips=given.clips, duration_s=given.seconds)
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
