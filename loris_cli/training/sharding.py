"""A learner whose parameters lie in parts with all processes (FSDP2), whole again for a save.

    learner -> levels and the rest, each parted -> shares;  shares -> whole tensors on the CPU

After Zhao et al., "PyTorch FSDP" (VLDB 2023), as `torch.distributed.fsdp.fully_shard` has it:
weights, gradients and what the optimizer keeps take a share of the memory each; the weights of
a level are gathered while it works. A save holds whole tensors, the same with and without.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from loris_cli.training.learners import levels


def shard(learner: nn.Module, *, device: torch.device, world: int) -> None:
    """Part a learner in place; it has the same weights with every process.

    Args:
        learner: anywhere; its parts move to the device one after the other.
        device: of this process.
        world: processes there are.
    """
    mesh = init_device_mesh(device.type, (world,))
    for level in levels(learner):
        fully_shard(level, mesh=mesh)
    fully_shard(learner, mesh=mesh)


@contextmanager
def unsynced(learner: FSDPModule) -> Iterator[None]:
    """While gradients gather for a later step, they are not shared."""
    learner.set_requires_gradient_sync(False)
    try:
        yield
    finally:
        learner.set_requires_gradient_sync(True)


def whole(value: Any, *, keep: bool = True) -> Any:
    """A state with whole tensors, on the CPU, for the parted ones; all processes take part.

    Args:
        value: a tensor, or dictionaries and lists with such inside.
        keep: whether this process wants them; others get None in their place.
    """
    if isinstance(value, DTensor):
        full: Tensor = value.full_tensor().detach()
        return full.cpu() if keep else None
    if isinstance(value, Mapping):
        return {key: whole(part, keep=keep) for key, part in value.items()}
    if isinstance(value, list):
        return [whole(part, keep=keep) for part in value]
    return value


def whole_norm(norm: Any) -> Tensor:
    """A norm that was computed over parted gradients, as a plain scalar."""
    full: Tensor = norm.full_tensor() if isinstance(norm, DTensor) else norm
    return full


def parted(state: Mapping[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """A whole state of an optimizer, its tensors parted as the parameters are.

    Args:
        state: as `whole` made it, with every process.
        optimizer: of parted parameters.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]

    def part(value: Any, parameter: Tensor) -> Any:
        alike = isinstance(value, Tensor) and value.shape == parameter.shape
        if not alike or not isinstance(parameter, DTensor):
            return value  # the count of steps
        return distribute_tensor(value, parameter.device_mesh, parameter.placements)

    kept = {
        number: {key: part(value, parameters[number]) for key, value in values.items()}
        for number, values in state["state"].items()
    }
    return {**state, "state": kept}
