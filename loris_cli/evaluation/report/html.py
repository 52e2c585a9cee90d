"""The result of a benchmark as one HTML file that needs nothing else, and no network.

Text from outside, names of files above all, is escaped, and the page forbids itself scripts and
anything from elsewhere.
"""

import base64
from collections.abc import Mapping
from html import escape
from typing import Any

from loris_cli.evaluation.report.tables import ReportTable, build_notes, build_tables

PAGE_CSS = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --accent: #e4572e; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 84rem; margin: 2rem auto;
  padding: 0 1.5rem; }
h1 { font-size: 1.5rem; margin-bottom: .2rem; }
h2 { font-size: 1.1rem; margin-top: 2.2rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--line); text-align: right;
  white-space: nowrap; }
th:nth-child(-n+2), td:nth-child(-n+2) { text-align: left; }
tr.model td { font-weight: 600; }
tr.model td:first-child { border-left: 4px solid var(--accent); }
tr:hover td { background: var(--soft); }
img { max-width: 100%; background: white; border-radius: 6px; }
ul { padding-left: 1.2rem; } li { overflow-wrap: anywhere; }
.warning { border-left: 4px solid var(--accent); padding: .4rem .8rem;
  background: var(--soft); }
"""
CONTENT_SECURITY_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
METRICS_NOTE = (
    "The official scores count one flag a second. A metronome meets every second of the truth,"
    " so its BHS is 100 and its F1 is 2p / (1 + p), where p is the share of seconds with an"
    " onset; the strict figures, onset by onset and beat by beat, tell it from music in time."
)


def render_html(report: dict[str, Any], figures: Mapping[str, bytes]) -> str:
    """A page of the tables, the notes and some pictures.

    Args:
        report: the JSON contract.
        figures: PNGs by their titles.
    """
    models = {row["id"] for row in report["rows"] if row["kind"] == "model"}
    said = build_notes(report)
    warning = next((note for note in said if note.startswith("MADE-UP")), None)
    parts = [
        f"<h1>loris eval: {escape(report['split'])}</h1>",
        f"<p>{escape(said[0])}</p>",
        *([f'<p class="warning">{escape(warning)}</p>'] if warning else []),
        *(_render_table(table, models) for table in build_tables(report)),
        f"<p>{escape(METRICS_NOTE)}</p>",
        *(_render_figure(title, png) for title, png in figures.items()),
        "<h2>Notes</h2>",
        "<ul>",
        *(f"<li>{escape(note)}</li>" for note in said[1:] if note != warning),
        "</ul>",
    ]
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width">',
            f'<meta http-equiv="Content-Security-Policy" content="{CONTENT_SECURITY_POLICY}">',
            f"<title>loris eval: {escape(report['split'])}</title>",
            f"<style>{PAGE_CSS}</style>",
            "</head>",
            "<body>",
            *parts,
            "</body>",
            "</html>",
        ]
    )


def _render_table(table: ReportTable, model_ids: set[str]) -> str:
    title, heads, rows = table
    head = "".join(f"<th>{escape(cell)}</th>" for cell in heads)
    body = "\n".join(
        f"<tr{_row_class_attribute(row[0], model_ids)}>"
        + "".join(f"<td>{escape(cell)}</td>" for cell in row)
        + "</tr>"
        for row in rows
    )
    return (
        f"<h2>{escape(title)}</h2>\n"
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def _row_class_attribute(name: str, model_ids: set[str]) -> str:
    return ' class="model"' if name in model_ids else ""


def _render_figure(title: str, png: bytes) -> str:
    data = base64.b64encode(png).decode("ascii")
    return (
        f"<h2>{escape(title)}</h2>\n"
        f'<img alt="{escape(title, quote=True)}" src="data:image/png;base64,{data}">'
    )
