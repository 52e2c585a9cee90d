"""Process group of a training run with one or more processes, on one or more machines.

torchrun and SLURM set the rank of each process in environment variables.
"""

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.nn.parallel import DistributedDataParallel

from loris_cli.errors import UsageError
from loris_cli.system.allocator import reuse_freed_memory
from loris_cli.system.device import resolve_device
from loris_cli.system.threads import count_threads
from loris_cli.training.distributed_store import join_store

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


def _read_launcher_environment() -> tuple[int, int, int, str]:
    """Return rank, world size and local rank, and the launcher that set them.

    Without a launcher, the process is the only one.

    Raises:
        UsageError: the values are not valid.
    """
    launchers = {"torchrun": TORCHRUN_VARIABLES, "srun": SLURM_VARIABLES}
    for launcher, names in launchers.items():
        if all(name in os.environ for name in names):
            rank, world_size, local_rank = map(_read_integer, names)
            if not rank < world_size:
                raise UsageError(
                    f"{names[0]}={rank} is not below {names[1]}={world_size}",
                    hint=f"start with {launcher}",
                )
            return rank, world_size, local_rank, launcher
    return 0, 1, 0, ""


def _read_integer(name: str) -> int:
    if not os.environ[name].isdecimal():
        raise UsageError(
            f"{name}={os.environ[name]} is not a number", hint="start with torchrun or srun"
        )
    return int(os.environ[name])


def _find_main_address() -> tuple[str, int]:
    """Return host and port of rank 0."""
    # srun sets only the launch node.
    host = os.environ.get("MASTER_ADDR") or os.environ.get("SLURM_LAUNCH_NODE_IPADDR")
    if not host:
        raise UsageError(
            "MASTER_ADDR is not set: the address of rank 0 is unknown",
            hint="start with torchrun, or export MASTER_ADDR and MASTER_PORT",
        )
    if os.environ.get("MASTER_PORT"):
        return host, _read_integer("MASTER_PORT")
    job = _read_integer("SLURM_JOB_ID") if "SLURM_JOB_ID" in os.environ else 0
    return host, 20_000 + job % 20_000


@contextmanager
def init_distributed(
    device_name: str, *, warn: Callable[[str], None] = warnings.warn
) -> Iterator[DistributedContext]:
    """Join the process group of a run with several processes, and leave it at the end.

    Args:
        device_name: ``auto``, ``cpu``, ``cuda``...; with several processes, each uses the GPU
            of its local rank.
        warn: receives a message if the other processes have not started.

    Raises:
        UsageError: the device does not exist, or the address of rank 0 is unknown.
        LorisError: the other processes do not start.
    """
    rank, world_size, local_rank, launcher = _read_launcher_environment()
    device = resolve_device(device_name)
    torch.set_num_threads(count_threads())  # training does not use the pool of `map_rows`
    if device.type == "cpu":
        reuse_freed_memory()
    if world_size == 1:
        yield DistributedContext(rank=0, world_size=1, device=device)
        return
    if device.type == "cuda":
        device = torch.device("cuda", local_rank)
        torch.cuda.set_device(device)
    store = None
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":  # torchrun has a store
        store = join_store(
            _find_main_address(),
            rank=rank,
            world_size=world_size,
            launcher=launcher,
            warn=warn,
            timeout=GROUP_TIMEOUT,
        )
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(
        backend, store=store, rank=rank, world_size=world_size, timeout=GROUP_TIMEOUT
    )
    try:
        yield DistributedContext(rank=rank, world_size=world_size, device=device)
    finally:
        dist.destroy_process_group()
