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

from loris_cli.training.losses import find_unet_levels

MAX_GATHER_ELEMENTS = 2**26
"""Elements gathered at a time: 256 MB in fp32 that a save takes of a device's memory, twice."""


def apply_fsdp(module: nn.Module, *, device: torch.device, world_size: int) -> None:
    """Part a learner in place; it has the same weights with every process.

    Args:
        module: anywhere; its parts move to the device one after the other.
        device: of this process.
        world_size: processes there are.
    """
    mesh = init_device_mesh(device.type, (world_size,))
    for level in find_unet_levels(module):
        fully_shard(level, mesh=mesh)
    fully_shard(module, mesh=mesh)


@contextmanager
def no_grad_sync(module: FSDPModule) -> Iterator[None]:
    """While gradients gather for a later step, they are not shared."""
    module.set_requires_gradient_sync(False)
    try:
        yield
    finally:
        module.set_requires_gradient_sync(True)


def gather_state(state: Any, *, keep_result: bool = True) -> Any:
    """A state with whole tensors, on the CPU, for the parted ones; all processes take part.

    The shares of all tensors of one type travel as one: a few large gatherings for many small
    ones, which took seconds a save and, with gloo, were seen to fall over once.

    Args:
        state: a tensor, or dictionaries and lists with such inside; tensors parted as `apply_fsdp`
            parts them, along their first axis.
        keep_result: whether this process wants them; others get None in their place.
    """
    found: dict[int, DTensor] = {}
    _collect_dtensors(state, found)
    gathered: dict[int, Tensor] = {}
    for batch in _batch_by_dtype(found):
        shares = _all_gather_tensors(batch)
        if keep_result:
            gathered.update(shares)
    return _replace_dtensors(state, gathered if keep_result else None)


def _collect_dtensors(value: Any, found: dict[int, DTensor]) -> None:
    """The parted tensors in a state, by identity, in the order that all processes share."""
    if isinstance(value, DTensor):
        found[id(value)] = value
    elif isinstance(value, Mapping):
        for part in value.values():
            _collect_dtensors(part, found)
    elif isinstance(value, list):
        for part in value:
            _collect_dtensors(part, found)


def _batch_by_dtype(tensors: Mapping[int, DTensor]) -> Iterator[dict[int, DTensor]]:
    """Tensors of one type, as many as may travel together; alike with all processes."""
    for dtype in sorted({tensor.dtype for tensor in tensors.values()}, key=str):
        batch: dict[int, DTensor] = {}
        for key, tensor in tensors.items():
            if tensor.dtype != dtype:
                continue
            full = (
                sum(one.numel() for one in batch.values()) + tensor.numel()
                > MAX_GATHER_ELEMENTS
            )
            if batch and full:
                yield batch
                batch = {}
            batch[key] = tensor
        yield batch


def _all_gather_tensors(tensors: Mapping[int, DTensor]) -> dict[int, Tensor]:
    """Parted tensors of one type, whole, on the CPU."""
    mesh = next(iter(tensors.values())).device_mesh
    sizes = torch.zeros(mesh.size(), len(tensors), dtype=torch.int64)  # of every share
    for place, tensor in enumerate(tensors.values()):
        for rank, rows in enumerate(torch.arange(len(tensor)).chunk(mesh.size())):
            sizes[rank, place] = len(rows) * tensor.shape[1:].numel()
    longest = int(sizes.sum(1).max())
    mine = torch.cat([tensor.to_local().detach().reshape(-1) for tensor in tensors.values()])
    every = mine.new_empty(mesh.size(), longest)
    mine = nn.functional.pad(mine, (0, longest - len(mine)))
    torch.distributed.all_gather(list(every), mine, group=mesh.get_group())
    shares = [
        row[: size.sum()].split(size.tolist())
        for row, size in zip(every.cpu(), sizes, strict=True)
    ]
    return {
        key: torch.cat(parts).reshape(tensors[key].shape)
        for key, parts in zip(tensors, zip(*shares, strict=True), strict=True)
    }


def _replace_dtensors(value: Any, gathered: Mapping[int, Tensor] | None) -> Any:
    """The state again, with what was gathered, or None, for what was parted."""
    if isinstance(value, DTensor):
        return None if gathered is None else gathered[id(value)]
    if isinstance(value, Mapping):
        return {key: _replace_dtensors(part, gathered) for key, part in value.items()}
    if isinstance(value, list):
        return [_replace_dtensors(part, gathered) for part in value]
    return value


def full_norm(norm: Any) -> Tensor:
    """A norm that was computed over parted gradients, as a plain scalar."""
    full: Tensor = norm.full_tensor() if isinstance(norm, DTensor) else norm
    return full


def shard_optimizer_state(
    state: Mapping[str, Any], optimizer: torch.optim.Optimizer
) -> dict[str, Any]:
    """A whole state of an optimizer, its tensors parted as the parameters are.

    Args:
        state: as `gather_state` made it, with every process.
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
