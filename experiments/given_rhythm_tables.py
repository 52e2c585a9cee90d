"""Print the results of ``given_rhythm.py`` as Markdown tables.

python experiments/given_rhythm_tables.py given-rhythm.json
python experiments/given_rhythm_tables.py given-rhythm.json --system score --system model_free

A row is a metric, a column a system. Intervals are 95 %, over clips.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Record = Mapping[str, Any]


@dataclass(frozen=True)
class TableRow:
    """Metric of a table row."""

    label: str
    key: str
    scale: float = 1.0
    digits: int = 3


ROWS = (
    TableRow("recall of given peaks, %", "recall", 100, 1),
    TableRow("recall of accents, %", "accent_recall", 100, 1),
    TableRow("recall, mismatched peaks, %", "mismatched_recall", 100, 1),
    TableRow("precision, %", "precision", 100, 1),
    TableRow("median offset, ms", "median_offset_ms", 1, 1),
    TableRow("beat F, 70 ms", "beat_f_measure"),
    TableRow("tempo stability", "tempo_stability"),
    TableRow("pitch stability", "pitch_stability"),
    TableRow("key clarity", "key_clarity"),
    TableRow("repetition", "repetition"),
    TableRow("loudness-energy correlation", "loudness_motion_correlation"),
    TableRow("dynamic range, dB", "dynamic_range_db", 1, 1),
    TableRow("distance of two takes: chroma", "chroma_distance", 1, 2),
    TableRow("distance of two takes: onsets", "onset_distance", 1, 2),
    TableRow("Zimtohrli MOS to `score`", "zimtohrli_mos_to_score", 1, 2),
    TableRow("Zimtohrli MOS to the reference", "zimtohrli_mos_to_reference", 1, 2),
    TableRow("FD, log-mel", "frechet_log_mel", 1, 1),
    TableRow("FD, musicnn", "frechet_musicnn", 1, 1),
)


def format_value(row: TableRow, value: float | Record | None) -> str:
    """Return a value, with its interval if it has one."""
    if value is None:
        return ""
    if not isinstance(value, Mapping):
        return f"{row.scale * value:.{row.digits}f}"
    mean, low, high = (
        f"{row.scale * value[key]:.{row.digits}f}" for key in ("mean", "ci_low", "ci_high")
    )
    return f"{mean} [{low}, {high}]"


def format_table(systems: Mapping[str, Record], names: Sequence[str]) -> str:
    """Return the table of some systems; metrics that none of them has are left out."""
    lines = ["| metric | " + " | ".join(f"`{name}`" for name in names) + " |"]
    lines.append("| --- " * (len(names) + 1) + "|")
    for row in ROWS:
        cells = [format_value(row, systems[name].get(row.key)) for name in names]
        if any(cells):
            lines.append(f"| {row.label} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("--system", dest="systems", action="append")
    args = parser.parse_args()
    results = json.loads(args.results.read_text())
    names = args.systems or [name for name in results["systems"] if name != "jittered_peaks"]
    print(format_table(results["systems"], names))


if __name__ == "__main__":
    main()
