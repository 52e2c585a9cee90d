"""Checked loading of a saved optimizer state."""

from collections.abc import Mapping
from typing import Any

import torch

from loris_cli.training import fsdp


def load_optimizer_state(optimizer: torch.optim.AdamW, state: Mapping[str, Any]) -> None:
    """Load the moments of all parameters; other values of the groups are those of the settings.

    Args:
        optimizer: new optimizer, of sharded parameters with FSDP.
        state: full state of an optimizer of the same parameters.

    Raises:
        ValueError: the state is that of other parameters or groups.
        KeyError, TypeError, AttributeError: the state is damaged.
    """
    own = optimizer.state_dict()
    groups = [(group["name"], group["params"]) for group in own["param_groups"]]
    if [(group["name"], group["params"]) for group in state["param_groups"]] != groups:
        raise ValueError("the optimizer has other parameter groups")
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for index, values in state["state"].items():
        shape = parameters[index].shape
        shapes = {name: value.shape for name, value in values.items()}
        if shapes != {"step": torch.Size(), "exp_avg": shape, "exp_avg_sq": shape}:
            raise ValueError(f"invalid state of parameter {index}")
    moments = {**own, "state": state["state"]}
    optimizer.load_state_dict(fsdp.shard_optimizer_state(moments, optimizer))
