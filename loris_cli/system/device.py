"""Devices and precision of networks, and peak memory of the process."""

import importlib.util
import os
import shutil
import sys
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from loris_cli.config import Precision
from loris_cli.errors import UsageError
from loris_cli.system.threads import use_one_thread_per_call

AUTO_HINT = "use --device auto to select an available device"


def resolve_device(name: str) -> torch.device:
    """Return the device named ``auto``, ``cpu``, ``mps``, ``cuda`` or ``cuda:1``.

    Only ``auto`` selects a device; a named device is never replaced by another. From then on,
    each call in this process has one thread (`loris_cli.system.threads`).

    Raises:
        UsageError: the device is not available on this machine or in this build of torch.
    """
    use_one_thread_per_call()
    has_mps = torch.backends.mps.is_available()
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if has_mps else "cpu"
    device = torch.device(name)
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            status = f"torch {torch.__version__} detects {count} CUDA devices"
            raise UsageError(f"no device {name}: {status}", hint=AUTO_HINT)
    if device.type == "mps" and not has_mps:
        raise UsageError("no device mps on this machine", hint=AUTO_HINT)
    return device


def resolve_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """Return a network's dtype: ``auto`` is bf16 on CUDA devices that support it, else fp32."""
    if precision == "auto" and device.type == "cuda":
        has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        precision = "bf16" if has_bf16 else "fp32"
    return torch.bfloat16 if precision == "bf16" else torch.float32


def is_bf16_slow(device: torch.device) -> bool:
    """Return whether a device is a CPU without bf16 instructions, on which bf16 is slow.

    On such a CPU, bf16 takes minutes instead of seconds. The result is False if torch does not
    report the instructions, as in older releases.
    """
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    if device.type != "cpu" or capabilities.get("architecture") != "x86_64":
        return False
    return not (capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[object]:
    """Return an autocast context for matrix products in a dtype; fp32 needs none."""
    if dtype == torch.float32:
        return nullcontext()
    return torch.autocast(device.type, dtype)


def copy_to_device(value: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor from the CPU to a device, asynchronously on CUDA."""
    if device.type != "cuda":
        return value.to(device)
    return value.pin_memory().to(device, non_blocking=True)


def check_compiler(device: torch.device) -> None:
    """Check that the compiler needed by ``torch.compile`` is installed.

    Raises:
        UsageError: the compiler is missing.
    """
    is_cuda = device.type == "cuda"
    name = "triton" if is_cuda else os.environ.get("CXX", "g++")
    if (importlib.util.find_spec(name) if is_cuda else shutil.which(name)) is None:
        raise UsageError(
            f"--compile needs {name}, which is not installed", hint="remove --compile"
        )


def read_peak_memory_mib() -> float | None:
    """Return the peak resident memory of this process in MiB; None on Windows."""
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)
