"""FSDP2: sharding of a loss module across processes, and gathering of its state for saves.

    module -> U-Net levels and the remainder, each sharded;  shards -> full tensors on the CPU

After Zhao et al., "PyTorch FSDP" (VLDB 2023), with `torch.distributed.fsdp.fully_shard`. Each
process holds its shard of weights, gradients and optimizer state; the weights of a U-Net level
are gathered while it is evaluated. Saves have full tensors, identical with and without FSDP.
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
"""Elements gathered at a time; a save uses twice 256 MB of device memory in fp32."""


def apply_fsdp(module: nn.Module, *, device: torch.device, world_size: int) -> None:
    """Shard a module in place; its weights must be equal in all processes.

    Args:
        module: module on any device; its shards are moved to ``device`` one by one.
        device: device of this process.
        world_size: number of processes.
    """
    mesh = init_device_mesh(device.type, (world_size,))
    for part in (*find_unet_levels(module), module):
        fully_shard(part, mesh=mesh)


def gather_state(state: Any, *, keep_result: bool = True) -> Any:
    """Gather the sharded tensors of a state to full tensors on the CPU (collective operation).

    The shards of many tensors of one dtype are gathered at once. One collective per tensor took
    seconds per save, and crashed once with gloo.

    Args:
        state: tensor, or nested dictionaries and lists of tensors, sharded along their first
            axis as by `apply_fsdp`.
        keep_result: whether this process needs the tensors; otherwise they are None.
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
    """Apply a function to the sharded tensors of a state, in a fixed order."""
    if isinstance(value, DTensor):
        return function(value)
    if isinstance(value, Mapping):
        return {key: _map_dtensors(item, function) for key, item in value.items()}
    if isinstance(value, list):
        return [_map_dtensors(item, function) for item in value]
    return value


def _batch_by_dtype(tensors: list[DTensor]) -> Iterator[list[DTensor]]:
    """Yield batches of one dtype, up to `MAX_GATHER_ELEMENTS`, equal in all processes."""
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
    """Return sharded tensors of one dtype as full tensors on the CPU."""
    mesh = tensors[0].device_mesh
    sizes = torch.zeros(mesh.size(), len(tensors), dtype=torch.int64)  # shard sizes
    for index, tensor in enumerate(tensors):
        for rank, rows in enumerate(torch.arange(len(tensor)).chunk(mesh.size())):
            sizes[rank, index] = len(rows) * tensor.shape[1:].numel()
    local = torch.cat([tensor.to_local().detach().reshape(-1) for tensor in tensors])
    padded = nn.functional.pad(local, (0, int(sizes.sum(1).max()) - len(local)))
    gathered = local.new_empty(mesh.size(), len(padded))
    torch.distributed.all_gather(list(gathered), padded, group=mesh.get_group())
    received = zip(gathered.cpu(), sizes, strict=True)  # one row per process
    shards = [row[: size.sum()].split(size.tolist()) for row, size in received]
    full = map(torch.cat, zip(*shards, strict=True))
    return [flat.reshape(tensor.shape) for flat, tensor in zip(full, tensors, strict=True)]


def full_norm(norm: Any) -> Tensor:
    """Return a norm of sharded gradients as a plain scalar."""
    full: Tensor = norm.full_tensor() if isinstance(norm, DTensor) else norm
    return full


def shard_optimizer_state(state: Mapping[str, Any], optimizer: Optimizer) -> dict[str, Any]:
    """Return an optimizer state with its tensors sharded like the parameters.

    Args:
        state: full state from `gather_state`, in every process.
        optimizer: optimizer of the parameters; the state of unsharded ones remains full.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]

    def shard(value: Any, parameter: Tensor) -> Any:
        same_shape = isinstance(value, Tensor) and value.shape == parameter.shape
        if not same_shape or not isinstance(parameter, DTensor):
            return value  # the step counter
        return distribute_tensor(value, parameter.device_mesh, parameter.placements)

    sharded = {
        index: {key: shard(value, parameters[index]) for key, value in values.items()}
        for index, values in state["state"].items()
    }
    return {**state, "state": sharded}
