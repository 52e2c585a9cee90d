"""Plot spectrograms of reference audio, its latent reconstruction and generated takes.

python experiments/spectrograms.py DATA --model mini -o spectrograms.png
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from clip_scores import generate_takes
from command_line import add_sampling_arguments, create_parser, load_generator
from numpy.typing import NDArray

from loris_cli.audio import mel
from loris_cli.dataset.manifest import read_manifest
from loris_cli.dataset.read_clips import read_clip_audio, read_rhythm_features
from loris_cli.models.mini_checkpoint import reconstruct_through_latent
from loris_cli.system.atomic_files import atomic_write
from loris_cli.system.librosa_import import librosa

Samples = NDArray[np.float32]

CLIP_STRIDE = 13
"""Every 13th clip is plotted: styles alternate in the manifest, so each has another style."""
DPI, PANEL_SIZE_IN = 100, (7.0, 2.2)
DISPLAY_RANGE_NEPERS = 7.0
"""Displayed range below the maximum of the reference audio, in nepers (61 dB)."""
ACCENT_COLOUR = "#e4572e"


@dataclass(frozen=True, kw_only=True)
class ClipAudio:
    """Accents of one clip, and its audio by column title."""

    title: str
    accents_s: NDArray[np.float64]
    audio_by_column: dict[str, Samples]


def plot_spectrograms(path: Path, clips: Sequence[ClipAudio]) -> None:
    """Plot a grid of spectrograms, a row per clip, with the accents below each panel.

    Args:
        path: output PNG file.
        clips: clips with the same columns; the first column sets the color scale of its row.
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
    figure.supxlabel("Time (s); accents in red", fontsize=9)
    figure.supylabel("Frequency (Hz)", fontsize=9)
    with atomic_write(path, overwrite=True) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": None})


def main() -> None:
    """Parse arguments, generate takes and plot them."""
    parser = create_parser(__doc__, n_clips=4)
    add_sampling_arguments(parser)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", "-o", type=Path, required=True)
    args = parser.parse_args()
    generator = load_generator(args.model, steps=args.steps, guidance=args.guidance)
    clips = [clip for clip in read_manifest(args.data) if clip.partition == args.partition]
    shown = []
    for clip in clips[::CLIP_STRIDE][: args.clips]:
        features = read_rhythm_features(args.data, clip)
        reference = read_clip_audio(args.data, clip)
        columns = {
            "reference": reference,
            "latent reconstruction": reconstruct_through_latent(
                generator.model.autoencoder, reference
            ),
            "generated": generate_takes(generator, features, 1)[0],
        }
        shown.append(
            ClipAudio(
                title=f"{clip.genre}, {clip.id}",
                accents_s=features.peaks_s,
                audio_by_column=columns,
            )
        )
    plot_spectrograms(args.out, shown)


if __name__ == "__main__":
    main()
