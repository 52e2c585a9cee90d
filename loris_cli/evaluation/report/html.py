"""HTML report of an evaluation: one self-contained page without external resources.

Untrusted text, mainly file names, is escaped, and the content security policy of the page
forbids scripts and external resources.
"""

import base64
from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader

from loris_cli.evaluation.report.tables import build_notes, build_tables


def render_html(report: dict[str, Any], figures: Mapping[str, bytes]) -> str:
    """Render a page with the tables, figures and notes of a report.

    Args:
        report: JSON report.
        figures: PNG images by title.
    """
    summary, *notes = build_notes(report)
    return render_template(
        "report.html",
        title=report["title"],
        summary=summary,
        warnings=[note for note in notes if note.startswith(("SYNTHETIC DATA", "RHYTHM FROM"))],
        tables=build_tables(report),
        models=[system["id"] for system in report["systems"] if system["category"] == "model"],
        figures={title: base64.b64encode(png).decode() for title, png in figures.items()},
        notes=notes,
    )


def render_template(name: str, **values: Any) -> str:
    """Render a template of this package with HTML escaping."""
    loader = PackageLoader("loris_cli.evaluation.report", ".")
    return Environment(loader=loader, autoescape=True).get_template(name).render(values)
