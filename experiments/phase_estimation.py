"""Compare initial phases of Griffin-Lim on true magnitudes: random, and `estimate_phases`.

python experiments/phase_estimation.py DATA --clips 8
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from music_metrics import zimtohrli_mos
from torch import Tensor

from loris_cli.audio.mel import FINE_MEL_CONFIG, HOP_LENGTH, run_griffin_lim
from loris_cli.audio.phase import estimate_phases
from loris_cli.dataset.manifest import read_manifest
from loris_cli.dataset.read_clips import read_clip_audio

CLIP_SAMPLES = 512 * HOP_LENGTH
"""Compared samples of each clip: 6 s."""
CASES = (("random", 32), ("random", 8), ("derivatives", 0), ("derivatives", 8))
"""Initial phases, and rounds of Griffin-Lim."""


def draw_phases(shape: torch.Size) -> Tensor:
    """Return random complex numbers of modulus 1."""
    generator = torch.Generator().manual_seed(0)
    angles = 2 * torch.pi * torch.rand(shape, generator=generator)
    return torch.polar(torch.ones(shape), angles)


def main() -> None:
    """Print the mean Zimtohrli MOS of each case over clips of a data set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--clips", type=int, default=8)
    args = parser.parse_args()
    clips = read_manifest(args.data)
    scores: dict[tuple[str, int], list[float]] = {case: [] for case in CASES}
    n_fft = FINE_MEL_CONFIG.n_fft
    for clip in clips[:: max(len(clips) // args.clips, 1)][: args.clips]:
        samples = read_clip_audio(args.data, clip)[:CLIP_SAMPLES]
        window = torch.hann_window(n_fft)
        spectrum = torch.stft(
            torch.from_numpy(samples), n_fft, HOP_LENGTH, window=window, return_complex=True
        )
        magnitude = spectrum.abs()
        initial = {
            "random": draw_phases(magnitude.shape),
            "derivatives": torch.from_numpy(estimate_phases(magnitude.numpy(), HOP_LENGTH)),
        }
        for name, n_iter in CASES:
            rebuilt = run_griffin_lim(magnitude, initial[name], n_iter)
            scores[name, n_iter].append(zimtohrli_mos(rebuilt, samples[: len(rebuilt)]))
    for (name, n_iter), values in scores.items():
        print(f"{name:12} {n_iter:3} rounds  MOS {np.mean(values):.2f}")


if __name__ == "__main__":
    main()
