"""Sweeps over sampling settings, in the layout of tables 7 and 8 of the paper.

``steps=10,20`` varies the number of sampling steps, ``guidance=1,2`` the guidance scale. One
parameter is varied at a time; the other keeps its default.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from loris_cli.errors import UsageError
from loris_cli.evaluation.runner.paper_tables import PaperTable, build_paper_table


class SweepParameter(NamedTuple):
    """A sampling parameter that can be varied."""

    table: int
    """Number of the corresponding table in the paper."""
    low: float
    high: float


SWEEP_PARAMETERS: Mapping[str, SweepParameter] = {
    "steps": SweepParameter(7, 2.0, 1000.0),
    "guidance": SweepParameter(8, 0.0, 100.0),
}


class SamplingSetting(NamedTuple):
    """Sampling settings of a system; None uses the default of the model."""

    suffix: str
    """Suffix of the system id."""
    steps: int | None
    guidance: float | None


def parse_sweeps(
    specs: Sequence[str], *, steps: int | None, guidance: float | None
) -> list[SamplingSetting]:
    """Parse sweep specifications into sampling settings.

    Args:
        specs: sweeps such as ``steps=10,20,50``.
        steps: number of sampling steps when not varied.
        guidance: guidance scale when not varied.

    Returns:
        one setting per value; the fixed setting alone if there are no sweeps.

    Raises:
        UsageError: a sweep is malformed or out of range.
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
    """Build tables 7 and 8 with the systems of the sweeps.

    Args:
        specs: sweeps, as for `parse_sweeps`.
        system_ids: ids of all systems of the run.
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
        f"invalid --sweep {sweep_spec!r}, expected e.g. steps=10,20 or guidance=1,2.5",
        hint="steps are integers from 2 to 1000, guidance is from 0 to 100",
    )
