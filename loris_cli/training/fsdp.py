"""Sharding of a loss module over all processes (FSDP2), and gathering of its state for a save.

    module -> levels and the rest, each sharded;  shards -> full tensors on the CPU

After Zhao et al., "PyTorch FSDP" (VLDB 2023), as `torch.distributed.fsdp.fully_shard` has it:
each process holds its shard of weights, gradients and optimizer state; the weights of a level
are gathered while it computes. A save holds full tensors, the same with and without FSDP.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from loris_cli.training.losses import find_unet_levels

MAX_GATHER_ELEMENTS = 2**26
"""Elements gathered at a time: a save takes 256 MB in fp32 of a device's memory, twice."""


def apply_fsdp(module: nn.Module, *, device: torch.device, world_size: int) -> None:
    """Shard a module in place; it has the same weights in every process.

    Args:
        module: on any device; its shards move to the device one after the other.
        device: of this process.
        world_size: number of processes.
    """
    mesh = init_device_mesh(device.type, (world_size,))
    for part in (*find_unet_levels(module), module):
        fully_shard(part, mesh=mesh)


def gather_state(state: Any, *, keep_result: bool = True) -> Any:
    """Return a state with full tensors on the CPU for its sharded ones; a collective operation.

    The shards of many tensors of one type are gathered at once. One gathering for each tensor
    took seconds a save, and crashed once with gloo.

    Args:
        state: a tensor, or dictionaries and lists with such inside; tensors sharded as
            `apply_fsdp` does it, along their first axis.
        keep_result: whether this process needs the tensors; else it gets None for them.
    """
    sharded: list[DTensor] = []
    _map_dtensors(state, sharded.append)
    full: dict[int, Tensor] = {}
    for batch in _batch_by_dtype(sharded):
        gathered = _all_gather_tensors(batch)
        if keep_result:
            full.update(zip(map(id, batch), gathered, strict=True))
    return _map_dtensors(state, lambda tensor: full.get(id(tensor)))


def _map_dtensors(value: Any, function: Callable[[DTensor], Any]) -> Any:
    """Return a state with a function applied to its sharded tensors, in a fixed order."""
    if isinstance(value, DTensor):
        return function(value)
    if isinstance(value, Mapping):
        return {key: _map_dtensors(item, function) for key, item in value.items()}
    if isinstance(value, list):
        return [_map_dtensors(item, function) for item in value]
    return value


def _batch_by_dtype(tensors: list[DTensor]) -> Iterator[list[DTensor]]:
    """Yield tensors of one type, up to `MAX_GATHER_ELEMENTS`; the same in all processes."""
    for dtype in sorted({tensor.dtype for tensor in tensors}, key=str):
        batch: list[DTensor] = []
        n_elements = 0
        for tensor in (tensor for tensor in tensors if tensor.dtype == dtype):
            if batch and n_elements + tensor.numel() > MAX_GATHER_ELEMENTS:
                yield batch
                batch, n_elements = [], 0
            batch.append(tensor)
            n_elements += tensor.numel()
        yield batch


def _all_gather_tensors(tensors: list[DTensor]) -> list[Tensor]:
    """Return the full tensors of sharded ones of one type, on the CPU."""
    mesh = tensors[0].device_mesh
    sizes = torch.zeros(mesh.size(), len(tensors), dtype=torch.int64)  # of every shard
    for index, tensor in enumerate(tensors):
        for rank, rows in enumerate(torch.arange(len(tensor)).chunk(mesh.size())):
            sizes[rank, index] = len(rows) * tensor.shape[1:].numel()
    local = torch.cat([tensor.to_local().detach().reshape(-1) for tensor in tensors])
    padded = nn.functional.pad(local, (0, int(sizes.sum(1).max()) - len(local)))
    gathered = local.new_empty(mesh.size(), len(padded))
    torch.distributed.all_gather(list(gathered), padded, group=mesh.get_group())
    received = zip(gathered.cpu(), sizes, strict=True)  # one row of each process
    shards = [row[: size.sum()].split(size.tolist()) for row, size in received]
    full = map(torch.cat, zip(*shards, strict=True))
    return [flat.reshape(tensor.shape) for flat, tensor in zip(full, tensors, strict=True)]


def full_norm(norm: Any) -> Tensor:
    """Return a norm that was computed over sharded gradients as a plain scalar."""
    full: Tensor = norm.full_tensor() if isinstance(norm, DTensor) else norm
    return full


def shard_optimizer_state(state: Mapping[str, Any], optimizer: Optimizer) -> dict[str, Any]:
    """Return an optimizer state with its tensors sharded as the parameters are.

    Args:
        state: of `gather_state`, in every process.
        optimizer: of the parameters; the state of those that are not sharded stays whole.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]

    def shard(value: Any, parameter: Tensor) -> Any:
        same_shape = isinstance(value, Tensor) and value.shape == parameter.shape
        if not same_shape or not isinstance(parameter, DTensor):
            return value  # the number of steps
        return distribute_tensor(value, parameter.device_mesh, parameter.placements)

    sharded = {
        index: {key: shard(value, parameters[index]) for key, value in values.items()}
        for index, values in state["state"].items()
    }
    return {**state, "state": sharded}
