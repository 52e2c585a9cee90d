"""Rows of one model in many settings, beside the paper's tables 7 and 8.

``steps=10,20`` varies the steps of sampling, ``guidance=1,2`` how strictly the rhythm is
followed; each by itself, the other as it is.
"""

from collections.abc import Sequence

from loris_cli.errors import UsageError
from loris_cli.evaluation.runner.ablation_layouts import Layout, beside

TABLES = {"steps": 7, "guidance": 8}
"""Table of the paper for each parameter."""
MOST = {"steps": 1000.0, "guidance": 100.0}
LEAST = {"steps": 2.0, "guidance": 0.0}

Setting = tuple[str, int | None, float | None]
"""What is added to a row's name, steps, guidance; None is what suits the model."""


def settings_of(
    sweeps: Sequence[str], *, steps: int | None, guidance: float | None
) -> list[Setting]:
    """The settings that sweeps ask for.

    Args:
        sweeps: such as ``steps=10,20,50``.
        steps: where they are not varied.
        guidance: likewise.

    Raises:
        UsageError: a sweep is not of that form, or out of range.
    """
    found: list[Setting] = []
    for sweep in sweeps:
        name, _, values = sweep.partition("=")
        for text in values.split(","):
            value = _value(name, text, sweep)
            label = f" {name}={value:g}"
            found.append(
                (label, int(value), guidance) if name == "steps" else (label, steps, value)
            )
    return found or [("", steps, guidance)]


def sweep_tables(sweeps: Sequence[str], rows: Sequence[str]) -> list[Layout]:
    """Tables 7 and 8 with the rows of sweeps in them.

    Args:
        sweeps: as given to `settings_of`.
        rows: names of the rows that came of them.
    """
    found = []
    for name in dict.fromkeys(sweep.partition("=")[0] for sweep in sweeps):
        ours: dict[str, list[str]] = {}
        for row in rows:
            label = row.rpartition(" ")[2]
            if label.startswith(f"{name}="):
                ours.setdefault(label, []).append(row)
        found.append(beside(TABLES[name], ours))
    return found


def _value(name: str, text: str, sweep: str) -> float:
    if name in TABLES:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        whole = name != "steps" or value.is_integer()
        if LEAST[name] <= value <= MOST[name] and whole:
            return value
    raise UsageError(
        f"--sweep {sweep!r} is not of the form steps=10,20 or guidance=1,2.5",
        hint="steps from 2 to 1000, guidance from 0 to 100",
    )
