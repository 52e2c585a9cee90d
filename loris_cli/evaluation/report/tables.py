"""Report tables as plain text, CSV, Markdown and LaTeX.

Scores are in percent, except in CSV, which has the values of the JSON report. All tables are
built from the JSON report alone.
"""

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from tabulate import tabulate

from loris_cli.evaluation.report.json_report import OFFICIAL_METRICS

Report = dict[str, Any]

STRICT_COLUMNS: Mapping[str, str] = {
    "f1_chance_corrected": "F1 corr.",
    "onset_precision": "onset P",
    "onset_recall": "onset R",
    "onset_f": "onset F",
    "beat_f": "beat F",
    "cml_t": "CMLt",
    "aml_t": "AMLt",
    "information_gain": "info gain",
    "tempo_error": "tempo error",
    "audio_to_motion_alignment": "audio>motion",
    "motion_to_audio_alignment": "motion>audio",
    "av_align": "AV-Align",
}
"""Column titles of the strict metrics."""
CHANCE_COLUMNS: Mapping[str, str] = {"F1": "F1", "onset_f": "onset F"}
"""Column titles of the metrics that are compared with chance."""


class ReportTable(NamedTuple):
    """Table of text cells. The first two columns are labels, the others are numbers."""

    title: str
    heads: list[str]
    rows: list[list[str]]


def build_tables(report: Report) -> list[ReportTable]:
    """Build the tables of official scores, strict metrics, quality, and the paper.

    Args:
        report: JSON report.
    """
    scored = [system for system in report["systems"] if system["official"] is not None]
    difference = f"F1 vs. {report['compare_to']}"
    official = ReportTable(
        "Official scores, %",
        ["system", "", "n", *OFFICIAL_METRICS, "F1 95 % CI", difference, "p"],
        [_build_official_row(system) for system in scored],
    )
    tables = [
        official,
        _build_metric_table(report, "strict", "Strict metrics, %", format_percent),
        _build_chance_table(report),
        _build_metric_table(report, "quality", "Audio quality", _format_number),
        _build_published_table(report),
        *map(_build_paper_comparison_table, report["paper_tables"]),
    ]
    mark = _mark_reference_rhythm(report)
    return [table._replace(title=table.title + mark) for table in tables if table.rows]


def _mark_reference_rhythm(report: Report) -> str:
    """Return a mark for titles if systems received the rhythm of the reference audio."""
    n_clips = report["data"]["rhythm_from_reference"]
    return f" [RHYTHM FROM REFERENCE AUDIO: {n_clips} clips]" if n_clips else ""


def build_notes(report: Report) -> list[str]:
    """Return the notes to the tables, one line each; the first one is a summary."""
    data, versions, systems = report["data"], report["versions"], report["systems"]
    commit = versions["commit"]
    changed = ", modified" * bool(versions["changed"])
    notes = [
        f"protocol {report['protocol']}, data {report['title']}, {data['n']} clips from"
        f" {data['sources']} unrelated sources,"
        f" data hash {data['hash'] or 'none (no reference audio)'},"
        f" seeds {', '.join(map(str, report['seeds']))}",
        f"loris {versions['loris']}{f' (commit {commit[:12]}{changed})' if commit else ''},"
        f" librosa {versions['librosa']}, mir_eval {versions['mir_eval']};"
        f" run time {report['elapsed_s']:.0f} s",
    ]
    if data["synthetic"]:
        notes.append(
            "SYNTHETIC DATA: the clips are synthetic; the published scores are for recordings"
        )
    if n_clips := data["rhythm_from_reference"]:
        notes.append(
            f"RHYTHM FROM REFERENCE AUDIO: {n_clips} clips have no poses; their accents and"
            " energy, which systems receive and the motion metrics use, are of the reference"
        )
    if reason := report["not_comparable"]:
        notes.append(f"no difference to the published scores: {reason}")
    notes += [f"{system['id']}: {system['description']}" for system in systems]
    notes += [f"{name} unavailable: {why}" for name, why in report["unavailable"].items()]
    notes += [f"{clip['clip_id']} skipped: {clip['reason']}" for clip in data["skipped"]]
    for system in systems:
        if n := system["n_truncated_takes"]:
            notes.append(f"{system['id']}: {n} takes were truncated to the reference length")
    for system in systems:
        if cost := system.get("cost"):
            peak = cost["peak_memory_mib"]
            memory = "" if peak is None else f", peak memory {peak:.0f} MiB"
            notes.append(
                f"{system['id']}: {cost['n_takes']} takes, {cost['network_evaluations']}"
                f" network evaluations, generation time {cost['generation_s']:.0f} s{memory}"
            )
    lines = [line for table in report["paper_tables"] for line in table["lines"]]
    reasons = ((line["name"], line["missing_reason"]) for line in lines)
    notes += dict.fromkeys(f"{name}: {reason}" for name, reason in reasons if reason)
    for row in (*report["published"], *filter(None, (line["published"] for line in lines))):
        notes += [
            f"misprint in table {misprint['table']}: {row['name']} {misprint['column']}"
            f" {misprint['printed']}: {misprint['reason']}"
            for misprint in row.get("misprints", [])
        ]
    return notes


