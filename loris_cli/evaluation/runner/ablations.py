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
from loris_cli.evaluation.runner.ablation_layouts import PaperTable, PaperTableLine
from loris_cli.evaluation.runner.paper_tables import get_ablation_rows
from loris_cli.models.load_model import detect_preset
from loris_cli.models.paper_checkpoint import read_paper_config
from loris_cli.models.paper_config import PaperConfig
from loris_cli.system.atomic_files import printable_path
from loris_cli.system.progress import Reporter

FULL_MODEL = "full"
VARIANT_OVERRIDES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "v": {"visual_projection": "none", "motion_encoder": False},
        "r": {"rhythm_conditioning": "none", "aligned_rhythm": False},
        "m": {"motion_encoder": True},
        "lstm": {"visual_projection": "linear"},
        "hawkes": {"hawkes_phase": "none"},
        "pe": {"positional_encoding": False},
        "rhymul": {"rhythm_conditioning": "multiply"},
    }
)
"""What each variant has other than the full model (specification, 8)."""
VARIANT_NAMES = (FULL_MODEL, *VARIANT_OVERRIDES)
TABLE_VARIANTS = {5: ("v", "r", "m"), 6: ("lstm", "hawkes", "pe", "rhymul")}
TRAIN_SET_OPTIONS = {
    "v": "visual_encoder=none --set motion_encoder=false",
    "r": "rhythm_conditioning=none",
    "m": "motion_encoder=true",
    "lstm": "visual_lstm=false",
    "hawkes": "hawkes_phase=none",
    "pe": "positional_encoding=false",
    "rhymul": "rhythm_conditioning=multiply",
}
"""What `loris train` is told, on clips that have features of the picture; where they have none
the full model learns from the body, and ``m`` and ``lstm`` do not exist."""
RUN_WEIGHTS_NAME = "paper.safetensors"
"""The model in the folder of a run."""


@dataclass(frozen=True, kw_only=True)
class AblationVariant:
    """A trained variant."""

    name: str
    """One of `VARIANT_NAMES`."""
    path: Path
    config: PaperConfig


def find_variants(
    variant_specs: Sequence[str], variant_names: Sequence[str], *, reporter: Reporter
) -> dict[str, AblationVariant]:
    """The variants that a user names.

    Args:
        variant_specs: ``NAME=FILE`` or ``NAME=RUN``, whose configuration has to be that variant's; or
            a folder of runs or of files, of which those that are wanted are taken.
        variant_names: of `VARIANT_OVERRIDES`; the full model is always wanted.
        reporter: is told what in a folder is no variant of the same full model.

    Returns:
        what is there, by name.

    Raises:
        UsageError: a file is not the variant it is named, or one is there twice.
        InputError: there is no such file, or none in a folder.
        WeightsError: a file cannot be read.
    """
    named, found = [], []
    for text in variant_specs:
        name, equals, place = text.partition("=")
        if equals and name in VARIANT_NAMES:
            path = _resolve_weights_file(Path(place))
            named.append(AblationVariant(name=name, path=path, config=read_paper_config(path)))
        elif equals and not Path(text).exists():
            raise UsageError(
                f"--variant {text!r} names no variant",
                hint=f"there are {', '.join(VARIANT_NAMES)}",
            )
        else:
            found += [
                (path, read_paper_config(path)) for path in _list_weights_files(Path(text))
            ]
    configs = [variant.config for variant in named] + [config for _, config in found]
    if not configs:
        return {}
    full = infer_full_config(configs)
    for variant in named:
        _check_variant_config(variant, full)
    for path, config in found:
        known = identify_variant(config, full)
        if known is None:
            reporter.warn(
                f"{printable_path(path)} is no variant of one full model with the others"
            )
        else:
            named.append(AblationVariant(name=known, path=path, config=config))
    by_name: dict[str, AblationVariant] = {}
    for variant in named:
        if variant.name not in (FULL_MODEL, *variant_names):
            continue
        other = by_name.setdefault(variant.name, variant)
        if other is not variant:
            raise UsageError(
                f"{printable_path(other.path)} and {printable_path(variant.path)} are both"
                f" {variant.name!r}",
                hint="name the one that is meant: --variant " + f"{variant.name}=FILE",
            )
    return {
        name: by_name[name] for name in VARIANT_NAMES[1:] + VARIANT_NAMES[:1] if name in by_name
    }


def infer_full_config(configs: Sequence[PaperConfig]) -> PaperConfig:
    """The full model that most of these are variants of: their sizes, and nothing left out.

    Where none of them sees the picture the full model is one that sees the body instead, as
    `loris train` makes it.
    """
    sees = any(config.visual_projection != "none" for config in configs)
    shifts = [config.hawkes_phase for config in configs if config.hawkes_phase != "none"]
    candidates = [
        replace(
            config,
            visual_projection="lstm" if sees else "none",
            motion_encoder=not sees,
            rhythm_conditioning="attention",
            hawkes_phase=config.hawkes_phase
            if config.hawkes_phase != "none"
            else (*shifts, "interval")[0],
            positional_encoding=True,
            aligned_rhythm=any(other.aligned_rhythm for other in configs),
        )
        for config in configs
    ]
    return max(
        candidates,
        key=lambda full: sum(identify_variant(config, full) is not None for config in configs),
    )


