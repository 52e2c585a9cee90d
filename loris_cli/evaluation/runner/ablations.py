"""Trained variants for the paper's tables 5 and 6, identified by their configuration.

files, folders of runs -> configurations -> the full model that they are variants of -> names

A table compares networks that differ in one setting. So a file is a variant only if it equals
the full model except for that setting (docs/paper-model.md), sizes included.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from loris_cli.errors import InputError, UsageError
from loris_cli.evaluation.runner import paper_tables
from loris_cli.evaluation.runner.paper_tables import PaperTable, PaperTableLine
from loris_cli.models.load_model import detect_preset
from loris_cli.models.paper_checkpoint import read_paper_config
from loris_cli.models.paper_config import PaperConfig
from loris_cli.system.atomic_files import printable_path
from loris_cli.system.progress import Reporter

FULL_MODEL = "full"
VARIANT_OVERRIDES: Mapping[str, Mapping[str, Any]] = {
    "v": {"visual_projection": "none", "motion_encoder": False},
    "r": {"rhythm_conditioning": "none", "aligned_rhythm": False},
    "m": {"motion_encoder": True},
    "lstm": {"visual_projection": "linear"},
    "hawkes": {"hawkes_phase": "none"},
    "pe": {"positional_encoding": False},
    "rhymul": {"rhythm_conditioning": "multiply"},
}
"""Settings of each variant that differ from the full model."""
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
"""Options of `loris train --set` for clips with visual features. Without visual features the
full model uses poses, and ``m`` and ``lstm`` do not exist."""
VARIANT_HINT = f"use --ablation-weights NAME=FILE, with NAME one of {', '.join(VARIANT_NAMES)}"
RUN_WEIGHTS_NAME = "paper.safetensors"
"""The model in a run folder."""


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
    """Find the variants that the user names.

    Args:
        variant_specs: ``NAME=FILE`` or ``NAME=RUN``, whose configuration has to be that
            variant's; or a folder of runs or of files, searched for the requested variants.
        variant_names: keys of `VARIANT_OVERRIDES`; the full model is always included.
        reporter: warns of files in a folder that are no variant of the same full model.

    Returns:
        variants that were found, by name.

    Raises:
        UsageError: a file is not the variant it is named, or one is there twice.
        InputError: there is no such file, or none in a folder.
        WeightsError: a file cannot be read.
    """
    named, unnamed = _read_variant_specs(variant_specs)
    if not named and not unnamed:
        return {}
    full = infer_full_config([*(variant.config for variant in named), *unnamed.values()])
    for variant in named:
        _check_variant_config(variant, full)
    for path, config in unnamed.items():
        name = identify_variant(config, full)
        if name is None:
            reporter.warn(f"{printable_path(path)} is no variant of the others' full model")
        else:
            named.append(AblationVariant(name=name, path=path, config=config))
    by_name: dict[str, AblationVariant] = {}
    for variant in named:
        other = by_name.setdefault(variant.name, variant)
        if other is not variant and variant.name in (FULL_MODEL, *variant_names):
            problem = f"{other.path} and {variant.path} are both {variant.name!r}"
            raise UsageError(
                problem, hint=f"choose one: --ablation-weights {variant.name}=FILE"
            )
    requested = [name for name in VARIANT_OVERRIDES if name in variant_names]
    return {name: by_name[name] for name in (*requested, FULL_MODEL) if name in by_name}


def _read_variant_specs(
    variant_specs: Sequence[str],
) -> tuple[list[AblationVariant], dict[Path, PaperConfig]]:
    """Variants that are named, and configurations of the other files."""
    named: list[AblationVariant] = []
    unnamed: dict[Path, PaperConfig] = {}
    for spec in variant_specs:
        name, equals, location = spec.partition("=")
        if equals and name in VARIANT_NAMES:
            path = _resolve_weights_file(Path(location))
            named.append(AblationVariant(name=name, path=path, config=read_paper_config(path)))
        elif equals and not Path(spec).exists():
            raise UsageError(f"{spec!r} names no variant", hint=VARIANT_HINT)
        else:
            unnamed |= {path: read_paper_config(path) for path in _list_weights(Path(spec))}
    return named, unnamed


def infer_full_config(configs: Sequence[PaperConfig]) -> PaperConfig:
    """The full model that most configurations are variants of: their sizes, every setting on.

    Where none of them uses visual features the full model uses poses instead, as in
    `loris train`.
    """
    is_visual = any(config.visual_projection != "none" for config in configs)
    phases = [config.hawkes_phase for config in configs if config.hawkes_phase != "none"]

    def complete(config: PaperConfig) -> PaperConfig:
        own_phase = [config.hawkes_phase] if config.hawkes_phase != "none" else []
        return replace(
            config,
            visual_projection="lstm" if is_visual else "none",
            motion_encoder=not is_visual,
            rhythm_conditioning="attention",
            hawkes_phase=(*own_phase, *phases, "interval")[0],
            positional_encoding=True,
            aligned_rhythm=any(other.aligned_rhythm for other in configs),
        )

    return max(
        map(complete, configs),
        key=lambda full: sum(identify_variant(config, full) is not None for config in configs),
    )


def derive_variant_config(name: str, full: PaperConfig) -> PaperConfig | None:
    """The configuration of a variant; None where this full model has no such variant."""
    if name == FULL_MODEL:
        return full
    has_no_lstm = name == "lstm" and full.visual_projection == "none"
    if has_no_lstm or (name == "m" and full.motion_encoder):
        return None
    return replace(full, **VARIANT_OVERRIDES[name])


def identify_variant(config: PaperConfig, full: PaperConfig) -> str | None:
    """The name of a configuration as a variant of the full model; None if it is none."""
    names = (name for name in VARIANT_NAMES if derive_variant_config(name, full) == config)
    return next(names, None)


def build_ablation_tables(
    variant_names: Sequence[str], variants: Mapping[str, AblationVariant], subset: str
) -> list[PaperTable]:
    """Tables 5 and 6 with the lines of some variants and of the full model.

    Args:
        variant_names: keys of `VARIANT_OVERRIDES`.
        variants: variants that were found, by name.
        subset: scored subset, for the command that trains a missing variant.
    """
    # Without any file, the full model that `loris train` would train.
    default = PaperConfig(visual_projection="none", motion_encoder=True)
    full = infer_full_config([variant.config for variant in variants.values()] or [default])
    tables = []
    for number, names in TABLE_VARIANTS.items():
        printed = paper_tables.get_ablation_rows(number)
        chosen = [name for name in names if name in variant_names]
        lines = []
        for name in (*chosen, FULL_MODEL):
            exists = name in variants
            line = PaperTableLine(
                name=printed[name]["name"],
                system_id=name if exists else None,
                missing_reason="" if exists else _explain_missing_variant(name, full, subset),
                published_scores=printed[name],
            )
            lines.append(line)
        if chosen:
            tables.append(PaperTable(number=number, lines=lines))
    return tables


def _explain_missing_variant(name: str, full: PaperConfig, subset: str) -> str:
    if derive_variant_config(name, full) is None:
        return "the full model uses poses and no visual features, so it has no such variant"
    setting = "" if name == FULL_MODEL else f" --set {TRAIN_SET_OPTIONS[name]}"
    command = f"loris train --preset paper --split {subset} --out runs/{name}{setting}"
    return f"not trained: {command}"


def _check_variant_config(variant: AblationVariant, full: PaperConfig) -> None:
    """Refuse a file that is not the variant it is named."""
    expected = derive_variant_config(variant.name, full)
    if expected == variant.config:
        return
    path = printable_path(variant.path)
    name = identify_variant(variant.config, full)
    if name is not None:
        problem = f"{path} is not {variant.name!r} but {name!r}, by its configuration"
        raise UsageError(problem, hint=f"use --ablation-weights {name}={path}")
    if expected is None:
        reason = "the full model uses poses and no visual features"
    else:
        actual, required = asdict(variant.config), asdict(expected)
        key = next(key for key in required if actual[key] != required[key])
        reason = f"its {key} is {json.dumps(actual[key])}, not {json.dumps(required[key])}"
    hint = "train it like the full model but for that one setting; see docs/evaluation.md"
    problem = f"{path} is not {variant.name!r} of the others' full model: {reason}"
    raise UsageError(problem, hint=hint)


def _resolve_weights_file(path: Path) -> Path:
    """A weights file, or that of a run."""
    if (path / RUN_WEIGHTS_NAME).is_file():
        return path / RUN_WEIGHTS_NAME
    if path.is_dir():
        raise InputError(f"no {RUN_WEIGHTS_NAME} in the run {path}", hint="train it to its end")
    if not path.is_file():
        raise InputError(f"no file or run {path}", hint="check the name")
    return path


def _list_weights(folder: Path) -> list[Path]:
    """Weights of the paper's network in a folder, and in its runs."""
    if not folder.is_dir():
        raise InputError(f"no folder {folder}", hint=VARIANT_HINT)
    paths = sorted([*folder.glob("*.safetensors"), *folder.glob(f"*/{RUN_WEIGHTS_NAME}")])
    chosen = [path for path in paths if detect_preset(str(path)) == "paper"]
    if not chosen:
        hint = "train some: loris train --preset paper --out RUNS/full"
        raise InputError(f"no run and no weights of the paper's network in {folder}", hint=hint)
    return chosen
