"""Rows of one model in many settings, beside the paper's tables 7 and 8.

``steps=10,20`` varies the steps of sampling, ``guidance=1,2`` how strictly the rhythm is
followed; each by itself, the other as it is.
"""

from collections.abc import Sequence
from typing import Any

from loris_cli.benchmark.published import ablation
from loris_cli.errors import UsageError

TABLES = {"steps": 7, "guidance": 8}
"""Table of the paper for each parameter."""
MOST = {"steps": 1000.0, "guidance": 100.0}
LEAST = {"steps": 2.0, "guidance": 0.0}

Setting = tuple[str, int, float]
"""What is added to a row's name, steps, guidance."""


def settings_of(sweeps: Sequence[str], *, steps: int, guidance: float) -> list[Setting]:
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
            label = f" {name}={text.strip()}"
            found.append(
                (label, int(value), guidance) if name == "steps" else (label, steps, value)
            )
    return found or [("", steps, guidance)]


def published_sweeps(sweeps: Sequence[str]) -> list[dict[str, Any]]:
    """What the paper printed for the parameters that are varied."""
    names = list(dict.fromkeys(sweep.partition("=")[0] for sweep in sweeps))
    return [row for name in names for row in ablation(TABLES[name])]


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
