"""HTML report of an evaluation: one page that needs no other file and no network.

Text from outside, mainly file names, is escaped, and the page's content security policy forbids
scripts and external resources.
"""

import base64
from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader

from loris_cli.evaluation.report.tables import build_notes, build_tables


def render_html(report: dict[str, Any], figures: Mapping[str, bytes]) -> str:
    """A page of the tables, the notes and some figures.

    Args:
        report: the JSON report.
        figures: PNGs by their titles.
    """
    summary, *notes = build_notes(report)
    return render_template(
        "report.html",
        title=report["title"],
        summary=summary,
        warnings=[note for note in notes if note.startswith("SYNTHETIC DATA")],
        tables=build_tables(report),
        models=[system["id"] for system in report["systems"] if system["category"] == "model"],
        figures={title: base64.b64encode(png).decode() for title, png in figures.items()},
        notes=notes,
    )


def render_template(name: str, **values: Any) -> str:
    """Render a template of this package with escaping."""
    loader = PackageLoader("loris_cli.evaluation.report", ".")
    return Environment(loader=loader, autoescape=True).get_template(name).render(values)
