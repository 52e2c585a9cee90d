"""Learning rates by parameter group and step: three named recipes.

Rates are functions of the step alone, so a resumed run needs no scheduler state.
"""

import math
from collections.abc import Iterable

from torch import nn

from loris_cli.errors import UsageError
from loris_cli.training.settings import TrainingSettings

BACKBONE_GROUP, NEW_GROUP = "backbone", "new"
"""Parameter groups: weights of a trained backbone, and layers that are new to it."""

INITIAL_LR, BACKBONE_LR, NEW_LAYERS_LR = 2e-4, 3e-6, 3e-3
"""LORIS, Sec. 5.1: of all layers at first, then of the backbone and of the rest."""
WARMUP_STEPS = 1000
DECAY_FRACTION = 0.2
"""Share of the steps of the default recipe in which the rate falls."""


def compute_lr(settings: TrainingSettings, group: str, step: int, n_steps: int) -> float:
    """Return the learning rate of a parameter group at a step.

    ``default``: a linear rise, a level, and over the last fifth half a cosine to zero, the same
    for all groups; a run that was too short resumes at the level when it is given more steps
    (Hu et al., 2024, "MiniCPM"). ``paper``: the text of Sec. 5.1. ``official``: what the
    released code does (specification, T1): its warm-up raises the backbone to 2e-4, where it
    stays, and the rest is at 3e-3 from the first step. Its plateau rule is left out: it waits
    for 60,000 steps, and no run of it has so many.

    Args:
        settings: of the run; ``recipe`` names the schedule.
        group: ``backbone`` or ``new``.
        step: from 0.
        n_steps: of the run.
    """
    if settings.recipe == "default":
        rise = min((step + 1) / max(settings.warmup_steps, 1), 1.0)
        progress = 1 - (n_steps - step) / max(DECAY_FRACTION * n_steps, 1.0)
        fall = (1 + math.cos(math.pi * min(max(progress, 0.0), 1.0))) / 2
        return settings.learning_rate * rise * fall
    if settings.stage == "unconditional":
        return INITIAL_LR  # neither source states it; their two rates presuppose a backbone
    if settings.recipe == "paper":
        if step < WARMUP_STEPS:
            return INITIAL_LR
        return BACKBONE_LR if group == BACKBONE_GROUP else NEW_LAYERS_LR
    if group == NEW_GROUP:
        return NEW_LAYERS_LR
    rise = min(step / WARMUP_STEPS, 1.0)
    return BACKBONE_LR + rise * (INITIAL_LR - BACKBONE_LR)


def build_parameter_groups(
    settings: TrainingSettings, module: nn.Module, backbone_keys: Iterable[str]
) -> dict[str, list[nn.Parameter]]:
    """Return the trained parameters by group; empty groups are left out.

    Args:
        settings: of the run.
        module: all that is trained.
        backbone_keys: names of the parameters that a trained backbone has.

    Raises:
        UsageError: the recipe is for a backbone and there is none.
    """
    backbone = set(backbone_keys)
    if settings.recipe != "default" and settings.stage == "conditional" and not backbone:
        raise UsageError(
            f"the {settings.recipe} recipe trains the backbone at 3e-6, which is for one that"
            " has been trained before",
            hint="train one with --stage unconditional and name it with --backbone,"
            " or take --recipe default",
        )
    groups: dict[str, list[nn.Parameter]] = {BACKBONE_GROUP: [], NEW_GROUP: []}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            groups[BACKBONE_GROUP if name in backbone else NEW_GROUP].append(parameter)
    return {name: parameters for name, parameters in groups.items() if parameters}
