"""States of the global random generators, for exact resume: torch, its GPU, numpy, Python.

Dropout draws from the global generator of torch. Its state is saved for every process.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import distributed

RandomState = dict[str, Any]
"""State of each generator by name, of types that `torch.load` reads with ``weights_only``."""


def get_random_state(device: torch.device) -> RandomState:
    """Return the states of the global generators of this process.

    Args:
        device: device of the training.
    """
    _, keys, *position = np.random.get_state(legacy=True)
    state = {
        "torch": torch.get_rng_state(),
        "numpy": (torch.from_numpy(np.asarray(keys, np.int64)), *position),
        "python": random.getstate(),
    }
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def set_random_state(state: RandomState, device: torch.device) -> None:
    """Set the states of the global generators of this process; CUDA's only if it was saved."""
    torch.set_rng_state(state["torch"].cpu())
    keys, *position = state["numpy"]
    np.random.set_state(("MT19937", keys.cpu().numpy().astype(np.uint32), *position))
    random.setstate(state["python"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"].cpu(), device)


def gather_random_states(device: torch.device, world_size: int) -> list[RandomState]:
    """Return the states of all processes by rank (collective operation)."""
    state = get_random_state(device)
    if world_size == 1:
        return [state]
    states: list[Any] = [None] * world_size
    distributed.all_gather_object(states, state)
    return states


@contextmanager
def preserve_random_state(device: torch.device) -> Iterator[None]:
    """Restore the states at the end, so that what runs in between does not affect training."""
    state = get_random_state(device)
    try:
        yield
    finally:
        set_random_state(state, device)
