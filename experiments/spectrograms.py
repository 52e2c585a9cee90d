"""A look at what the figures say: spectrograms of the truth, its latent, and what is made.

python experiments/spectrograms.py DATA --model mini -o spectrograms.png
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from clip_scores import takes_of
from numpy.typing import NDArray

from loris_cli.audio import mel
from loris_cli.dataset.manifest import read_manifest
from loris_cli.dataset.read_clips import read_features, read_sound
from loris_cli.models.mini_checkpoint import load_mini, through_latent
from loris_cli.soundtrack.latent_generator import GUIDANCE, LatentGenerator
from loris_cli.system.atomic_files import replacing
from loris_cli.system.librosa_import import librosa

Samples = NDArray[np.float32]

PICKED = 13
"""Every so many clips one is shown: the styles take turns, so each is of another."""
DPI, PANEL_IN = 100, (7.0, 2.2)
RANGE = 7.0
"""Nepers shown below the loudest of a clip's truth: 61 dB."""
ACCENT_COLOUR = "#e4572e"


@dataclass(frozen=True, kw_only=True)
class Shown:
    """Sounds of one clip, by the name of their column."""

    name: str
    accents_s: NDArray[np.float64]
    sounds: dict[str, Samples]


def draw(path: Path, clips: Sequence[Shown]) -> None:
    """Draw a row a clip, a column a sound, and the given accents below each.

    Args:
        path: the PNG.
        clips: all with the same columns; the first is what the brightness goes by.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = list(clips[0].sounds)
    size = (PANEL_IN[0] * len(columns), PANEL_IN[1] * len(clips))
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(clips), len(columns), squeeze=False, sharex=True, sharey=True)
    for row, clip in zip(panels, clips, strict=True):
        loudest = float(mel.log_mel(clip.sounds[columns[0]]).max())
        for axes, column in zip(row, columns, strict=True):
            frames = mel.log_mel(clip.sounds[column])
            axes.imshow(
                frames,
                origin="lower",
                aspect="auto",
                extent=(0, frames.shape[1] / mel.MEL_HZ, 0, len(frames)),
                cmap="magma",
                vmin=loudest - RANGE,
                vmax=loudest,
            )
            axes.vlines(clip.accents_s, -7, -1, color=ACCENT_COLOUR, linewidth=1)
            axes.set_ylim(-8, len(frames))
            axes.set_title(f"{clip.name}: {column}", fontsize=9, loc="left", parse_math=False)
    centres = librosa.mel_frequencies(mel.STANDARD.n_mels, fmin=0, fmax=11_025)
    ticks = [100, 400, 1600, 6400]
    panels[0, 0].set_yticks(np.interp(ticks, centres, np.arange(len(centres))), ticks)
    figure.supxlabel("seconds; given accents in red", fontsize=9)
    figure.supylabel("Hz", fontsize=9)
    with replacing(path, overwrite=True) as part:
        figure.savefig(part, format="png", metadata={"Software": None})


def main() -> None:
    """Read the command line, make the sounds, draw them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--split", default="test")
    parser.add_argument("--clips", type=int, default=4)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--guidance", type=float, default=GUIDANCE)
    parser.add_argument("--out", "-o", type=Path, required=True)
    given = parser.parse_args()
    device = torch.device("cpu")
    generator = LatentGenerator(
        model=load_mini(given.model, device=device),
        device=device,
        steps=given.steps,
        guidance=given.guidance,
    )
    held_out = [clip for clip in read_manifest(given.data) if clip.split == given.split]
    shown = []
    for clip in held_out[::PICKED][: given.clips]:
        features = read_features(given.data, clip)
        truth = read_sound(given.data, clip)
        sounds = {
            "truth": truth,
            "truth through the latent": through_latent(generator.model, truth),
            "made": takes_of(generator, features, 1)[0],
        }
        shown.append(
            Shown(name=f"{clip.genre}, {clip.id}", accents_s=features.peaks_s, sounds=sounds)
        )
    draw(given.out, shown)


if __name__ == "__main__":
    main()
