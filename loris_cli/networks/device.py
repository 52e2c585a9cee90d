"""Where networks run."""

import os

import torch

from loris_cli.errors import UsageError

THREADS = min(os.cpu_count() or 1, 8)
"""Threads of one network evaluation on a CPU, however many jobs run beside it: sums split
another way round off another way, and the same seed must give the same bytes."""


def resolve(name: str) -> torch.device:
    """The device of a name: ``auto``, ``cpu``, ``mps``, ``cuda`` or ``cuda:1``.

    A device that is named is used or refused, never replaced by another.

    Raises:
        UsageError: this machine, or this build of torch, lacks it.
    """
    torch.set_num_threads(THREADS)
    has_mps = torch.backends.mps.is_available()
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if has_mps else "cpu"
    device = torch.device(name)
    if device.type == "cuda":
        n_devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= n_devices:
            raise UsageError(
                f"no device {name}: torch {torch.__version__} sees {n_devices} CUDA devices",
                hint="--device auto uses what is there",
            )
    if device.type == "mps" and not has_mps:
        raise UsageError(
            "no device mps on this machine", hint="--device auto uses what is there"
        )
    return device
