"""Print JSON reports of ``loris eval`` as compact Markdown tables, two for each subset.

python experiments/evaluation_tables.py da25.json fe25.json
python experiments/evaluation_tables.py --short da25.json fe25.json

Scores are in percent. A gain is the difference between the score with the reference of the clip
and that of the same takes with the references of other clips. Intervals are 95 %.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from loris_cli.evaluation.report.json_report import OFFICIAL_METRICS
from loris_cli.evaluation.report.paper_layout import SYSTEM_IDS, read_report

Record = Mapping[str, Any]
OFFICIAL_HEADERS = (
    "system", *OFFICIAL_METRICS, "gain in F1", "paper: BCS", "BHS", "F1",
)  # fmt: skip
STRICT_HEADERS = (
    "system", "onset precision", "recall", "onset F", "gain in onset F", "beat F", "AMLt",
    "AV-Align",
)  # fmt: skip
STRICT_METRICS = ("beat_f", "aml_t", "av_align")
PAPER_METRICS = ("BCS", "BHS", "F1")
SHORT_SYSTEMS = (
    "mini", "score", "drums", "foley", "cmt", "d2mgan", "cdcd", "retrieval", "click_1hz",
    "mismatched",
)  # fmt: skip
"""Systems of the short table."""


def format_interval(value: float, low: float, high: float) -> str:
    """Return a percentage with its interval."""
    return f"{100 * value:.1f} [{100 * low:.0f}, {100 * high:.0f}]"


def format_gain(system: Record, metric: str) -> str:
    """Return the gain over the references of other clips, with its interval."""
    chance = (system.get("chance") or {}).get(metric)
    if chance is None:
        return ""
    low, high = chance["ci_low"], chance["ci_high"]
    return f"{100 * chance['difference']:+.1f} [{100 * low:+.0f}, {100 * high:+.0f}]"


def format_score(system: Record, block: str, metric: str) -> str:
    """Return a score, with its interval if it has one."""
    value = system[block].get(metric)
    if value is None:
        return ""
    interval = system["intervals"].get(metric)
    return f"{100 * value:.1f}" if interval is None else format_interval(value, *interval)


def build_official_rows(report: Record) -> list[list[str]]:
    """Return the scores of the paper's protocol: of systems, and published ones."""
    published = {SYSTEM_IDS.get(row["id"], row["id"]): row for row in report["published"]}
    rows = []
    for system in report["systems"]:
        scores = [f"{100 * system['official'][name]:.1f}" for name in OFFICIAL_METRICS[:-1]]
        scores += [format_score(system, "official", "F1"), format_gain(system, "F1")]
        row = published.pop(system["id"], None)
        rows.append([f"`{system['id']}`", *scores, *format_published(row)])
    n_empty = len(OFFICIAL_HEADERS) - 1 - len(PAPER_METRICS)
    for row in published.values():
        rows.append([row["name"], *[""] * n_empty, *format_published(row)])
    return rows


def build_strict_rows(report: Record) -> list[list[str]]:
    """Return the strict metrics of the systems."""
    rows = []
    for system in report["systems"]:
        strict = {name: f"{100 * value:.1f}" for name, value in system["strict"].items()}
        rows.append(
            [
                f"`{system['id']}`",
                strict["onset_precision"],
                strict["onset_recall"],
                format_score(system, "strict", "onset_f"),
                format_gain(system, "onset_f"),
                *(strict[name] for name in STRICT_METRICS),
            ]
        )
    return rows


def format_published(row: Record | None) -> list[str]:
    """Return the scores of the paper, empty without a row."""
    return [f"{100 * row[name]:.1f}" if row else "" for name in PAPER_METRICS]


def build_short_rows(reports: Sequence[Record]) -> list[list[str]]:
    """Return F1 and onset F of the main systems on each subset."""
    rows = []
    for name in SHORT_SYSTEMS:
        row = [f"`{name}`"]
        for metric, block in (("F1", "official"), ("onset_f", "strict")):
            for report in reports:
                found = [system for system in report["systems"] if system["id"] == name]
                row.append(format_score(found[0], block, metric) if found else "")
        rows.append(row)
    return rows


def print_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a Markdown table without padding, because some columns have few values."""
    for cells in (headers, ["---"] * len(headers), *rows):
        print("|" + "|".join(f" {cell} " if cell else " " for cell in cells) + "|")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("reports", type=Path, nargs="+")
    parser.add_argument("--short", action="store_true", help="One table of the main systems.")
    args = parser.parse_args()
    reports = [read_report(path) for path in args.reports]
    if args.short:
        titles = [f"{metric} {r['title']}" for metric in ("F1", "onset F") for r in reports]
        print_table(["", *titles], build_short_rows(reports))
        return
    for report in reports:
        data = report["data"]
        print(f"### `{report['title']}`\n\n{data['n']} clips of {data['sources']} sources.\n")
        print_table(OFFICIAL_HEADERS, build_official_rows(report))
        print()
        print_table(STRICT_HEADERS, build_strict_rows(report))
        print()


if __name__ == "__main__":
    main()
