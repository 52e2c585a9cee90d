"""Where networks run, and in which precision."""

import importlib.util
import os
import shutil
import sys
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
from torch import Tensor

from loris_cli.errors import UsageError

Precision = Literal["auto", "fp32", "bf16"]

CPU_THREADS = min(os.cpu_count() or 1, 8)
"""Threads of one network evaluation on a CPU, however many jobs run beside it: sums split
another way round off another way, and the same seed must give the same bytes."""


def resolve_device(device_name: str) -> torch.device:
    """The device of a name: ``auto``, ``cpu``, ``mps``, ``cuda`` or ``cuda:1``.

    A device that is named is used or refused, never replaced by another.

    Raises:
        UsageError: this machine, or this build of torch, lacks it.
    """
    torch.set_num_threads(CPU_THREADS)
    has_mps = torch.backends.mps.is_available()
    if device_name == "auto":
        device_name = "cuda" if torch.cuda.is_available() else "mps" if has_mps else "cpu"
    device = torch.device(device_name)
    if device.type == "cuda":
        n_devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= n_devices:
            raise UsageError(
                f"no device {device_name}: torch {torch.__version__} sees {n_devices} CUDA devices",
                hint="--device auto uses what is there",
            )
    if device.type == "mps" and not has_mps:
        raise UsageError(
            "no device mps on this machine", hint="--device auto uses what is there"
        )
    return device


def resolve_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """What a network computes in: ``auto`` is bf16 on CUDA devices that have it, else fp32."""
    if precision == "auto":
        halves = device.type == "cuda" and torch.cuda.is_bf16_supported(
            including_emulation=False
        )
        precision = "bf16" if halves else "fp32"
    return torch.bfloat16 if precision == "bf16" else torch.float32


def bf16_is_slow(device: torch.device) -> bool:
    """Whether bf16 is known to be slower than fp32 there: the processor has no such numbers.

    Such a one takes minutes for what takes seconds. False where torch cannot tell: older
    releases do not know the processor.
    """
    told: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    if device.type != "cpu" or told.get("architecture") != "x86_64":
        return False
    return not (told.get("avx512_bf16") or told.get("amx_bf16"))


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[object]:
    """While a network works: its matrix products in a type, its norms as torch sees fit."""
    if dtype == torch.float32:
        return nullcontext()
    return torch.autocast(device.type, dtype)


def copy_to_device(value: Tensor, device: torch.device) -> Tensor:
    """A tensor of the CPU on a device, without waiting for what that still has to do."""
    if device.type != "cuda":
        return value.to(device)
    return value.pin_memory().to(device, non_blocking=True)


def check_compiler(device: torch.device) -> None:
    """Refuse to compile networks where torch could not.

    Raises:
        UsageError: what it compiles with is missing.
    """
    if device.type == "cuda":
        there, name = importlib.util.find_spec("triton") is not None, "triton"
    else:
        name = os.environ.get("CXX", "g++")
        there = shutil.which(name) is not None
    if not there:
        raise UsageError(f"--compile needs {name}, which is not here", hint="leave it out")


def read_peak_memory_mib() -> float | None:
    """Peak resident memory of this process so far, MiB; None on Windows."""
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)
