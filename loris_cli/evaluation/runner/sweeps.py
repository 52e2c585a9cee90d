"""Rows of one model in many settings, beside the paper's tables 7 and 8.

``steps=10,20`` varies the steps of sampling, ``guidance=1,2`` how strictly the rhythm is
followed; each by itself, the other as it is.
"""

from collections.abc import Sequence

from loris_cli.errors import UsageError
from loris_cli.evaluation.runner.ablation_layouts import PaperTable, build_paper_table

SWEEP_TABLES = {"steps": 7, "guidance": 8}
"""Table of the paper for each parameter."""
SWEEP_MAXIMA = {"steps": 1000.0, "guidance": 100.0}
SWEEP_MINIMA = {"steps": 2.0, "guidance": 0.0}

SamplingSetting = tuple[str, int | None, float | None]
"""What is added to a row's name, steps, guidance; None is what suits the model."""


def parse_sweeps(
    sweep_specs: Sequence[str], *, steps: int | None, guidance: float | None
) -> list[SamplingSetting]:
    """The settings that sweeps ask for.

    Args:
        sweep_specs: such as ``steps=10,20,50``.
        steps: where they are not varied.
        guidance: likewise.

    Raises:
        UsageError: a sweep is not of that form, or out of range.
    """
    found: list[SamplingSetting] = []
    for sweep in sweep_specs:
        name, _, values = sweep.partition("=")
        for text in values.split(","):
            value = _parse_sweep_value(name, text, sweep)
            label = f" {name}={value:g}"
            found.append(
                (label, int(value), guidance) if name == "steps" else (label, steps, value)
            )
    return found or [("", steps, guidance)]


def build_sweep_tables(
    sweep_specs: Sequence[str], system_names: Sequence[str]
) -> list[PaperTable]:
    """Tables 7 and 8 with the rows of sweeps in them.

    Args:
        sweep_specs: as given to `parse_sweeps`.
        system_names: names of the rows that came of them.
    """
    found = []
    for name in dict.fromkeys(sweep.partition("=")[0] for sweep in sweep_specs):
        ours: dict[str, list[str]] = {}
        for row in system_names:
            label = row.rpartition(" ")[2]
            if label.startswith(f"{name}="):
                ours.setdefault(label, []).append(row)
        found.append(build_paper_table(SWEEP_TABLES[name], ours))
    return found


def _parse_sweep_value(parameter: str, text: str, sweep_spec: str) -> float:
    if parameter in SWEEP_TABLES:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        whole = parameter != "steps" or value.is_integer()
        if SWEEP_MINIMA[parameter] <= value <= SWEEP_MAXIMA[parameter] and whole:
            return value
    raise UsageError(
        f"--sweep {sweep_spec!r} is not of the form steps=10,20 or guidance=1,2.5",
        hint="steps from 2 to 1000, guidance from 0 to 100",
    )
