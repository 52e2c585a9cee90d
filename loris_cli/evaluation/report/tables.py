"""The result of a benchmark for people: a table on a screen, CSV, Markdown, LaTeX.

Percent, but for CSV, which has the numbers of the JSON. All are made from the JSON contract, so
nothing is told in a table that is not in it.
"""

import csv
import io
import json
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

from loris_cli.evaluation.report.json_report import OFFICIAL_METRICS

STRICT_COLUMNS = MappingProxyType(
    {
        "f1_corrected": "F1 corr",
        "onset_precision": "onset P",
        "onset_recall": "onset R",
        "onset_f": "onset F",
        "beat_f": "beat F",
        "cml_t": "CMLt",
        "aml_t": "AMLt",
        "information_gain": "info",
        "tempo_error": "tempo err",
        "align_sound": "snd>mot",
        "align_motion": "mot>snd",
        "av_align": "AV",
    }
)
"""Strict figures and the heads of their columns."""
CATEGORY_LABELS = MappingProxyType(
    {"model": "", "method": "method", "null": "null", "ceiling": "ceiling"}
)

ReportTable = tuple[str, list[str], list[list[str]]]
"""Title, heads, rows of cells."""


def build_tables(report: dict[str, Any]) -> list[ReportTable]:
    """The tables of a result: official scores, strict figures, those of the paper.

    Args:
        report: the JSON contract.
    """
    found = [
        (
            "Official scores, %",
            ["row", "", "n", *OFFICIAL_METRICS, "F1 95 %", f"F1 - {report['against']}", "p"],
            [
                _build_official_cells(report, row)
                for row in report["rows"]
                if row["official"] is not None
            ],
        )
    ]
    strict = [row for row in report["rows"] if row["strict"]]
    if strict:
        columns = [
            name for name in STRICT_COLUMNS if any(name in row["strict"] for row in strict)
        ]
        found.append(
            (
                "Strict figures, %",
                ["row", "", *(STRICT_COLUMNS[name] for name in columns)],
                [
                    [row["id"], CATEGORY_LABELS[row["kind"]]]
                    + [format_percent(row["strict"].get(name)) for name in columns]
                    for row in strict
                ],
            )
        )
    quality = [row for row in report["rows"] if row.get("quality")]
    if quality:
        names = list(dict.fromkeys(name for row in quality for name in row["quality"]))
        found.append(
            (
                "Quality",
                ["row", "", *names],
                [
                    [row["id"], CATEGORY_LABELS[row["kind"]]]
                    + [_format_number(row["quality"].get(name)) for name in names]
                    for row in quality
                ],
            )
        )
    if report["published"]:
        found.append(_build_published_table(report))
    found += [_build_paper_comparison_table(layout) for layout in report["ablations"]]
    return [table for table in found if table[2]]


def build_notes(report: dict[str, Any]) -> list[str]:
    """What has to be said with the tables, a line each."""
    data, versions = report["data"], report["versions"]
    said = [
        f"protocol {report['protocol']}, split {report['split']}, {data['n']} clips of"
        f" {data['sources']} sources, data {data['hash'] or 'without sound'}, seeds"
        f" {', '.join(map(str, report['seeds']))}",
        f"loris {versions['loris']}{_format_commit(versions)}, librosa {versions['librosa']}, mir_eval"
        f" {versions['mir_eval']}; {report['seconds']:.0f} s",
    ]
    if data["made_up"]:
        said.append(
            "MADE-UP DATA: clips by rules, no recordings; published figures are of other data"
        )
    said += [f"{row['id']}: {row['what']}" for row in report["rows"]]
    said += [f"{name} left out: {reason}" for name, reason in report["left_out"].items()]
    said += [f"{one['id']} skipped: {one['reason']}" for one in data["skipped"]]
    said += [
        f"{row['id']}: {row['n_cut']} takes longer than the truth were cut"
        for row in report["rows"]
        if row["n_cut"]
    ]
    for row in report["rows"]:
        if cost := row.get("cost"):
            memory = "" if cost["peak_mb"] is None else f", {cost['peak_mb']:.0f} MB at most"
            said.append(
                f"{row['id']}: {cost['n_takes']} takes, {cost['evaluations']} network"
                f" evaluations, {cost['seconds']:.0f} s{memory}"
            )
    lines = [line for layout in report["ablations"] for line in layout["lines"]]
    said += dict.fromkeys(
        f"{line['name']}: {line['lacking']}" for line in lines if line["lacking"]
    )
    theirs = [line["published"] for line in lines if line["published"] is not None]
    for method in (*report["published"], *theirs):
        for slip in method.get("misprints", []):
            said.append(
                f"misprint in table {slip['table']}: {method['name']} {slip['column']}"
                f" {slip['printed']}: {slip['why']}"
            )
    return said


