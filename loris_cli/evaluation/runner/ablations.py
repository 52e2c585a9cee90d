"""Ablation variants for tables 5 and 6 of the paper, identified by their configuration.

weights files, run folders -> configurations -> common full model -> variant names

A table compares networks that differ in one setting. A weights file is therefore a variant only
if its configuration, including layer sizes, equals the full model except for that setting
(docs/paper-model.md).
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
"""Configuration changes relative to the full model, by variant."""
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
"""Options of `loris train --set` for clips with visual features. Without visual features, the
full model uses poses, and the variants ``m`` and ``lstm`` do not exist."""
VARIANT_HINT = f"use --ablation-weights NAME=FILE, with NAME one of {', '.join(VARIANT_NAMES)}"
RUN_WEIGHTS_NAME = "paper.safetensors"
"""File name of the final weights in a run folder."""


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
    """Find the weights of the requested variants.

    Args:
        variant_specs: ``NAME=FILE`` or ``NAME=RUN``, with a configuration that must match the
            variant; or a folder of runs or weights files, searched for the requested variants.
        variant_names: keys of `VARIANT_OVERRIDES`; the full model is always included.
        reporter: receives warnings about files that are not a variant of the full model.

    Returns:
        variants found, by name.

    Raises:
        UsageError: a configuration does not match the variant name, or a variant is ambiguous.
        InputError: a file does not exist, or a folder has no weights.
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
            reporter.warn(f"ignoring {printable_path(path)}: not a variant of the full model")
        else:
            named.append(AblationVariant(name=name, path=path, config=config))
    by_name: dict[str, AblationVariant] = {}
    for variant in named:
        other = by_name.setdefault(variant.name, variant)
        if other is not variant and variant.name in (FULL_MODEL, *variant_names):
            problem = f"{other.path} and {variant.path} are both variant {variant.name!r}"
            raise UsageError(
                problem, hint=f"select one: --ablation-weights {variant.name}=FILE"
            )
    requested = [name for name in VARIANT_OVERRIDES if name in variant_names]
    return {name: by_name[name] for name in (*requested, FULL_MODEL) if name in by_name}


def _read_variant_specs(
    variant_specs: Sequence[str],
) -> tuple[list[AblationVariant], dict[Path, PaperConfig]]:
    """Return the variants given by name, and the configurations of all other files."""
    named: list[AblationVariant] = []
    unnamed: dict[Path, PaperConfig] = {}
    for spec in variant_specs:
        name, equals, location = spec.partition("=")
        if equals and name in VARIANT_NAMES:
            path = _resolve_weights_file(Path(location))
            named.append(AblationVariant(name=name, path=path, config=read_paper_config(path)))
        elif equals and not Path(spec).exists():
            raise UsageError(f"{spec!r} is not a known variant", hint=VARIANT_HINT)
        else:
            unnamed |= {path: read_paper_config(path) for path in _list_weights(Path(spec))}
    return named, unnamed


def infer_full_config(configs: Sequence[PaperConfig]) -> PaperConfig:
    """Return the full model that most configurations are variants of.

    It has the layer sizes of these configurations and all settings enabled. If none of the
    configurations uses visual features, the full model uses poses instead, as in `loris train`.
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
    """Return the configuration of a variant; None if the full model has no such variant."""
    if name == FULL_MODEL:
        return full
    has_no_lstm = name == "lstm" and full.visual_projection == "none"
    if has_no_lstm or (name == "m" and full.motion_encoder):
        return None
    return replace(full, **VARIANT_OVERRIDES[name])


def identify_variant(config: PaperConfig, full: PaperConfig) -> str | None:
    """Return the variant name of a configuration; None if it matches no variant."""
    names = (name for name in VARIANT_NAMES if derive_variant_config(name, full) == config)
    return next(names, None)


def build_ablation_tables(
    variant_names: Sequence[str], variants: Mapping[str, AblationVariant], subset: str
) -> list[PaperTable]:
    """Build tables 5 and 6 with lines for the requested variants and the full model.

    Args:
        variant_names: keys of `VARIANT_OVERRIDES`.
        variants: variants found, by name.
        subset: scored subset, used in the training command shown for a missing variant.
    """
    # Without any weights, the full model is the one that `loris train` would train.
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
        return "not applicable: the full model uses poses instead of visual features"
    setting = "" if name == FULL_MODEL else f" --set {TRAIN_SET_OPTIONS[name]}"
    command = f"loris train --preset paper --split {subset} --out runs/{name}{setting}"
    return f"not trained: {command}"


def _check_variant_config(variant: AblationVariant, full: PaperConfig) -> None:
    """Raise ``UsageError`` if the configuration of a variant does not match its name."""
    expected = derive_variant_config(variant.name, full)
    if expected == variant.config:
        return
    path = printable_path(variant.path)
    name = identify_variant(variant.config, full)
    if name is not None:
        problem = (
            f"{path} is not variant {variant.name!r}: its configuration is that of {name!r}"
        )
        raise UsageError(problem, hint=f"use --ablation-weights {name}={path}")
    if expected is None:
        reason = "the full model uses poses instead of visual features"
    else:
        actual, required = asdict(variant.config), asdict(expected)
        key = next(key for key in required if actual[key] != required[key])
        reason = f"{key} is {json.dumps(actual[key])}, expected {json.dumps(required[key])}"
    hint = "train it with the settings of the full model except one; see docs/evaluation.md"
    problem = f"{path} is not variant {variant.name!r} of the full model: {reason}"
    raise UsageError(problem, hint=hint)


def _resolve_weights_file(path: Path) -> Path:
    """Return the path of a weights file, given as a file or a run folder."""
    if (path / RUN_WEIGHTS_NAME).is_file():
        return path / RUN_WEIGHTS_NAME
    if path.is_dir():
        raise InputError(f"no {RUN_WEIGHTS_NAME} in the run {path}", hint="finish the training")
    if not path.is_file():
        raise InputError(f"no such file or run folder: {path}", hint="check the path")
    return path


def _list_weights(folder: Path) -> list[Path]:
    """Return the weights files of the paper's network in a folder and its run folders."""
    if not folder.is_dir():
        raise InputError(f"no such folder: {folder}", hint=VARIANT_HINT)
    paths = sorted([*folder.glob("*.safetensors"), *folder.glob(f"*/{RUN_WEIGHTS_NAME}")])
    chosen = [path for path in paths if detect_preset(str(path)) == "paper"]
    if not chosen:
        hint = "train the network: loris train --preset paper --out RUNS/full"
        raise InputError(f"no runs or weights of the paper's network in {folder}", hint=hint)
    return chosen
