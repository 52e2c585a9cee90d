"""Seams between windows of long soundtracks: onset recall near seams and elsewhere.

    python experiments/window_seams.py --clips 4 --seconds 120

The rhythm is composed for the full duration. A seam is the middle of the overlap of two
windows. Accents within 1 s of it are near the seam. The difference of the mean spectral flux
near seams and elsewhere is reported in standard deviations.
"""

import json
from dataclasses import asdict

import numpy as np
from bootstrap import bootstrap_mean
from command_line import create_parser, load_generator
from numpy.typing import NDArray

from loris_cli.audio.onsets import ONSET_HOP_LENGTH, detect_onsets, match_onsets
from loris_cli.composition.styles import STYLES
from loris_cli.config import LATENT_FPS, SAMPLE_RATE_HZ
from loris_cli.models.generator_interface import VideoFeatures
from loris_cli.soundtrack.latent_generator import LatentGenerator
from loris_cli.synthetic.composer import compose_score
from loris_cli.system.librosa_import import librosa

Array = NDArray[np.float64]

FIRST_SEED = 3_000_000
SEAM_RADIUS_S = 1.0


def compute_seam_times_s(generator: LatentGenerator, duration_s: float) -> Array:
    """Return the middles of the overlaps of windows in seconds, ``(windows - 1,)``."""
    starts = np.array(generator.compute_window_layout(duration_s).starts)
    middles: Array = (starts[1:] + starts[:-1] + generator.window_frames) / 2 / LATENT_FPS
    return middles


def evaluate_window_seams(
    generator: LatentGenerator, *, n_clips: int, duration_s: float
) -> dict[str, object]:
    """Compare onset recall and spectral flux near seams and elsewhere.

    Args:
        generator: the model.
        n_clips: number of pieces; styles alternate.
        duration_s: duration of each piece in seconds; must span several windows.

    Returns:
        metrics with 95 % confidence intervals over clips.
    """
    near_recalls, other_recalls, flux_z = [], [], []
    for seed in range(FIRST_SEED, FIRST_SEED + n_clips):
        style = STYLES[seed % len(STYLES)]
        score = compose_score(seed, style, duration_s)
        features = VideoFeatures(
            duration_s=duration_s,
            peaks_s=score.accents_s,
            strengths=score.strengths,
            energy=score.energy,
            genre=style.name,
        )
        blocks = list(generator.generate(features, seed=seed, progress=lambda done, n: None))
        samples = np.concatenate(blocks, axis=1)[0]
        onsets, seams = detect_onsets(samples), compute_seam_times_s(generator, duration_s)
        near = np.abs(score.accents_s[:, None] - seams).min(axis=1) < SEAM_RADIUS_S
        near_recalls.append(match_onsets(score.accents_s[near], onsets).recall)
        other_recalls.append(match_onsets(score.accents_s[~near], onsets).recall)
        flux = librosa.onset.onset_strength(
            y=samples, sr=SAMPLE_RATE_HZ, hop_length=ONSET_HOP_LENGTH
        )
        times_s = np.arange(len(flux)) * ONSET_HOP_LENGTH / SAMPLE_RATE_HZ
        by_seam = np.abs(times_s[:, None] - seams).min(axis=1) < SEAM_RADIUS_S
        flux_z.append(float((flux[by_seam].mean() - flux[~by_seam].mean()) / flux.std()))
    return {
        "n_clips": n_clips,
        "duration_s": duration_s,
        "seam_radius_s": SEAM_RADIUS_S,
        "recall_near_seams": asdict(bootstrap_mean(near_recalls)),
        "recall_elsewhere": asdict(bootstrap_mean(other_recalls)),
        "flux_z_near_seams": asdict(bootstrap_mean(flux_z)),
    }


def main() -> None:
    """Parse arguments, evaluate, and print the metrics as JSON."""
    parser = create_parser(__doc__, n_clips=4)
    parser.add_argument("--seconds", type=float, default=120.0)
    args = parser.parse_args()
    generator = load_generator(args.model)
    metrics = evaluate_window_seams(generator, n_clips=args.clips, duration_s=args.seconds)
    print(json.dumps(metrics, indent=1))


if __name__ == "__main__":
    main()
