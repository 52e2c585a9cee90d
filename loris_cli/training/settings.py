"""What a training run is told: a preset and a recipe, changed by a file and by hand.

preset, stage, recipe -> defaults -> --config FILE -> --set key=value -> Settings
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

from loris_cli.dataset.manifest import VISUAL_ENCODERS
from loris_cli.errors import InputError, UsageError
from loris_cli.models.paper_config import HawkesPhase
from loris_cli.system.atomic_files import printable_path

Preset = Literal["mini", "paper"]
StageName = Literal["latent", "unconditional", "conditional"]
TrainingRecipe = Literal["ours", "paper", "official"]

PAPER_EPOCHS = {"da25": 100, "fe25": 200, "fe50": 200, "fs25": 250, "fs50": 250}
"""LORIS, Sec. 5.1: 100 epochs for dance, 200 for floor exercise, 250 for skating."""
OFFICIAL_EPOCHS = 250
"""The released configurations have 250 everywhere (specification, T11)."""


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """One stage of one run. ``steps`` are optimizer steps, ``batch_size`` is of all processes."""

    preset: Preset = "mini"
    stage: StageName = "conditional"
    recipe: TrainingRecipe = "ours"
    subset: str = "synthetic"
    seed: int = 0

    steps: int = 0
    """0 is as many as ``epochs`` make."""
    epochs: float = 30.0
    batch_size: int = 6
    accumulation_steps: int = 1
    """Parts that a process's share of a batch is taken in, one after the other."""
    learning_rate: float = 5e-4
    warmup_steps: int = 50
    beta1: float = 0.9
    beta2: float = 0.96
    weight_decay: float = 0.01
    max_grad_norm: float = 0.5
    ema_decay: float = 0.999
    condition_dropout: float = 0.1

    channels: int = 256
    """Of the outermost level of the paper preset's U-Net; this and what follows are its own."""
    context_features: int = 1024
    visual_encoder: str = "auto"
    """Whose features of the picture it is told: of the makers in `dataset.manifest.VISUAL_ENCODERS` the
    first whose features all clips have, or one by name, or ``none``."""
    visual_lstm: bool = True
    """Whether those features pass through a bidirectional LSTM, or through a linear layer."""
    motion_encoder: Literal["auto", "true", "false"] = "auto"
    """Whether an ST-GCN tells of the body; ``auto`` is where no features of the picture do."""
    rhythm_conditioning: Literal["attention", "multiply", "none"] = "attention"
    hawkes_phase: HawkesPhase = "interval"
    positional_encoding: bool = True
    shared_rhythm_encoder: bool = False
    aligned_rhythm: bool = False

    bf16: bool = False
    checkpoint_activations: bool = False
    compile: bool = False
    fsdp: bool = False
    """Part weights, gradients and the optimizer's state among the processes (FSDP2)."""
    loader_workers: int = 0

    log_every: int = 20
    tensorboard: bool = False
    validate_every: int = 500
    validation_clips: int = 32
    validation_samples: int = 2
    save_every_s: float = 300.0
    max_nonfinite_steps: int = 20

    def fixed_on_resume(self) -> dict[str, Any]:
        """What may not change when a run goes on; the rest is how it is run, not what."""
        changeable = {
            "steps", "epochs", "accumulation_steps", "bf16", "checkpoint_activations", "compile",
            "fsdp", "loader_workers", "log_every", "tensorboard", "validate_every", "validation_clips",
            "validation_samples", "save_every_s", "max_nonfinite_steps",
        }  # fmt: skip
        return {key: value for key, value in asdict(self).items() if key not in changeable}


STAGE_DEFAULTS: Mapping[StageName, Mapping[str, Any]] = {
    "latent": {
        "batch_size": 12, "epochs": 20.0, "learning_rate": 1e-3, "ema_decay": 0.99, "max_grad_norm": 1.0,
        "validation_samples": 0,
    },
    "unconditional": {"condition_dropout": 1.0},
    "conditional": {},
}  # fmt: skip


PRESET_DEFAULTS: Mapping[Preset, Mapping[str, Any]] = {
    "mini": {},
    "paper": {
        "batch_size": 10, "epochs": 100.0, "learning_rate": 2e-4, "warmup_steps": 1000,
        "weight_decay": 4.5e-2,
    },
}  # fmt: skip
"""What a preset has of its own where the recipe is ours: LORIS, Sec. 5.1."""
SETTING_CHOICES: Mapping[str, tuple[str, ...]] = {
    "visual_encoder": ("auto", "none", *VISUAL_ENCODERS),
    "motion_encoder": ("auto", "true", "false"),
    "rhythm_conditioning": ("attention", "multiply", "none"),
    "hawkes_phase": get_args(HawkesPhase),
}


def recipe_defaults(recipe: TrainingRecipe, subset: str) -> dict[str, Any]:
    """What a recipe says of the settings; of rates and groups see `recipes`.

    The paper's (Sec. 5.1) and the released code's (specification, 4.4) are for networks on the
    waveform. Their amplitude augmentation is not here: the paper preset always has it, and
    `mini` learns from codes made once.
    """
    if recipe == "ours":
        return {}
    told = {"weight_decay": 4.5e-2, "max_grad_norm": 0.5, "condition_dropout": 0.1}
    epochs = PAPER_EPOCHS.get(subset, 100) if recipe == "paper" else OFFICIAL_EPOCHS
    return {**told, "epochs": float(epochs), "warmup_steps": 1000, "batch_size": 10}


