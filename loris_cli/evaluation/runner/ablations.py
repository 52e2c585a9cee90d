"""The variants of the paper's tables 5 and 6, known by the configuration in their weights.

files, folders of runs -> configurations -> the full model they are variants of -> their names

A table compares networks that differ in one thing. So a file is a variant only if it is the
full model but for that one switch (docs/paper-model.md), sizes and reading included.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from loris_cli.errors import InputError, UsageError
from loris_cli.evaluation.runner.ablation_layouts import Layout, Line
from loris_cli.evaluation.runner.paper_tables import ablation
from loris_cli.models.load_model import kind_of
from loris_cli.models.paper_checkpoint import read_config
from loris_cli.models.paper_config import PaperConfig
from loris_cli.system.atomic_files import printable
from loris_cli.system.progress import Reporter

FULL = "full"
SWITCHES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "v": {"visual": "none", "motion": False},
        "r": {"rhythm": "none", "aligned": False},
        "m": {"motion": True},
        "lstm": {"visual": "linear"},
        "hawkes": {"hawkes": "none"},
        "pe": {"position": False},
        "rhymul": {"rhythm": "multiply"},
    }
)
"""What each variant has other than the full model (specification, 8)."""
NAMES = (FULL, *SWITCHES)
TABLES = {5: ("v", "r", "m"), 6: ("lstm", "hawkes", "pe", "rhymul")}
TRAINED_BY = {
    "v": "visual=none --set motion=false",
    "r": "rhythm=none",
    "m": "motion=true",
    "lstm": "lstm=false",
    "hawkes": "hawkes=none",
    "pe": "position=false",
    "rhymul": "rhythm=multiply",
}
"""What `loris train` is told, on clips that have features of the picture; where they have none
the full model learns from the body, and ``m`` and ``lstm`` do not exist."""
RUN_MODEL = "paper.safetensors"
"""The model in the folder of a run."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A trained variant."""

    name: str
    """One of `NAMES`."""
    path: Path
    config: PaperConfig


def variants_of(
    given: Sequence[str], wanted: Sequence[str], *, reporter: Reporter
) -> dict[str, Variant]:
    """The variants that a user names.

    Args:
        given: ``NAME=FILE`` or ``NAME=RUN``, whose configuration has to be that variant's; or
            a folder of runs or of files, of which those that are wanted are taken.
        wanted: of `SWITCHES`; the full model is always wanted.
        reporter: is told what in a folder is no variant of the same full model.

    Returns:
        what is there, by name.

    Raises:
        UsageError: a file is not the variant it is named, or one is there twice.
        InputError: there is no such file, or none in a folder.
        WeightsError: a file cannot be read.
    """
    named, found = [], []
    for text in given:
        name, equals, place = text.partition("=")
        if equals and name in NAMES:
            path = _file(Path(place))
            named.append(Variant(name=name, path=path, config=read_config(path)))
        elif equals and not Path(text).exists():
            raise UsageError(
                f"--variant {text!r} names no variant", hint=f"there are {', '.join(NAMES)}"
            )
        else:
            found += [(path, read_config(path)) for path in _files(Path(text))]
    configs = [variant.config for variant in named] + [config for _, config in found]
    if not configs:
        return {}
    full = full_of(configs)
    for variant in named:
        _check(variant, full)
    for path, config in found:
        known = name_of(config, full)
        if known is None:
            reporter.warn(f"{printable(path)} is no variant of one full model with the others")
        else:
            named.append(Variant(name=known, path=path, config=config))
    by_name: dict[str, Variant] = {}
    for variant in named:
        if variant.name not in (FULL, *wanted):
            continue
        other = by_name.setdefault(variant.name, variant)
        if other is not variant:
            raise UsageError(
                f"{printable(other.path)} and {printable(variant.path)} are both"
                f" {variant.name!r}",
                hint="name the one that is meant: --variant " + f"{variant.name}=FILE",
            )
    return {name: by_name[name] for name in NAMES[1:] + NAMES[:1] if name in by_name}