def derive_variant_config(variant_name: str, full_config: PaperConfig) -> PaperConfig | None:
    """The configuration of a variant; None where this full model has no such variant."""
    if variant_name == FULL_MODEL:
        return full_config
    if (variant_name == "lstm" and full_config.visual_projection == "none") or (
        variant_name == "m" and full_config.motion_encoder
    ):
        return None
    return replace(full_config, **VARIANT_OVERRIDES[variant_name])


def identify_variant(config: PaperConfig, full_config: PaperConfig) -> str | None:
    """Which variant of the full model a configuration is; None if it is none."""
    return next(
        (name for name in VARIANT_NAMES if derive_variant_config(name, full_config) == config),
        None,
    )


def build_ablation_tables(
    variant_names: Sequence[str], variants: Mapping[str, AblationVariant], subset: str
) -> list[PaperTable]:
    """Tables 5 and 6 with the lines that are wanted, and the full model's.

    Args:
        variant_names: of `VARIANT_OVERRIDES`.
        variants: that are there, by name.
        subset: that is scored on, for the command that trains what is not there.
    """
    # Without any file the full model is one that `loris train` would make.
    configs = [variant.config for variant in variants.values()]
    full = (
        infer_full_config(configs)
        if configs
        else infer_full_config([PaperConfig(visual_projection="none", motion_encoder=True)])
    )
    found = []
    for table, names in TABLE_VARIANTS.items():
        printed = {row["id"]: row for row in get_ablation_rows(table)}
        chosen = [name for name in names if name in variant_names]
        if not chosen:
            continue
        lines = [
            PaperTableLine(
                name=printed[name]["name"],
                system_id=name if name in variants else None,
                missing_reason=""
                if name in variants
                else _explain_missing_variant(name, full, subset),
                published_scores=printed[name],
            )
            for name in (*chosen, FULL_MODEL)
        ]
        found.append(PaperTable(number=table, lines=lines))
    return found


def _explain_missing_variant(variant_name: str, full_config: PaperConfig, subset: str) -> str:
    if derive_variant_config(variant_name, full_config) is None:
        return "the full model sees the body and not the picture, so it has no such variant"
    setting = "" if variant_name == FULL_MODEL else f" --set {TRAIN_SET_OPTIONS[variant_name]}"
    return f"not trained: loris train --preset paper --split {subset} --out runs/{variant_name}{setting}"


def _check_variant_config(variant: AblationVariant, full_config: PaperConfig) -> None:
    """Refuse a file that is not the variant it is called."""
    should = derive_variant_config(variant.name, full_config)
    if should == variant.config:
        return
    known = identify_variant(variant.config, full_config)
    if known is not None:
        raise UsageError(
            f"{printable_path(variant.path)} is not {variant.name!r} but {known!r}, by its"
            " configuration",
            hint=f"--variant {known}={printable_path(variant.path)}",
        )
    if should is None:
        why = "the full model sees the body and not the picture"
    else:
        has, asked = asdict(variant.config), asdict(should)
        key = next(key for key in asked if has[key] != asked[key])
        why = f"its {key} is {json.dumps(has[key])}, not {json.dumps(asked[key])}"
    raise UsageError(
        f"{printable_path(variant.path)} is not {variant.name!r} of one full model with the others:"
        f" {why}",
        hint="train it like the full model but for that one setting; see docs/evaluation.md",
    )


def _resolve_weights_file(path: Path) -> Path:
    """A file of weights, or that of a run."""
    if path.is_dir() and (path / RUN_WEIGHTS_NAME).is_file():
        return path / RUN_WEIGHTS_NAME
    if path.is_dir():
        raise InputError(
            f"the run {printable_path(path)} has no {RUN_WEIGHTS_NAME} yet",
            hint="train it to its end",
        )
    if not path.is_file():
        raise InputError(f"no file or run {printable_path(path)}", hint="check the name")
    return path


def _list_weights_files(folder: Path) -> Iterator[Path]:
    """Weights of the paper's network in a folder, and in the runs in it."""
    if not folder.is_dir():
        raise InputError(
            f"no folder {printable_path(folder)}",
            hint=f"give --variant NAME=FILE, with NAME one of {', '.join(VARIANT_NAMES)}",
        )
    there = sorted([*folder.glob("*.safetensors"), *folder.glob(f"*/{RUN_WEIGHTS_NAME}")])
    chosen = [path for path in there if detect_preset(str(path)) == "paper"]
    if not chosen:
        raise InputError(
            f"{printable_path(folder)} holds no run and no weights of the paper's network",
            hint="train some: loris train --preset paper --out RUNS/full",
        )
    yield from chosen
