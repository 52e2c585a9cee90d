"""A look at what the figures say: spectrograms of the truth, its latent, and what is made.

python experiments/spectrograms.py DATA --model mini -o spectrograms.png
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from clip_scores import generate_takes
from numpy.typing import NDArray

from loris_cli.audio import mel
from loris_cli.dataset.manifest import read_manifest
from loris_cli.dataset.read_clips import read_clip_audio, read_rhythm_features
from loris_cli.models.mini_checkpoint import load_mini_checkpoint, reconstruct_through_latent
from loris_cli.soundtrack.latent_generator import DEFAULT_GUIDANCE, LatentGenerator
from loris_cli.system.atomic_files import atomic_write
from loris_cli.system.librosa_import import librosa

Samples = NDArray[np.float32]

CLIP_STRIDE = 13
"""Every so many clips one is shown: the styles take turns, so each is of another."""
DPI, PANEL_SIZE_IN = 100, (7.0, 2.2)
DISPLAY_RANGE_NEPERS = 7.0
"""Nepers shown below the loudest of a clip's truth: 61 dB."""
ACCENT_COLOUR = "#e4572e"


@dataclass(frozen=True, kw_only=True)
class ClipAudio:
    """Sounds of one clip, by the name of their column."""

    title: str
    accents_s: NDArray[np.float64]
    audio_by_column: dict[str, Samples]


def plot_spectrograms(path: Path, clips: Sequence[ClipAudio]) -> None:
    """Draw a row a clip, a column a sound, and the given accents below each.

    Args:
        path: the PNG.
        clips: all with the same columns; the first is what the brightness goes by.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = list(clips[0].audio_by_column)
    size = (PANEL_SIZE_IN[0] * len(columns), PANEL_SIZE_IN[1] * len(clips))
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(clips), len(columns), squeeze=False, sharex=True, sharey=True)
    for row, clip in zip(panels, clips, strict=True):
        loudest = float(mel.compute_log_mel(clip.audio_by_column[columns[0]]).max())
        for axes, column in zip(row, columns, strict=True):
            frames = mel.compute_log_mel(clip.audio_by_column[column])
            axes.imshow(
                frames,
                origin="lower",
                aspect="auto",
                extent=(0, frames.shape[1] / mel.MEL_FPS, 0, len(frames)),
                cmap="magma",
                vmin=loudest - DISPLAY_RANGE_NEPERS,
                vmax=loudest,
            )
            axes.vlines(clip.accents_s, -7, -1, color=ACCENT_COLOUR, linewidth=1)
            axes.set_ylim(-8, len(frames))
            axes.set_title(f"{clip.title}: {column}", fontsize=9, loc="left", parse_math=False)
    centres = librosa.mel_frequencies(mel.DEFAULT_MEL_CONFIG.n_mels, fmin=0, fmax=11_025)
    ticks = [100, 400, 1600, 6400]
    panels[0, 0].set_yticks(np.interp(ticks, centres, np.arange(len(centres))), ticks)
    figure.supxlabel("seconds; given accents in red", fontsize=9)
    figure.supylabel("Hz", fontsize=9)
    with atomic_write(path, overwrite=True) as part:
        figure.savefig(part, format="png", metadata={"Software": None})


def main() -> None:
    """Read the command line, make the sounds, draw them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--split", default="test")
    parser.add_argument("--clips", type=int, default=4)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--guidance", type=float, default=DEFAULT_GUIDANCE)
    parser.add_argument("--out", "-o", type=Path, required=True)
    given = parser.parse_args()
    device = torch.device("cpu")
    generator = LatentGenerator(
        model=load_mini_checkpoint(given.model, device=device),
        device=device,
        steps=given.steps,
        guidance=given.guidance,
    )
    held_out = [clip for clip in read_manifest(given.data) if clip.partition == given.split]
    shown = []
    for clip in held_out[::CLIP_STRIDE][: given.clips]:
        features = read_rhythm_features(given.data, clip)
        truth = read_clip_audio(given.data, clip)
        sounds = {
            "truth": truth,
            "truth through the latent": reconstruct_through_latent(generator.model, truth),
            "made": generate_takes(generator, features, 1)[0],
        }
        shown.append(
            ClipAudio(
                title=f"{clip.genre}, {clip.id}",
                accents_s=features.peaks_s,
                audio_by_column=sounds,
            )
        )
    plot_spectrograms(given.out, shown)


if __name__ == "__main__":
    main()