def full_of(configs: Sequence[PaperConfig]) -> PaperConfig:
    """The full model that most of these are variants of: their sizes, and nothing left out.

    Where none of them sees the picture the full model is one that sees the body instead, as
    `loris train` makes it.
    """
    sees = any(config.visual != "none" for config in configs)
    shifts = [config.hawkes for config in configs if config.hawkes != "none"]
    candidates = [
        replace(
            config,
            visual="lstm" if sees else "none",
            motion=not sees,
            rhythm="attention",
            hawkes=config.hawkes if config.hawkes != "none" else (*shifts, "interval")[0],
            position=True,
            aligned=any(other.aligned for other in configs),
        )
        for config in configs
    ]
    return max(
        candidates,
        key=lambda full: sum(name_of(config, full) is not None for config in configs),
    )


def expected(name: str, full: PaperConfig) -> PaperConfig | None:
    """The configuration of a variant; None where this full model has no such variant."""
    if name == FULL:
        return full
    if (name == "lstm" and full.visual == "none") or (name == "m" and full.motion):
        return None
    return replace(full, **SWITCHES[name])


def name_of(config: PaperConfig, full: PaperConfig) -> str | None:
    """Which variant of the full model a configuration is; None if it is none."""
    return next((name for name in NAMES if expected(name, full) == config), None)


def ablation_tables(
    wanted: Sequence[str], variants: Mapping[str, Variant], split: str
) -> list[Layout]:
    """Tables 5 and 6 with the lines that are wanted, and the full model's.

    Args:
        wanted: of `SWITCHES`.
        variants: that are there, by name.
        split: that is scored on, for the command that trains what is not there.
    """
    # Without any file the full model is one that `loris train` would make.
    configs = [variant.config for variant in variants.values()]
    full = full_of(configs) if configs else full_of([PaperConfig(visual="none", motion=True)])
    found = []
    for table, names in TABLES.items():
        printed = {row["id"]: row for row in ablation(table)}
        chosen = [name for name in names if name in wanted]
        if not chosen:
            continue
        lines = [
            Line(
                name=printed[name]["name"],
                row=name if name in variants else None,
                lacking="" if name in variants else _lacking(name, full, split),
                published=printed[name],
            )
            for name in (*chosen, FULL)
        ]
        found.append(Layout(table=table, lines=lines))
    return found


def _lacking(name: str, full: PaperConfig, split: str) -> str:
    if expected(name, full) is None:
        return "the full model sees the body and not the picture, so it has no such variant"
    setting = "" if name == FULL else f" --set {TRAINED_BY[name]}"
    return f"not trained: loris train --preset paper --split {split} --out runs/{name}{setting}"


def _check(variant: Variant, full: PaperConfig) -> None:
    """Refuse a file that is not the variant it is called."""
    should = expected(variant.name, full)
    if should == variant.config:
        return
    known = name_of(variant.config, full)
    if known is not None:
        raise UsageError(
            f"{printable(variant.path)} is not {variant.name!r} but {known!r}, by its"
            " configuration",
            hint=f"--variant {known}={printable(variant.path)}",
        )
    if should is None:
        why = "the full model sees the body and not the picture"
    else:
        has, asked = asdict(variant.config), asdict(should)
        key = next(key for key in asked if has[key] != asked[key])
        why = f"its {key} is {json.dumps(has[key])}, not {json.dumps(asked[key])}"
    raise UsageError(
        f"{printable(variant.path)} is not {variant.name!r} of one full model with the others:"
        f" {why}",
        hint="train it like the full model but for that one setting; see docs/evaluation.md",
    )


def _file(path: Path) -> Path:
    """A file of weights, or that of a run."""
    if path.is_dir() and (path / RUN_MODEL).is_file():
        return path / RUN_MODEL
    if path.is_dir():
        raise InputError(
            f"the run {printable(path)} has no {RUN_MODEL} yet", hint="train it to its end"
        )
    if not path.is_file():
        raise InputError(f"no file or run {printable(path)}", hint="check the name")
    return path


def _files(folder: Path) -> Iterator[Path]:
    """Weights of the paper's network in a folder, and in the runs in it."""
    if not folder.is_dir():
        raise InputError(
            f"no folder {printable(folder)}",
            hint=f"give --variant NAME=FILE, with NAME one of {', '.join(NAMES)}",
        )
    there = sorted([*folder.glob("*.safetensors"), *folder.glob(f"*/{RUN_MODEL}")])
    chosen = [path for path in there if kind_of(str(path)) == "paper"]
    if not chosen:
        raise InputError(
            f"{printable(folder)} holds no run and no weights of the paper's network",
            hint="train some: loris train --preset paper --out RUNS/full",
        )
    yield from chosen
