"""Settings of a training stage: defaults of preset and recipe, settings file, options.

preset, stage, recipe -> defaults -> --config FILE -> --set key=value -> TrainingSettings
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from loris_cli.baselines.learned_method import Compat, MethodName, NetworkSize
from loris_cli.baselines.learned_methods import METHOD_OBJECTS, get_learned_method
from loris_cli.dataset.manifest import VISUAL_ENCODERS
from loris_cli.errors import InputError, UsageError
from loris_cli.models.paper_config import HawkesPhase

Preset = Literal["mini", "paper", MethodName]
"""Preset of the networks, or a trained baseline."""
StageName = Literal["latent", "unconditional", "conditional"]
TrainingRecipe = Literal["default", "paper", "official"]

MINI_AUDIO_ACCENT_PROBABILITY = 0.6
PAPER_EPOCHS = {"da25": 100, "fe25": 200, "fe50": 200, "fs25": 250, "fs50": 250}
"""LORIS, Sec. 5.1: 100 epochs for dance, 200 for floor exercise, 250 for figure skating."""
PAPER_BATCH_SIZES = {"fs25": 8, "fs50": 8}
"""LORIS, App. B: 8 examples per GPU for figure skating, 10 for the other subsets."""
OFFICIAL_BATCH_SIZES = {"fs25": 8, "fe50": 4, "fs50": 4}
"""Batch size per GPU in the released configurations; 10 for the other subsets."""
OFFICIAL_EPOCHS = 250
"""The released configurations all have 250 epochs (docs/differences.md, T11)."""


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """Settings of one stage."""

    preset: Preset = "mini"
    stage: StageName = "conditional"
    recipe: TrainingRecipe = "default"
    subset: str = "synthetic"
    seed: int = 0

    steps: int = 0
    """Optimizer steps; 0 derives them from ``epochs``."""
    epochs: float = 30.0
    batch_size: int = 6
    """Examples per step in all processes; its default, `default_batch_size`, is per process."""
    accumulation_steps: int = 1
    """Micro-batches per process and optimizer step."""
    learning_rate: float = 5e-4
    warmup_steps: int = 50
    beta1: float = 0.9
    beta2: float = 0.96
    weight_decay: float = 0.01
    max_grad_norm: float = 0.5
    ema_decay: float = 0.999
    condition_dropout: float = 0.1
    audio_accent_probability: float = MINI_AUDIO_ACCENT_PROBABILITY
    """Probability that the rhythm peaks of a training clip with poses are accents of its audio
    or score instead of the peaks of its poses, which validation always uses."""

    network_size: NetworkSize = "compact"
    """Size of the network of a baseline. This setting and the next one are for baselines."""
    method_compat: Compat = "paper"
    """``official`` keeps the defects of the released code of a baseline."""

    channels: int = 256
    """Channels of the first U-Net level. This setting and the next ones, up to
    ``aligned_rhythm``, are for the paper preset only."""
    context_features: int = 1024
    visual_encoder: str = "auto"
    """Encoder of the visual features for conditioning: a name, ``none``, or ``auto`` for the
    first of `dataset.manifest.VISUAL_ENCODERS` for which all clips have features."""
    visual_lstm: bool = True
    """Encode the visual features with a bidirectional LSTM instead of a linear layer."""
    motion_encoder: Literal["auto", "true", "false"] = "auto"
    """Encode the poses with an ST-GCN; ``auto`` does so if there are no visual features."""
    rhythm_conditioning: Literal["attention", "multiply", "none"] = "attention"
    compat: Literal["paper", "strict"] = "paper"
    """Peaks of the poses: as in `loris rhythm --compat`."""
    hawkes_phase: HawkesPhase = "interval"
    positional_encoding: bool = True
    shared_rhythm_encoder: bool = False
    aligned_rhythm: bool = False

    bf16: bool = False
    checkpoint_activations: bool = False
    compile: bool = False
    fsdp: bool = False
    """Shard weights, gradients and optimizer state across processes (FSDP2)."""
    loader_workers: int = 0

    log_every: int = 20
    tensorboard: bool = False
    validate_every: int = 500
    validation_clips: int = 32
    validation_samples: int = 2
    save_every_s: float = 300.0
    max_nonfinite_steps: int = 20

    def fixed_on_resume(self) -> dict[str, Any]:
        """Return the settings that must not change when a run is resumed."""
        changeable = {
            "steps", "epochs", "accumulation_steps", "bf16", "checkpoint_activations",
            "compile", "fsdp", "loader_workers", "log_every", "tensorboard", "validate_every",
            "validation_clips", "validation_samples", "save_every_s", "max_nonfinite_steps",
        }  # fmt: skip
        return {key: value for key, value in asdict(self).items() if key not in changeable}


STAGE_DEFAULTS: Mapping[StageName, dict[str, Any]] = {
    "latent": {
        "batch_size": 12, "epochs": 20.0, "learning_rate": 1e-3, "ema_decay": 0.99,
        "max_grad_norm": 1.0, "validation_samples": 0,
    },
    "unconditional": {"condition_dropout": 1.0},
    "conditional": {},
}  # fmt: skip
PRESET_DEFAULTS: Mapping[str, dict[str, Any]] = {
    "mini": {},
    "paper": {
        "epochs": 100.0, "learning_rate": 2e-4, "warmup_steps": 1000,
        "weight_decay": 4.5e-2, "audio_accent_probability": 0.0,
    },
}  # fmt: skip
"""Defaults of each preset with the default recipe (LORIS, Sec. 5.1)."""
FIXED_SETTINGS = {"preset", "stage", "recipe", "subset"}
"""Settings that have their own command-line options."""
SETTING_CHOICES: Mapping[str, tuple[str, ...]] = {
    "visual_encoder": ("auto", "none", *VISUAL_ENCODERS),
    **{
        name: get_args(hint)
        for name, hint in get_type_hints(TrainingSettings).items()
        if get_origin(hint) is Literal
    },
}
SETTING_RANGES: Mapping[str, tuple[float, float]] = {
    "seed": (0, 2**31), "steps": (0, 10**9), "epochs": (0.0, 1e6), "batch_size": (1, 10**5),
    "accumulation_steps": (1, 10**4), "learning_rate": (0.0, 10.0), "warmup_steps": (0, 10**7),
    "beta1": (0.0, 0.9999), "beta2": (0.0, 0.99999), "weight_decay": (0.0, 10.0),
    "max_grad_norm": (1e-9, 1e9), "ema_decay": (0.0, 0.999999), "condition_dropout": (0.0, 1.0),
    "audio_accent_probability": (0.0, 1.0),
    "channels": (64, 4096), "context_features": (2, 8192), "loader_workers": (0, 256),
    "log_every": (1, 10**6), "validate_every": (1, 10**9), "validation_clips": (0, 10**5),
    "validation_samples": (0, 1000), "save_every_s": (0.0, 1e9),
    "max_nonfinite_steps": (0, 10**6),
}  # fmt: skip


def recipe_defaults(recipe: TrainingRecipe, subset: str) -> dict[str, Any]:
    """Return the settings of a recipe; `lr_schedule` has learning rates and parameter groups.

    The recipes of the paper (Sec. 5.1) and of the released code (docs/differences.md, T1 to
    T11) are for networks on the waveform. Their amplitude augmentation is not a setting: the
    paper preset always uses it, and `mini` is trained on latents that are computed only once.
    """
    if recipe == "default":
        return {}
    epochs = PAPER_EPOCHS.get(subset, 100) if recipe == "paper" else OFFICIAL_EPOCHS
    return {
        "weight_decay": 4.5e-2, "max_grad_norm": 0.5, "condition_dropout": 0.1,
        "epochs": float(epochs), "warmup_steps": 1000,
    }  # fmt: skip


def default_batch_size(
    preset: Preset, recipe: TrainingRecipe, subset: str, world_size: int
) -> dict[str, int]:
    """Return the batch size of paper or released code, per process; none for `mini`."""
    if (preset, recipe) == ("mini", "default"):
        return {}
    sizes = OFFICIAL_BATCH_SIZES if recipe == "official" else PAPER_BATCH_SIZES
    return {"batch_size": sizes.get(subset, 10) * world_size}


def resolve_settings(
    *,
    preset: Preset,
    stage: StageName,
    recipe: TrainingRecipe,
    subset: str,
    world_size: int = 1,
    config_path: Path | None = None,
    overrides: Sequence[str] = (),
) -> TrainingSettings:
    """Return the settings of one stage.

    Args:
        preset: preset of the networks.
        stage: stage to train.
        recipe: recipe of learning rates and schedules.
        subset: subset of the data set.
        world_size: number of processes.
        config_path: TOML settings file; a table named like a stage applies to that stage only.
        overrides: ``key=value`` strings, which take precedence over the file.

    Raises:
        UsageError: a setting does not exist, or its value is out of range.
        InputError: the file cannot be read.
    """
    if preset == "paper" and stage == "latent":
        raise UsageError(
            "the paper preset has no latent stage: its network generates the waveform",
            hint="omit --stage, or pass unconditional or conditional",
        )
    if stage == "latent":  # recipes apply to the diffusion model only
        recipe = "default"
    if preset in METHOD_OBJECTS:
        _check_method_run(preset, stage, recipe)
        values = dict(get_learned_method(preset).training_defaults)
    else:
        values = PRESET_DEFAULTS[preset] | recipe_defaults(recipe, subset)
        values |= default_batch_size(preset, recipe, subset, world_size)
    values |= STAGE_DEFAULTS[stage]
    base = TrainingSettings(preset=preset, stage=stage, recipe=recipe, subset=subset, **values)
    if config_path is not None:
        values = _read_config_file(config_path, stage)
        base = _apply_overrides(base, values, str(config_path))
    return _apply_overrides(base, dict(map(_parse_override, overrides)), "--set")


def _check_method_run(method: str, stage: StageName, recipe: TrainingRecipe) -> None:
    """Raise if a baseline is trained with a stage or a recipe of the diffusion models."""
    if stage != "conditional" or recipe != "default":
        option = "--stage" if stage != "conditional" else "--recipe"
        raise UsageError(
            f"{option} cannot be used with --method {method}", hint=f"omit {option}"
        )


def _read_config_file(config_path: Path, stage: StageName) -> dict[str, Any]:
    try:
        values = tomllib.loads(config_path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"cannot read {config_path} as TOML: {error}", hint="see docs/training.md"
        ) from error
    stage_values = values.get(stage, {})
    if not isinstance(stage_values, dict):
        raise InputError(f"{stage} in {config_path} is not a table")
    common = {key: value for key, value in values.items() if key not in get_args(StageName)}
    return {**common, **stage_values}


def _parse_override(text: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not separator:
        raise UsageError(f"--set {text!r} is not key=value", hint="try --set batch_size=12")
    return key.strip(), value.strip()


def _apply_overrides(
    settings: TrainingSettings, values: Mapping[str, Any], source: str
) -> TrainingSettings:
    known = sorted({field.name for field in fields(TrainingSettings)} - FIXED_SETTINGS)
    converted: dict[str, Any] = {}
    for key, value in values.items():
        if key not in known:
            raise UsageError(f"{source}: no setting {key!r}", hint="one of " + ", ".join(known))
        converted[key] = _convert_value(key, value, type(getattr(settings, key)), source)
    settings = replace(settings, **converted)
    if settings.fsdp and settings.compile:
        raise UsageError(f"{source}: fsdp and compile cannot be combined", hint="omit one")
    return settings


def _convert_value(key: str, value: Any, target_type: type, source: str) -> Any:
    """Convert a value to the type of its setting; check choices and range."""
    expected = f"type {target_type.__name__}"
    try:
        if target_type is bool:
            return {"true": True, "false": False}[str(value).lower()]
        if target_type is int and isinstance(value, float) and not value.is_integer():
            raise ValueError("not an integer")
        converted = target_type(str(value).lower() if isinstance(value, bool) else value)
        if key in SETTING_CHOICES:
            expected = "one of " + ", ".join(SETTING_CHOICES[key])
            SETTING_CHOICES[key].index(converted)
        if key in SETTING_RANGES:
            low, high = SETTING_RANGES[key]
            expected = f"a value from {low} to {high}"
            if not low <= converted <= high:
                raise ValueError("out of range")
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise UsageError(
            f"{source}: invalid {key} {value!r}, expected {expected}",
            hint="types, defaults and ranges: loris_cli/training/settings.py",
        ) from error
    return converted
