"""Files that torch saved, read without running code in them, and checks of state dicts.

file -> tensors, numpy arrays, plain values -> tensors of a network, of its shapes, finite
"""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from loris_cli.errors import WeightsError

StateDict = Mapping[str, Tensor]

ZIP_MAGIC = b"PK\x03\x04"
"""First bytes of what torch has written since 1.6."""
LEGACY_MAGIC = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."
"""First bytes of what it wrote before: a pickle of its magic number."""
MAX_LISTED_KEYS = 3
"""Number of unexpected names that a message lists."""
TORCH_SUFFIXES = frozenset({".pt", ".pth", ".pyth", ".ckpt"})
NUMPY_SCALAR_TYPES = (np.float32, np.float64, np.int64, np.int32, np.uint8, np.bool_)


def is_torch_file(path: Path) -> bool:
    """Whether a file begins as torch's do, old or new."""
    with path.open("rb") as file:
        return file.read(len(LEGACY_MAGIC)).startswith((ZIP_MAGIC, LEGACY_MAGIC))


def looks_like_torch_file(path: Path) -> bool:
    """Whether a file begins as torch's do, or has their name."""
    return path.suffix in TORCH_SUFFIXES or is_torch_file(path)


def load_torch_arrays(path: Path, *, hint: str = "get it again") -> object:
    """Load tensors, numpy arrays and plain values; no code in the file is run.

    Args:
        path: a file that torch saved.
        hint: what to give instead of a file that is none.

    Raises:
        WeightsError: it holds more, which could run code, or is no such file.
    """
    try:
        with path.open("rb") as file:
            is_legacy = file.read(len(LEGACY_MAGIC)) == LEGACY_MAGIC  # cannot be mapped
        with torch.serialization.safe_globals(_numpy_safe_globals()):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=not is_legacy)
    except pickle.UnpicklingError as error:
        hint = "if you trust it, load it in its code and torch.save(model.state_dict(), FILE)"
        raise WeightsError(f"{path} holds objects that could run code", hint=hint) from error
    except (OSError, RuntimeError, ValueError, EOFError, KeyError) as error:
        # Of another file torch says how to save it for mmap, which does not help.
        is_damaged = path.is_file() and is_torch_file(path)
        reason = ": " + str(error).partition("\n")[0] if is_damaged else ""
        raise WeightsError(f"{path} is not a checkpoint{reason}", hint=hint) from error


def read_state_dict(path: Path, *, hint: str, nested_key: str = "") -> dict[str, Tensor]:
    """Read names and tensors of a state dict.

    Args:
        path: a file that torch saved.
        hint: what to give instead of a file that is none.
        nested_key: of the state dict, in a file that may hold other entries too.

    Raises:
        WeightsError: it is no state dict, or holds more, which could run code.
    """
    state = load_torch_arrays(path, hint=hint)
    if nested_key and isinstance(state, dict):
        state = state.get(nested_key, state)
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        hint = "save model.state_dict() alone"
        raise WeightsError(f"{path.name} is not a state dict", hint=hint)
    return state


def check_trained(state_dict: StateDict, path: Path) -> None:
    """Refuse an untrained network: the running means of its batch norms are all zero.

    Raises:
        WeightsError: it is as random as a new one.
    """
    means = [value for key, value in state_dict.items() if key.endswith("running_mean")]
    if not any(bool(mean.any()) for mean in means):
        raise WeightsError(f"{path.name} has untrained weights", hint="give trained weights")


def check_state_dict(state_dict: StateDict, expected: StateDict, path: Path) -> None:
    """Refuse tensors that are not those of a network.

    Args:
        state_dict: tensors of a file.
        expected: those of the network, with or without values.
        path: of the file, for the message.

    Raises:
        WeightsError: names, shapes or values are wrong.
    """
    name, hint = path.name, "it is of another network, or of another size of it"
    odd = sorted(state_dict.keys() ^ expected.keys())
    if odd:
        listed = ", ".join(repr(key) for key in odd[:MAX_LISTED_KEYS])
        raise WeightsError(f"{name} lacks or adds {len(odd)} tensors: {listed}", hint=hint)
    for key, value in state_dict.items():
        shapes = tuple(value.shape), tuple(expected[key].shape)
        if shapes[0] != shapes[1]:
            message = f"{name}: {key!r} has shape {shapes[0]}, not {shapes[1]}"
            raise WeightsError(message, hint=hint)
        if value.is_floating_point() and not torch.isfinite(value).all():
            hint = "it is damaged, or its training diverged: take an earlier one"
            raise WeightsError(f"{name}: {key!r} holds values that are not finite", hint=hint)


def _numpy_safe_globals() -> list[Any]:
    """Return what numpy's arrays and scalars are made with, under old and new names."""
    functions = {
        "_reconstruct": np.zeros(0).__reduce__()[0], "scalar": np.float64(0).__reduce__()[0],
    }  # fmt: skip
    names = [
        (function, f"numpy.{core}.multiarray.{name}")
        for core in ("core", "_core")
        for name, function in functions.items()
    ]
    dtypes = [type(np.dtype(number)) for number in NUMPY_SCALAR_TYPES]
    return [*names, np.ndarray, np.dtype, *dtypes]
