"""What a training run is told: a preset and a recipe, changed by a file and by hand.

preset, stage, recipe -> defaults -> --config FILE -> --set key=value -> Settings
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

from loris_cli.dataset.manifest import VISUAL
from loris_cli.errors import InputError, UsageError
from loris_cli.models.hawkes import Hawkes
from loris_cli.system.atomic_files import printable

Preset = Literal["mini", "paper"]
Stage = Literal["latent", "unconditional", "conditional"]
Recipe = Literal["ours", "paper", "official"]

PAPER_EPOCHS = {"da25": 100, "fe25": 200, "fe50": 200, "fs25": 250, "fs50": 250}
"""LORIS, Sec. 5.1: 100 epochs for dance, 200 for floor exercise, 250 for skating."""
OFFICIAL_EPOCHS = 250
"""The released configurations have 250 everywhere (specification, T11)."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """One stage of one run. ``steps`` are optimizer steps, ``batch`` is of all processes."""

    preset: Preset = "mini"
    stage: Stage = "conditional"
    recipe: Recipe = "ours"
    split: str = "synthetic"
    seed: int = 0

    steps: int = 0
    """0 is as many as ``epochs`` make."""
    epochs: float = 30.0
    batch: int = 6
    accumulate: int = 1
    """Parts that a process's share of a batch is taken in, one after the other."""
    learning_rate: float = 5e-4
    warmup_steps: int = 50
    beta1: float = 0.9
    beta2: float = 0.96
    weight_decay: float = 0.01
    clip: float = 0.5
    ema: float = 0.999
    drop_condition: float = 0.1

    channels: int = 256
    """Of the outermost level of the paper preset's U-Net; this and what follows are its own."""
    features: int = 1024
    visual: str = "auto"
    """Whose features of the picture it is told: of the makers in `dataset.manifest.VISUAL` the
    first whose features all clips have, or one by name, or ``none``."""
    lstm: bool = True
    """Whether those features pass through a bidirectional LSTM, or through a linear layer."""
    motion: Literal["auto", "true", "false"] = "auto"
    """Whether an ST-GCN tells of the body; ``auto`` is where no features of the picture do."""
    rhythm: Literal["attention", "multiply", "none"] = "attention"
    hawkes: Hawkes = "interval"
    position: bool = True
    shared_rhythm: bool = False
    aligned: bool = False

    bf16: bool = False
    checkpoint_activations: bool = False
    compile: bool = False
    shard: bool = False
    """Part weights, gradients and the optimizer's state among the processes (FSDP2)."""
    workers: int = 0

    log_every: int = 20
    tensorboard: bool = False
    validate_every: int = 500
    validate_clips: int = 32
    sounds: int = 2
    save_every_s: float = 300.0
    most_bad_steps: int = 20

    def identity(self) -> dict[str, Any]:
        """What may not change when a run goes on; the rest is how it is run, not what."""
        changeable = {
            "steps", "epochs", "accumulate", "bf16", "checkpoint_activations", "compile",
            "shard", "workers", "log_every", "tensorboard", "validate_every", "validate_clips",
            "sounds", "save_every_s", "most_bad_steps",
        }  # fmt: skip
        return {key: value for key, value in asdict(self).items() if key not in changeable}


