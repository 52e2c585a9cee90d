"""How fast each part of a network learns, and when: three named recipes.

Rates are functions of the step alone, so a run that goes on needs no scheduler's state.
"""

import math
from collections.abc import Iterable

from torch import nn

from loris_cli.errors import UsageError
from loris_cli.training.settings import TrainingRecipe, TrainingSettings

BACKBONE_GROUP, NEW_GROUP = "backbone", "added"
"""Groups of parameters: what a backbone brings along, and what is new to it."""

INITIAL_LR, BACKBONE_LR, NEW_LAYERS_LR = 2e-4, 3e-6, 3e-3
"""LORIS, Sec. 5.1: of all layers at first, then of the backbone and of the rest."""
WARMUP_STEPS = 1000
DECAY_FRACTION = 0.2
"""Of a run of ours, the share in which its rate falls."""


def compute_learning_rate(
    recipe: TrainingRecipe, group: str, step: int, settings: TrainingSettings, n_steps: int
) -> float:
    """Learning rate of a group of parameters at a step.

    ``ours``: a linear rise, a level, and over the last fifth half a cosine to zero, the same
    for all; a run that was too short goes on at the level when it is given more steps (Hu et
    al., 2024, "MiniCPM"). ``paper``: the text of Sec. 5.1. ``official``: what the released code
    does (specification, T1): its warm-up raises the backbone to 2e-4, where it stays, and the
    rest is at 3e-3 from the first step. Its plateau rule is left out: it waits for 60,000
    steps, and no run of it has so many.

    Args:
        recipe: whose.
        group: ``backbone`` or ``added``.
        step: from 0.
        settings: of the run.
        n_steps: of the run.
    """
    if recipe == "ours":
        rise = min((step + 1) / max(settings.warmup_steps, 1), 1.0)
        down = 1 - (n_steps - step) / max(DECAY_FRACTION * n_steps, 1.0)
        fall = (1 + math.cos(math.pi * min(max(down, 0.0), 1.0))) / 2
        return settings.learning_rate * rise * fall
    if settings.stage == "unconditional":
        return INITIAL_LR  # neither tells of it; what the two rates follow on is a plain run
    if recipe == "paper":
        if step < WARMUP_STEPS:
            return INITIAL_LR
        return BACKBONE_LR if group == BACKBONE_GROUP else NEW_LAYERS_LR
    if group == NEW_GROUP:
        return NEW_LAYERS_LR
    rise = min(step / WARMUP_STEPS, 1.0)
    return BACKBONE_LR + rise * (INITIAL_LR - BACKBONE_LR)


def build_parameter_groups(
    settings: TrainingSettings, module: nn.Module, backbone_parameter_names: Iterable[str]
) -> dict[str, list[nn.Parameter]]:
    """Parameters by what they are to the recipe; a group without any is left out.

    Args:
        settings: of the run.
        module: all that is trained.
        backbone_parameter_names: names of the parameters that come with weights of their own.

    Raises:
        UsageError: the recipe is for a backbone and there is none.
    """
    known = set(backbone_parameter_names)
    if settings.recipe != "ours" and settings.stage == "conditional" and not known:
        raise UsageError(
            f"the {settings.recipe} recipe gives a trained backbone 3e-6; one that has learned"
            " nothing would stay so",
            hint="train one with --stage unconditional and name it with --backbone,"
            " or take --recipe ours",
        )
    parts: dict[str, list[nn.Parameter]] = {BACKBONE_GROUP: [], NEW_GROUP: []}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            parts[BACKBONE_GROUP if name in known else NEW_GROUP].append(parameter)
    return {name: part for name, part in parts.items() if part}


def clips_gradients_per_group(recipe: TrainingRecipe) -> bool:
    """Whether gradients are clipped group by group, as the released code does (T4)."""
    return recipe == "official"
