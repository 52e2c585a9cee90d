"""One process of a training run, or one of several on any number of machines.

torchrun and SLURM tell each process who it is through its environment; the rest is
torch.distributed's.
"""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.nn.parallel import DistributedDataParallel

from loris_cli.errors import UsageError
from loris_cli.system.device import resolve_device
from loris_cli.training.fsdp import no_grad_sync

COLLECTIVE_TIMEOUT = timedelta(hours=2)
"""Others wait so long for the first process, which alone encodes a data set."""


@dataclass(frozen=True, kw_only=True)
class DistributedContext:
    """Who this process is among those of its run."""

    rank: int
    world_size: int
    device: torch.device

    @property
    def is_main_process(self) -> bool:
        """Whether this is the one that writes."""
        return self.rank == 0

    def wrap_ddp(self, loss_module: nn.Module) -> nn.Module:
        """The learner, its gradients shared with the others; a parted one shares them."""
        if self.world_size == 1 or isinstance(loss_module, FSDPModule):
            return loss_module
        ids = [self.device.index] if self.device.type == "cuda" else None
        return DistributedDataParallel(loss_module, device_ids=ids)

    def no_sync(self, loss_module: nn.Module) -> AbstractContextManager[None]:
        """While gradients gather for a later step, they are not shared."""
        if isinstance(loss_module, DistributedDataParallel):
            return cast(AbstractContextManager[None], loss_module.no_sync())
        if isinstance(loss_module, FSDPModule):
            return no_grad_sync(loss_module)
        return nullcontext()

    def all_reduce_mean(self, value: Tensor) -> Tensor:
        """The mean of a value over all processes."""
        if self.world_size == 1:
            return value
        total = value.detach().clone()
        dist.all_reduce(total)
        return total / self.world_size

    def all_reduce_any(self, flag: bool) -> bool:
        """Whether any process says yes; all hear the same."""
        if self.world_size == 1:
            return flag
        count = torch.tensor(float(flag), device=self.device)
        dist.all_reduce(count)
        return bool(count > 0)

    def barrier(self) -> None:
        """Go on when all are here."""
        if self.world_size > 1:
            dist.barrier()


def _read_launcher_environment() -> tuple[int, int, int] | None:
    """Rank, world and rank on this machine, as torchrun or SLURM tells them."""
    for names in (
        ("RANK", "WORLD_SIZE", "LOCAL_RANK"),
        ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"),
    ):
        if all(name in os.environ for name in names):
            try:
                rank, world, local = (int(os.environ[name]) for name in names)
            except ValueError as error:
                raise UsageError(
                    f"{', '.join(names)} are not numbers", hint="start it with torchrun or srun"
                ) from error
            return rank, world, local
    return None


@contextmanager
def init_distributed(device: str) -> Iterator[DistributedContext]:
    """Join the other processes of a run, if there are any, and leave them at the end.

    Args:
        device: ``auto``, ``cpu``, ``cuda``...; with several processes on a machine, each takes
            the GPU of its number.

    Raises:
        UsageError: there is no such device, or nobody says where the others meet.
    """
    told = _read_launcher_environment()
    if told is None or told[1] == 1:
        yield DistributedContext(rank=0, world_size=1, device=resolve_device(device))
        return
    rank, world, local = told
    chosen = resolve_device(device)
    if chosen.type == "cuda":
        chosen = torch.device("cuda", local)
        torch.cuda.set_device(chosen)
    if "MASTER_ADDR" not in os.environ:  # srun alone names the machine that launched the job
        address = os.environ.get("SLURM_LAUNCH_NODE_IPADDR")
        if address is None:
            raise UsageError(
                "MASTER_ADDR is not set: the processes do not know where to meet",
                hint="start it with torchrun, or export MASTER_ADDR and MASTER_PORT",
            )
        os.environ["MASTER_ADDR"] = address
    job = int(os.environ.get("SLURM_JOB_ID", "0"))
    os.environ.setdefault("MASTER_PORT", str(20_000 + job % 20_000))
    dist.init_process_group(
        "nccl" if chosen.type == "cuda" else "gloo",
        rank=rank,
        world_size=world,
        timeout=COLLECTIVE_TIMEOUT,
    )
    try:
        yield DistributedContext(rank=rank, world_size=world, device=chosen)
    finally:
        dist.destroy_process_group()
