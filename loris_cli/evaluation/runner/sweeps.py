"""Sweeps over the sampling settings of a model, in the layout of the paper's tables 7 and 8.

``steps=10,20`` varies the sampling steps, ``guidance=1,2`` the guidance scale; each alone, with
the other one fixed.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from loris_cli.errors import UsageError
from loris_cli.evaluation.runner.paper_tables import PaperTable, build_paper_table


class SweepParameter(NamedTuple):
    """A parameter that can be varied."""

    table: int
    """Table of the paper."""
    low: float
    high: float


SWEEP_PARAMETERS: Mapping[str, SweepParameter] = {
    "steps": SweepParameter(7, 2.0, 1000.0),
    "guidance": SweepParameter(8, 0.0, 100.0),
}


class SamplingSetting(NamedTuple):
    """Sampling settings of a system; None is the default of the model."""

    suffix: str
    """Added to the id of the system."""
    steps: int | None
    guidance: float | None


def parse_sweeps(
    specs: Sequence[str], *, steps: int | None, guidance: float | None
) -> list[SamplingSetting]:
    """The sampling settings of sweeps.

    Args:
        specs: such as ``steps=10,20,50``.
        steps: sampling steps where they are not varied.
        guidance: guidance scale where it is not varied.

    Raises:
        UsageError: a sweep is not of that form, or out of range.
    """
    default = SamplingSetting("", steps, guidance)
    settings = []
    for spec in specs:
        name, _, values = spec.partition("=")
        for text in values.split(","):
            value = _parse_sweep_value(name, text, spec)
            setting = default._replace(suffix=f" {name}={value:g}")
            if name == "steps":
                settings.append(setting._replace(steps=int(value)))
            else:
                settings.append(setting._replace(guidance=value))
    return settings or [default]


def build_sweep_tables(specs: Sequence[str], system_ids: Sequence[str]) -> list[PaperTable]:
    """Tables 7 and 8 with the systems of sweeps.

    Args:
        specs: arguments of `parse_sweeps`.
        system_ids: ids of the systems with these settings.
    """
    tables = []
    for name in dict.fromkeys(spec.partition("=")[0] for spec in specs):
        by_setting: dict[str, list[str]] = {}
        for system_id in system_ids:
            setting = system_id.rpartition(" ")[2]
            if setting.startswith(f"{name}="):
                by_setting.setdefault(setting, []).append(system_id)
        tables.append(build_paper_table(SWEEP_PARAMETERS[name].table, by_setting))
    return tables


def _parse_sweep_value(name: str, text: str, sweep_spec: str) -> float:
    if name in SWEEP_PARAMETERS:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        parameter = SWEEP_PARAMETERS[name]
        is_valid_type = name != "steps" or value.is_integer()
        if parameter.low <= value <= parameter.high and is_valid_type:
            return value
    raise UsageError(
        f"--sweep {sweep_spec!r} is not of the form steps=10,20 or guidance=1,2.5",
        hint="steps from 2 to 1000, guidance from 0 to 100",
    )
