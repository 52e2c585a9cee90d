"""Process group of a training run with one or more processes, on one or more machines.

torchrun and SLURM set the rank of each process in environment variables.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.nn.parallel import DistributedDataParallel

from loris_cli.errors import UsageError
from loris_cli.system.device import resolve_device

GROUP_TIMEOUT = timedelta(hours=2)
"""Timeout of collectives; the other ranks wait while rank 0 encodes a data set."""
TORCHRUN_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
SLURM_VARIABLES = ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID")


@dataclass(frozen=True, kw_only=True)
class DistributedContext:
    """Rank and device of this process in its run."""

    rank: int
    world_size: int
    device: torch.device

    @property
    def is_main_process(self) -> bool:
        """Whether this process has rank 0, which writes the files."""
        return self.rank == 0

    def wrap_ddp(self, loss_module: nn.Module) -> nn.Module:
        """Wrap the module in DDP if there are several processes; FSDP modules are unchanged."""
        if self.world_size == 1 or isinstance(loss_module, FSDPModule):
            return loss_module
        ids = [self.device.index] if self.device.type == "cuda" else None
        return DistributedDataParallel(loss_module, device_ids=ids)

    @contextmanager
    def no_sync(self, loss_module: nn.Module) -> Iterator[None]:
        """Accumulate gradients without averaging them across processes."""
        with ExitStack() as stack:
            if isinstance(loss_module, FSDPModule):
                loss_module.set_requires_gradient_sync(False)
                stack.callback(loss_module.set_requires_gradient_sync, True)
            elif isinstance(loss_module, DistributedDataParallel):
                stack.enter_context(loss_module.no_sync())
            yield

    def all_reduce_mean(self, value: Tensor) -> Tensor:
        """Return the mean of a value over all processes."""
        if self.world_size == 1:
            return value
        total = value.detach().clone()
        dist.all_reduce(total)
        return total / self.world_size

    def all_reduce_any(self, flag: bool) -> bool:
        """Return whether the flag is set in any process."""
        if self.world_size == 1:
            return flag
        fraction = self.all_reduce_mean(torch.tensor(float(flag), device=self.device))
        return bool(fraction > 0)

    def barrier(self) -> None:
        """Wait for all processes."""
        if self.world_size > 1:
            dist.barrier()


def _read_launcher_environment() -> tuple[int, int, int]:
    """Return rank, world size and local rank set by torchrun or SLURM; else 0, 1, 0."""
    for names in (TORCHRUN_VARIABLES, SLURM_VARIABLES):
        if all(name in os.environ for name in names):
            try:
                rank, world_size, local_rank = (int(os.environ[name]) for name in names)
            except ValueError as error:
                raise UsageError(
                    f"{', '.join(names)} are not integers", hint="start with torchrun or srun"
                ) from error
            return rank, world_size, local_rank
    return 0, 1, 0


@contextmanager
def init_distributed(device_name: str) -> Iterator[DistributedContext]:
    """Join the process group of a run with several processes, and leave it at the end.

    Args:
        device_name: ``auto``, ``cpu``, ``cuda``...; with several processes, each uses the GPU
            of its local rank.

    Raises:
        UsageError: the device does not exist, or the address of rank 0 is unknown.
    """
    rank, world_size, local_rank = _read_launcher_environment()
    device = resolve_device(device_name)
    if world_size == 1:
        yield DistributedContext(rank=0, world_size=1, device=device)
        return
    if device.type == "cuda":
        device = torch.device("cuda", local_rank)
        torch.cuda.set_device(device)
    if "MASTER_ADDR" not in os.environ:  # srun sets only the launch node
        address = os.environ.get("SLURM_LAUNCH_NODE_IPADDR")
        if address is None:
            raise UsageError(
                "MASTER_ADDR is not set: the address of rank 0 is unknown",
                hint="start with torchrun, or export MASTER_ADDR and MASTER_PORT",
            )
        os.environ["MASTER_ADDR"] = address
    job = int(os.environ.get("SLURM_JOB_ID", "0"))
    os.environ.setdefault("MASTER_PORT", str(20_000 + job % 20_000))
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, rank=rank, world_size=world_size, timeout=GROUP_TIMEOUT)
    try:
        yield DistributedContext(rank=rank, world_size=world_size, device=device)
    finally:
        dist.destroy_process_group()