def format_text(report: dict[str, Any]) -> str:
    """Aligned columns under their titles, and the notes below."""
    parts = []
    for title, heads, rows in build_tables(report):
        widths = [max(len(row[k]) for row in [heads, *rows]) for k in range(len(heads))]
        lines = [
            "  ".join(
                cell.ljust(width) if k < 2 else cell.rjust(width)
                for k, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in [heads, *rows]
        ]
        parts.append("\n".join([title, *lines]))
    return "\n\n".join([*parts, "\n".join(build_notes(report))])


def format_markdown(report: dict[str, Any]) -> str:
    """Tables and notes as Markdown."""
    parts = []
    for title, heads, rows in build_tables(report):
        rule = ["---"] * 2 + ["---:"] * (len(heads) - 2)
        escaped = [[cell.replace("|", r"\|") for cell in row] for row in [heads, rule, *rows]]
        lines = ["| " + " | ".join(row) + " |" for row in escaped]
        parts.append("\n".join([f"**{title}**", "", *lines]))
    return "\n\n".join([*parts, "\n".join(f"- {note}" for note in build_notes(report))])


def format_latex(report: dict[str, Any]) -> str:
    """Tables for LaTeX with booktabs; the notes as comments."""
    parts = []
    for title, heads, rows in build_tables(report):
        body = [
            " & ".join(_escape_latex(cell) for cell in row) + r" \\" for row in [heads, *rows]
        ]
        parts.append(
            "\n".join(
                [
                    rf"\begin{{tabular}}{{ll{'r' * (len(heads) - 2)}}} % {title}",
                    r"\toprule",
                    body[0],
                    r"\midrule",
                    *body[1:],
                    r"\bottomrule",
                    r"\end{tabular}",
                ]
            )
        )
    return "\n\n".join([*parts, "\n".join(f"% {note}" for note in build_notes(report))])


def format_csv(report: dict[str, Any]) -> str:
    """One row a method, figures from 0 to 1 as in the JSON."""
    out = io.StringIO()
    names = ("f1_by_chance", *STRICT_COLUMNS)
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        [
            "protocol",
            "split",
            "data",
            "row",
            "kind",
            "n",
            *OFFICIAL_METRICS,
            "F1_low",
            "F1_high",
            *names,
        ]
    )
    for row in report["rows"]:
        official, strict = row["official"] or {}, row["strict"] or {}
        low, high = row["intervals"].get("F1", (None, None))
        writer.writerow(
            [
                report["protocol"],
                report["split"],
                report["data"]["hash"],
                row["id"],
                row["kind"],
                row["n"],
                *(official.get(name) for name in OFFICIAL_METRICS),
                low,
                high,
                *(strict.get(name) for name in names),
            ]
        )
    return out.getvalue().rstrip("\n")


def _format_json(report: dict[str, Any]) -> str:
    return json.dumps(report, indent=1, allow_nan=False)


REPORT_FORMATTERS: MappingProxyType[str, Callable[[dict[str, Any]], str]] = MappingProxyType(
    {
        "table": format_text,
        "json": _format_json,
        "csv": format_csv,
        "md": format_markdown,
        "tex": format_latex,
    }
)
"""How a result may be written."""


def format_percent(value: float | None) -> str:
    """A share as percent with a decimal; a dash where there is none."""
    return "-" if value is None else f"{100 * value:.1f}"


def _format_commit(versions: dict[str, Any]) -> str:
    """The commit in short, where there is one."""
    if versions["commit"] is None:
        return ""
    return f" (commit {versions['commit'][:12]}{', changed since' * versions['changed']})"


def _build_official_cells(report: dict[str, Any], system: dict[str, Any]) -> list[str]:
    interval = system["intervals"].get("F1")
    gap = system.get("against", {}).get("F1")
    return [
        system["id"],
        CATEGORY_LABELS[system["kind"]],
        str(system["n"]),
        *(format_percent(system["official"][name]) for name in OFFICIAL_METRICS),
        "-"
        if interval is None
        else f"{format_percent(interval[0])}..{format_percent(interval[1])}",
        "-" if gap is None else f"{100 * gap['difference']:+.1f}",
        "-" if gap is None else f"{gap['p_value']:.4f}",
    ]


def _build_published_table(report: dict[str, Any]) -> ReportTable:
    """The paper's rows, and how far ours are from its own."""
    rows = [
        [*_build_published_cells(method), f"{method['MOS']:.1f}"]
        for method in report["published"]
    ]
    rows += [
        [f"{row['id']} - LORIS", ""]
        + [
            "-" if gap is None else f"{100 * gap:+.1f}"
            for gap in (row["published"][name]["difference"] for name in OFFICIAL_METRICS)
        ]
        + ["-"]
        for row in report["rows"]
        if "published" in row
    ]
    return ("Published, % (* is a misprint)", ["method", "", *OFFICIAL_METRICS, "MOS"], rows)


def _build_paper_comparison_table(paper_table: dict[str, Any]) -> ReportTable:
    """Our rows in the paper's layout, its own figures beside them."""
    rows = []
    for line in paper_table["lines"]:
        ours, theirs = line["official"], line["published"]
        rows.append(
            [line["name"], line["row"] or "-", str(line["n"] or "-")]
            + [
                format_percent(None if ours is None else ours[name])
                for name in OFFICIAL_METRICS
            ]
            + (
                ["-"] * len(OFFICIAL_METRICS)
                if theirs is None
                else _build_published_cells(theirs)[2:]
            )
        )
    heads = [
        "variant",
        "row",
        "n",
        *OFFICIAL_METRICS,
        *(f"paper {name}" for name in OFFICIAL_METRICS),
    ]
    title = (
        f"Table {paper_table['table']} of the paper, {paper_table['title']}, %: ours, then the paper's"
        " on fe25 (* is a misprint)"
    )
    return (title, heads, rows)


def _build_published_cells(paper_row: dict[str, Any]) -> list[str]:
    """A row of the paper; a misprint has a star."""
    wrong = {slip["column"] for slip in paper_row.get("misprints", [])}
    scores = (
        format_percent(paper_row[name]) + "*" * (name in wrong) for name in OFFICIAL_METRICS
    )
    return [paper_row["name"], f"table {paper_row['table']}", *scores]


def _format_number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _escape_latex(cell: str) -> str:
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    return "".join(special.get(c, rf"\{c}" if c in "&%$#_{}" else c) for c in cell)