def format_text(report: Report) -> str:
    """Format tables as aligned columns with titles, followed by the notes."""
    return format_report_tables(build_tables(report), build_notes(report), "table")


def format_markdown(report: Report) -> str:
    """Format tables and notes as Markdown."""
    return format_report_tables(build_tables(report), build_notes(report), "md")


def format_latex(report: Report) -> str:
    """Format tables for LaTeX with booktabs; titles and notes are comments."""
    return format_report_tables(build_tables(report), build_notes(report), "tex")


def format_csv(report: Report) -> str:
    """Format one row per system as CSV, with scores in 0..1 as in the JSON report."""
    strict_names = ("f1_chance", *STRICT_COLUMNS)
    rows = []
    for system in report["systems"]:
        official, strict = system["official"] or {}, system["strict"] or {}
        low, high = system["intervals"].get("F1", (None, None))
        row = {
            "protocol": report["protocol"],
            "title": report["title"],
            "data_hash": report["data"]["hash"],
            "rhythm_from_reference": report["data"]["rhythm_from_reference"],
            "system": system["id"],
            "category": system["category"],
            "n": system["n"],
            **{name: official.get(name) for name in OFFICIAL_METRICS},
            "F1_ci_low": low,
            "F1_ci_high": high,
            **{name: strict.get(name) for name in strict_names},
        }
        rows.append(row)
    out = io.StringIO()
    writer = csv.DictWriter(out, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().rstrip("\n")


def _format_json(report: Report) -> str:
    return json.dumps(report, indent=1, allow_nan=False)


REPORT_FORMATTERS: Mapping[str, Callable[[Report], str]] = {
    "table": format_text,
    "json": _format_json,
    "csv": format_csv,
    "md": format_markdown,
    "tex": format_latex,
}
"""Formatters by output format."""


def format_percent(value: float | None) -> str:
    """Format a fraction as percent with one decimal; a dash for None."""
    return "-" if value is None else f"{100 * value:.1f}"


def _format_number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _format_difference(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:+.1f}"


TABLE_STYLES: Mapping[str, tuple[str, str, str]] = {
    "table": ("plain", "{}\n", ""),
    "md": ("pipe", "**{}**\n\n", "- "),
    "tex": ("latex_booktabs", "% {}\n", "% "),
}
"""Table format of tabulate, format of titles, and bullet of notes, by output format."""


def format_report_tables(
    tables: Sequence[ReportTable], notes: Sequence[str], output_format: str
) -> str:
    """Format tables with tabulate, followed by the notes with a bullet each.

    Args:
        tables: tables of text cells.
        notes: notes, one line each.
        output_format: a key of `TABLE_STYLES`.
    """
    table_format, title_format, bullet = TABLE_STYLES[output_format]
    texts = []
    for title, heads, rows in tables:
        cells = [heads, *rows]
        if table_format == "pipe":
            cells = [[cell.replace("|", r"\|") for cell in row] for row in cells]
        # tabulate widens columns to the header plus 2 characters, but only to the width of body
        # cells, so plain text passes the header as a body row.
        headers = [] if table_format == "plain" else cells.pop(0)
        table = tabulate(
            cells,
            headers,
            tablefmt=table_format,
            disable_numparse=True,
            colalign=["left", "left", *["right"] * (len(heads) - 2)],
        )
        lines = [line.rstrip() for line in table.splitlines()]
        texts.append(title_format.format(title) + "\n".join(lines))
    return "\n\n".join([*texts, "\n".join(f"{bullet}{note}" for note in notes)])


def _build_official_row(system: dict[str, Any]) -> list[str]:
    low, high = system["intervals"].get("F1", (None, None))
    difference = system.get("comparison", {}).get("F1")
    return [
        *_format_label(system),
        str(system["n"]),
        *(format_percent(system["official"][name]) for name in OFFICIAL_METRICS),
        "-" if low is None else f"{format_percent(low)}..{format_percent(high)}",
        _format_difference(difference and difference["difference"]),
        "-" if difference is None else f"{difference['p_value']:.4f}",
    ]


def _build_metric_table(
    report: Report, key: str, title: str, format_value: Callable[[float | None], str]
) -> ReportTable:
    """Build a table of all systems with these metrics; strict ones follow `STRICT_COLUMNS`."""
    systems = [system for system in report["systems"] if system.get(key)]
    metrics = dict.fromkeys(name for system in systems for name in system[key])
    names = [*metrics]
    if key == "strict":
        names = [name for name in STRICT_COLUMNS if name in metrics]
    rows = [
        [*_format_label(system), *(format_value(system[key].get(name)) for name in names)]
        for system in systems
    ]
    heads = ["system", "", *(STRICT_COLUMNS.get(name, name) for name in names)]
    return ReportTable(title, heads, rows)


def _build_chance_table(report: Report) -> ReportTable:
    """Build a table of scores with the own reference, and with those of unrelated clips."""
    rows = []
    for system in report["systems"]:
        if "chance" not in system:
            continue
        row = _format_label(system)
        for name in CHANCE_COLUMNS:
            difference = system["chance"].get(name)
            if difference is None:
                row += ["-"] * 4
                continue
            low, high = (_format_difference(difference[key]) for key in ("ci_low", "ci_high"))
            row += [
                format_percent(difference["level"]),
                _format_difference(difference["difference"]),
                f"{low}..{high}",
                f"{difference['p_value']:.4f}",
            ]
        rows.append(row)
    heads = ["system", ""]
    for title in CHANCE_COLUMNS.values():
        heads += [f"{title} of others", "own - others", "95 % CI", "p"]
    return ReportTable("The same takes against the references of other clips, %", heads, rows)


def _format_label(system: dict[str, Any]) -> list[str]:
    return [system["id"], "" if system["category"] == "model" else system["category"]]


def _build_published_table(report: Report) -> ReportTable:
    """Build a table of the published rows, and of differences of the models to LORIS."""
    rows = [[*_build_published_row(row), f"{row['MOS']:.1f}"] for row in report["published"]]
    for system in report["systems"]:
        if "published" in system:
            scores = (system["published"][name]["difference"] for name in OFFICIAL_METRICS)
            rows.append(
                [f"{system['id']} vs. LORIS", "", *map(_format_difference, scores), "-"]
            )
    heads = ["system", "", *OFFICIAL_METRICS, "MOS"]
    return ReportTable("Published scores, % (* misprint)", heads, rows)


def _build_paper_comparison_table(table: dict[str, Any]) -> ReportTable:
    """Build a table in the layout of the paper, with scores of the run and of the paper."""
    rows = []
    for line in table["lines"]:
        official, published = line["official"] or {}, line["published"]
        own = [format_percent(official.get(name)) for name in OFFICIAL_METRICS]
        paper = _build_published_row(published)[2:] if published else ["-"] * len(own)
        rows.append([line["name"], line["system"] or "-", str(line["n"] or "-"), *own, *paper])
    paper_heads = [f"paper {name}" for name in OFFICIAL_METRICS]
    heads = ["variant", "system", "n", *OFFICIAL_METRICS, *paper_heads]
    title = f"Table {table['number']} of the paper, {table['title']}, %"
    legend = "this run, and published scores on fe25 (* misprint)"
    return ReportTable(f"{title}: {legend}", heads, rows)


def _build_published_row(row: dict[str, Any]) -> list[str]:
    """Format a published row; misprints are marked with a star."""
    starred = {misprint["column"] for misprint in row.get("misprints", [])}
    scores = (format_percent(row[name]) + "*" * (name in starred) for name in OFFICIAL_METRICS)
    return [row["name"], f"table {row['table']}", *scores]
