"""Measure the quantile tables of CMT in the training music.

python experiments/cmt_tables.py [PIECES]
"""

import sys

import numpy as np

from loris_cli.baselines.bar_grid import TICKS_PER_BAR
from loris_cli.baselines.cmt.grid_notes import quantize_arrangement
from loris_cli.baselines.cmt.video_control import N_STRENGTH_CLASSES
from loris_cli.baselines.cmt.words import BAR, Column, Track, encode_words
from loris_cli.composition.styles import STYLES
from loris_cli.synthetic.composer import compose_score

N_PIECES = 1608
"""Number of training clips of the synthetic data set."""
CLIP_S = 24.0


def compute_class_medians(values: list[int]) -> tuple[int, ...]:
    """Return the quantile at the middle of each strength class."""
    levels = (np.arange(N_STRENGTH_CLASSES) + 0.5) / N_STRENGTH_CLASSES
    return tuple(np.quantile(values, levels, method="nearest").astype(int).tolist())


def main() -> None:
    """Print the tables, and the number of words of a bar and of a piece."""
    n_pieces = int(sys.argv[1]) if len(sys.argv) > 1 else N_PIECES
    densities: list[int] = []
    bar_lengths: list[int] = []
    piece_lengths: list[int] = []
    strengths: dict[Track, list[int]] = {track: [] for track in Track}
    for seed in range(n_pieces):
        score = compose_score(seed, STYLES[seed % len(STYLES)], CLIP_S)
        beats_s = score.harmony.beats_s
        if len(beats_s) < 2:
            continue
        notes, n_ticks = quantize_arrangement(score.arrangement, beats_s, duration_s=CLIP_S)
        words = encode_words(notes, n_bars=-(-n_ticks // TICKS_PER_BAR), n_ticks=n_ticks)
        bars = np.flatnonzero(words[:, Column.BEAT] == BAR)
        # The first and the last bar may be incomplete.
        densities += (words[bars[1:-1], Column.DENSITY] - 1).tolist()
        bar_lengths += np.diff(bars).tolist()
        piece_lengths.append(len(words))
        for track in Track:
            is_beat = (words[:, Column.TRACK] == track) & (words[:, Column.STRENGTH] > 0)
            strengths[track] += words[is_beat, Column.STRENGTH].tolist()
    print("pieces with a steady tempo", len(piece_lengths))
    shares = np.bincount(densities) / len(densities)
    print("ticks with notes in a bar:", {n: round(x, 4) for n, x in enumerate(shares.tolist())})
    for track, values in strengths.items():
        print("notes of a tick:", track.name, compute_class_medians(values))
    for name, lengths in (("bar", bar_lengths), ("piece", piece_lengths)):
        print(f"words of a {name}:", np.quantile(lengths, [0.05, 0.5, 0.95, 1.0]).tolist())


if __name__ == "__main__":
    main()