def resolve_settings(
    *,
    preset: Preset,
    stage: StageName,
    recipe: TrainingRecipe,
    subset: str,
    config_path: Path | None = None,
    overrides: Sequence[str] = (),
) -> TrainingSettings:
    """Settings of one stage.

    Args:
        preset: size of the networks.
        stage: what is trained.
        recipe: whose rates and schedules.
        subset: subset of the data set.
        config_path: a TOML file of settings; those in a table named like the stage are for it alone.
        overrides: ``key=value`` each; what is given by hand wins.

    Raises:
        UsageError: there is no such setting, or the value does not fit.
        InputError: the file cannot be read.
    """
    if preset == "paper" and stage == "latent":
        raise UsageError(
            "the paper's network is on the waveform: it has no latent to learn",
            hint="leave out --stage, or give unconditional or conditional",
        )
    # A latent is learned the same way whoever's recipe trains what runs in it.
    told = recipe_defaults(recipe, subset) if stage != "latent" else {}
    settings = TrainingSettings(
        preset=preset,
        stage=stage,
        recipe=recipe if stage != "latent" else "ours",
        subset=subset,
        **{**PRESET_DEFAULTS[preset], **told, **STAGE_DEFAULTS[stage]},
    )
    if config_path is not None:
        settings = _apply_overrides(
            settings, _read_config_file(config_path, stage), source=printable_path(config_path)
        )
    return _apply_overrides(
        settings, dict(_parse_override(text) for text in overrides), source="--set"
    )


def _read_config_file(config_path: Path, stage: StageName) -> dict[str, Any]:
    try:
        told = tomllib.loads(config_path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(
            f"{printable_path(config_path)} cannot be read as TOML: {error}",
            hint="see docs/training.md",
        ) from error
    own = told.get(stage, {})
    common = {key: value for key, value in told.items() if key not in get_args(StageName)}
    if not isinstance(own, dict):
        raise InputError(f"{stage} in {printable_path(config_path)} is no table")
    return {**common, **own}


def _parse_override(text: str) -> tuple[str, str]:
    key, found, value = text.partition("=")
    if not found:
        raise UsageError(f"--set {text!r} is not key=value", hint="such as --set batch_size=12")
    return key.strip(), value.strip()


def _apply_overrides(
    settings: TrainingSettings, values: Mapping[str, Any], *, source: str
) -> TrainingSettings:
    kinds = {field.name: field.type for field in fields(TrainingSettings)}
    fixed = {"preset", "stage", "recipe", "subset"}
    new: dict[str, Any] = {}
    for key, value in values.items():
        if key not in kinds or key in fixed:
            known = ", ".join(sorted(set(kinds) - fixed))
            raise UsageError(f"{source}: no setting {key!r}", hint=f"there are {known}")
        new[key] = _convert_value(key, value, type(getattr(settings, key)), source)
    changed = replace(settings, **new)
    _check_settings(changed, source)
    return changed


def _convert_value(key: str, value: Any, target_type: type, source: str) -> Any:
    try:
        if target_type is bool:
            return {"true": True, "false": False}[str(value).lower()]
        return target_type(str(value).lower() if isinstance(value, bool) else value)
    except (ValueError, TypeError, KeyError) as error:
        raise UsageError(
            f"{source}: {key} is {value!r}, not a {target_type.__name__}",
            hint="give another value",
        ) from error


def _check_settings(settings: TrainingSettings, source: str) -> None:
    ranges = {
        "seed": (0, 2**31), "steps": (0, 10**9), "epochs": (0.0, 1e6), "batch_size": (1, 10**5),
        "accumulation_steps": (1, 10**4), "learning_rate": (0.0, 10.0), "warmup_steps": (0, 10**7),
        "beta1": (0.0, 0.9999), "beta2": (0.0, 0.99999), "weight_decay": (0.0, 10.0),
        "max_grad_norm": (1e-9, 1e9), "ema_decay": (0.0, 0.999999), "condition_dropout": (0.0, 1.0),
        "channels": (64, 4096), "context_features": (2, 8192), "loader_workers": (0, 256),
        "log_every": (1, 10**6),
        "validate_every": (1, 10**9), "validation_clips": (0, 10**5), "validation_samples": (0, 1000),
        "save_every_s": (0.0, 1e9), "max_nonfinite_steps": (0, 10**6),
    }  # fmt: skip
    for key, choices in SETTING_CHOICES.items():
        if getattr(settings, key) not in choices:
            raise UsageError(
                f"{source}: {key} is {getattr(settings, key)!r}",
                hint="give one of " + ", ".join(choices),
            )
    if settings.fsdp and settings.compile:
        raise UsageError(
            f"{source}: fsdp and compile are not supported together", hint="leave out one"
        )
    for key, (low, high) in ranges.items():
        value = getattr(settings, key)
        if not low <= value <= high:
            raise UsageError(
                f"{source}: {key} is {value}, not from {low} to {high}",
                hint="give another value",
            )