def in_words_of_now(told: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that were kept, perhaps when nobody could be told of the picture."""
    motion = {True: "auto", False: "false"}.get(told.get("motion", True), told.get("motion"))
    return {"visual": "auto", **told, "motion": motion}


BY_STAGE: Mapping[Stage, Mapping[str, Any]] = {
    "latent": {
        "batch": 12, "epochs": 20.0, "learning_rate": 1e-3, "ema": 0.99, "clip": 1.0,
        "sounds": 0,
    },
    "unconditional": {"drop_condition": 1.0},
    "conditional": {},
}  # fmt: skip


BY_PRESET: Mapping[Preset, Mapping[str, Any]] = {
    "mini": {},
    "paper": {
        "batch": 10, "epochs": 100.0, "learning_rate": 2e-4, "warmup_steps": 1000,
        "weight_decay": 4.5e-2,
    },
}  # fmt: skip
"""What a preset has of its own where the recipe is ours: LORIS, Sec. 5.1."""
CHOICES: Mapping[str, tuple[str, ...]] = {
    "visual": ("auto", "none", *VISUAL),
    "motion": ("auto", "true", "false"),
    "rhythm": ("attention", "multiply", "none"),
    "hawkes": get_args(Hawkes),
}


def by_recipe(recipe: Recipe, split: str) -> dict[str, Any]:
    """What a recipe says of the settings; of rates and groups see `recipes`.

    The paper's (Sec. 5.1) and the released code's (specification, 4.4) are for networks on the
    waveform. Their amplitude augmentation is not here: the paper preset always has it, and
    `mini` learns from codes made once.
    """
    if recipe == "ours":
        return {}
    told = {"weight_decay": 4.5e-2, "clip": 0.5, "drop_condition": 0.1}
    epochs = PAPER_EPOCHS.get(split, 100) if recipe == "paper" else OFFICIAL_EPOCHS
    return {**told, "epochs": float(epochs), "warmup_steps": 1000, "batch": 10}


def resolve(
    *,
    preset: Preset,
    stage: Stage,
    recipe: Recipe,
    split: str,
    config: Path | None = None,
    given: Sequence[str] = (),
) -> Settings:
    """Settings of one stage.

    Args:
        preset: size of the networks.
        stage: what is trained.
        recipe: whose rates and schedules.
        split: subset of the data set.
        config: a TOML file of settings; those in a table named like the stage are for it alone.
        given: ``key=value`` each; what is given by hand wins.

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
    told = by_recipe(recipe, split) if stage != "latent" else {}
    settings = Settings(
        preset=preset,
        stage=stage,
        recipe=recipe if stage != "latent" else "ours",
        split=split,
        **{**BY_PRESET[preset], **told, **BY_STAGE[stage]},
    )
    if config is not None:
        settings = _changed(settings, _read(config, stage), where=printable(config))
    return _changed(settings, dict(_pair(text) for text in given), where="--set")


def _read(config: Path, stage: Stage) -> dict[str, Any]:
    try:
        told = tomllib.loads(config.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(
            f"{printable(config)} cannot be read as TOML: {error}", hint="see docs/training.md"
        ) from error
    own = told.get(stage, {})
    common = {key: value for key, value in told.items() if key not in get_args(Stage)}
    if not isinstance(own, dict):
        raise InputError(f"{stage} in {printable(config)} is no table")
    return {**common, **own}


def _pair(text: str) -> tuple[str, str]:
    key, found, value = text.partition("=")
    if not found:
        raise UsageError(f"--set {text!r} is not key=value", hint="such as --set batch=12")
    return key.strip(), value.strip()


def _changed(settings: Settings, values: Mapping[str, Any], *, where: str) -> Settings:
    kinds = {field.name: field.type for field in fields(Settings)}
    fixed = {"preset", "stage", "recipe", "split"}
    new: dict[str, Any] = {}
    for key, value in values.items():
        if key not in kinds or key in fixed:
            known = ", ".join(sorted(set(kinds) - fixed))
            raise UsageError(f"{where}: no setting {key!r}", hint=f"there are {known}")
        new[key] = _typed(key, value, type(getattr(settings, key)), where)
    changed = replace(settings, **new)
    _check(changed, where)
    return changed


def _typed(key: str, value: Any, kind: type, where: str) -> Any:
    try:
        if kind is bool:
            return {"true": True, "false": False}[str(value).lower()]
        return kind(str(value).lower() if isinstance(value, bool) else value)
    except (ValueError, TypeError, KeyError) as error:
        raise UsageError(
            f"{where}: {key} is {value!r}, not a {kind.__name__}", hint="give another value"
        ) from error


def _check(settings: Settings, where: str) -> None:
    ranges = {
        "seed": (0, 2**31), "steps": (0, 10**9), "epochs": (0.0, 1e6), "batch": (1, 10**5),
        "accumulate": (1, 10**4), "learning_rate": (0.0, 10.0), "warmup_steps": (0, 10**7),
        "beta1": (0.0, 0.9999), "beta2": (0.0, 0.99999), "weight_decay": (0.0, 10.0),
        "clip": (1e-9, 1e9), "ema": (0.0, 0.999999), "drop_condition": (0.0, 1.0),
        "channels": (64, 4096), "features": (2, 8192), "workers": (0, 256),
        "log_every": (1, 10**6),
        "validate_every": (1, 10**9), "validate_clips": (0, 10**5), "sounds": (0, 1000),
        "save_every_s": (0.0, 1e9), "most_bad_steps": (0, 10**6),
    }  # fmt: skip
    for key, choices in CHOICES.items():
        if getattr(settings, key) not in choices:
            raise UsageError(
                f"{where}: {key} is {getattr(settings, key)!r}",
                hint="give one of " + ", ".join(choices),
            )
    if settings.shard and settings.compile:
        raise UsageError(
            f"{where}: shard and compile have not been tried together", hint="leave out one"
        )
    for key, (low, high) in ranges.items():
        value = getattr(settings, key)
        if not low <= value <= high:
            raise UsageError(
                f"{where}: {key} is {value}, not from {low} to {high}",
                hint="give another value",
            )
