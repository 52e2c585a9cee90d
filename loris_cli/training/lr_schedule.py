"""Learning rates by parameter group and step, for three recipes.

Learning rates depend only on the step, so a resumed run needs no scheduler state.
"""

import math
from collections.abc import Iterable

from torch import nn

from loris_cli.errors import UsageError
from loris_cli.training.settings import TrainingSettings

BACKBONE_GROUP, NEW_GROUP = "backbone", "new"
"""Parameter groups: weights of a pretrained backbone, and added layers."""

INITIAL_LR, BACKBONE_LR, NEW_LAYERS_LR = 2e-4, 3e-6, 3e-3
"""LORIS, Sec. 5.1: rate of all layers in warm-up, then of backbone and added layers."""
CONDITIONING_MODULES = (
    "cross_attend", "rhythm_hawkes_attention", "rhythm_encoder", "fixed_", "to_features",
)  # fmt: skip
"""Substrings of the names of U-Net modules that an unconditional backbone lacks or, if it is of
the stage ``unconditional``, has not trained on conditions."""
WARMUP_STEPS = 1000
DECAY_FRACTION = 0.2
"""Fraction of the steps in which the learning rate of the default recipe decays."""


def compute_lr(settings: TrainingSettings, group: str, step: int, n_steps: int) -> float:
    """Return the learning rate of a parameter group at a step.

    ``default``: linear warm-up, constant rate, and a half-cosine decay to zero in the last
    fifth of the steps, for all groups. A run that is extended resumes at the constant rate (Hu
    et al., 2024, "MiniCPM"). ``paper``: as described in Sec. 5.1. ``official``: as in the
    released code (docs/differences.md, T1), whose warm-up raises the rate of the backbone to
    2e-4, where it remains; added layers use 3e-3 from the first step. Its plateau scheduler is
    omitted (docs/differences.md, T2).

    Args:
        settings: settings of the run; ``recipe`` selects the schedule.
        group: ``backbone`` or ``new``.
        step: step, counted from 0.
        n_steps: total number of steps of the run.
    """
    if settings.recipe == "default":
        rise = min((step + 1) / max(settings.warmup_steps, 1), 1.0)
        progress = 1 - (n_steps - step) / max(DECAY_FRACTION * n_steps, 1.0)
        fall = (1 + math.cos(math.pi * min(max(progress, 0.0), 1.0))) / 2
        return settings.learning_rate * rise * fall
    if settings.stage == "unconditional":
        return INITIAL_LR  # not specified; the two rates are for a pretrained backbone
    if settings.recipe == "paper":
        if step < WARMUP_STEPS:
            return INITIAL_LR
        return BACKBONE_LR if group == BACKBONE_GROUP else NEW_LAYERS_LR
    if group == NEW_GROUP:
        return NEW_LAYERS_LR
    rise = min(step / WARMUP_STEPS, 1.0)
    return BACKBONE_LR + rise * (INITIAL_LR - BACKBONE_LR)


def is_conditioning(name: str) -> bool:
    """Return whether a parameter of a U-Net depends on the conditions."""
    return any(part in name for part in CONDITIONING_MODULES)


def build_parameter_groups(
    settings: TrainingSettings, module: nn.Module, backbone_keys: Iterable[str]
) -> dict[str, list[nn.Parameter]]:
    """Return the trainable parameters by group, without empty groups.

    Args:
        settings: settings of the run.
        module: module that is trained.
        backbone_keys: names of the parameters of the pretrained backbone.

    Raises:
        UsageError: the recipe requires a backbone, but none was given.
    """
    backbone = set(backbone_keys)
    if settings.recipe != "default" and settings.stage == "conditional" and not backbone:
        raise UsageError(
            f"the {settings.recipe} recipe requires a pretrained backbone, because it trains it"
            " at 3e-6",
            hint="train one with --stage unconditional and pass it with --backbone,"
            " or use --recipe default",
        )
    groups: dict[str, list[nn.Parameter]] = {BACKBONE_GROUP: [], NEW_GROUP: []}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            groups[BACKBONE_GROUP if name in backbone else NEW_GROUP].append(parameter)
    return {name: parameters for name, parameters in groups.items() if parameters}
