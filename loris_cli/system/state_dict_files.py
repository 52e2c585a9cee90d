"""Safe loading of torch files, without running code from them, and checks of state dicts.

file -> tensors, numpy arrays, plain values -> state dict with valid names, shapes and values
"""

import pickle
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from loris_cli.errors import WeightsError

StateDict = Mapping[str, Tensor]

ZIP_MAGIC = b"PK\x03\x04"
"""First bytes of the files written since torch 1.6."""
LEGACY_MAGIC = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."
"""First bytes of the files written before torch 1.6: a pickle of torch's magic number."""
MAX_LISTED_KEYS = 3
"""Number of tensor names that a message lists."""
TORCH_SUFFIXES = frozenset({".pt", ".pth", ".pyth", ".ckpt"})
MALFORMED_FILE_ERRORS = (
    OSError, EOFError, RuntimeError, ValueError, TypeError, AttributeError, AssertionError,
    LookupError, ArithmeticError, MemoryError, struct.error,
)  # fmt: skip
"""Exceptions that torch raises for damaged files, or for networks of an invalid size."""
FLOAT_TYPES = frozenset({torch.float16, torch.bfloat16, torch.float32, torch.float64})
NUMPY_SCALAR_TYPES = (np.float32, np.float64, np.int64, np.int32, np.uint8, np.bool_)


def is_torch_file(path: Path) -> bool:
    """Return whether a file begins with the magic bytes of torch, current or legacy."""
    try:
        with path.open("rb") as file:
            return file.read(len(LEGACY_MAGIC)).startswith((ZIP_MAGIC, LEGACY_MAGIC))
    except OSError:
        return False


def has_torch_format(path: Path) -> bool:
    """Return whether a file has the magic bytes or a usual suffix of a torch file."""
    return path.suffix in TORCH_SUFFIXES or is_torch_file(path)


def load_torch_arrays(path: Path, *, hint: str = "download or copy it again") -> object:
    """Load tensors, numpy arrays and plain values without running code from the file.

    Args:
        path: file written by ``torch.save``.
        hint: hint of the error if the file is not a checkpoint.

    Raises:
        WeightsError: the file is not a checkpoint, or contains objects that could run code.
    """
    try:
        with path.open("rb") as file:
            is_legacy = file.read(len(LEGACY_MAGIC)) == LEGACY_MAGIC  # no memory mapping
        with torch.serialization.safe_globals(_numpy_safe_globals()):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=not is_legacy)
    except pickle.UnpicklingError as error:
        hint = "if you trust it, load it in its code and torch.save(model.state_dict(), FILE)"
        raise WeightsError(f"{path} contains objects that could run code", hint=hint) from error
    except MALFORMED_FILE_ERRORS as error:
        # For other files, torch's message only explains memory mapping, so it is not shown.
        is_damaged = path.is_file() and is_torch_file(path)
        reason = ": " + str(error).partition("\n")[0] if is_damaged else ""
        raise WeightsError(f"{path} is not a checkpoint{reason}", hint=hint) from error


def read_state_dict(path: Path, *, hint: str, nested_key: str = "") -> dict[str, Tensor]:
    """Read the tensors of a state dict by name.

    Args:
        path: file written by ``torch.save``.
        hint: hint of the error if the file is not a checkpoint.
        nested_key: key of the state dict in a file with other entries.

    Raises:
        WeightsError: the file is not a state dict, or contains objects that could run code.
    """
    state = load_torch_arrays(path, hint=hint)
    if nested_key and isinstance(state, dict):
        state = state.get(nested_key, state)
    if not isinstance(state, dict) or not all(
        isinstance(key, str) and _is_plain_tensor(value) for key, value in state.items()
    ):
        hint = "save only model.state_dict() in the file"
        raise WeightsError(f"{path.name} is not a state dict", hint=hint)
    return state


def _is_plain_tensor(value: object) -> bool:
    """Return whether a value is a dense tensor, all of whose elements are stored."""
    if not isinstance(value, Tensor) or value.layout != torch.strided or value.is_quantized:
        return False
    n_bytes = value.numel() * value.element_size()
    return value.device.type == "cpu" and n_bytes <= value.untyped_storage().nbytes()


def check_trained(state_dict: StateDict, path: Path) -> None:
    """Check that a network is trained: not all running means of its batch norms are zero.

    Raises:
        WeightsError: the weights are untrained.
    """
    means = [value for key, value in state_dict.items() if key.endswith("running_mean")]
    if not any(bool(mean.any()) for mean in means):
        raise WeightsError(
            f"{path.name} has untrained weights", hint="specify a trained checkpoint"
        )


def check_state_dict(state_dict: StateDict, expected: StateDict, path: Path) -> None:
    """Check that the tensors of a file fit a network.

    Args:
        state_dict: tensors of the file.
        expected: tensors of the network, with or without values.
        path: path of the file, for the message.

    Raises:
        WeightsError: names, shapes or types differ, or a value is NaN or infinite.
    """
    name, hint = path.name, "the file belongs to another network or another size of it"
    odd = sorted(state_dict.keys() ^ expected.keys())
    if odd:
        listed = ", ".join(repr(key) for key in odd[:MAX_LISTED_KEYS])
        raise WeightsError(
            f"{name} has {len(odd)} missing or unexpected tensors: {listed}", hint=hint
        )
    for key, value in state_dict.items():
        shapes = tuple(value.shape), tuple(expected[key].shape)
        if shapes[0] != shapes[1]:
            message = f"{name}: {key!r} has shape {shapes[0]}, expected {shapes[1]}"
            raise WeightsError(message, hint=hint)
        is_float = value.dtype in FLOAT_TYPES
        if is_float != expected[key].is_floating_point() or value.is_complex():
            raise WeightsError(f"{name}: {key!r} has the type {value.dtype}", hint=hint)
        if is_float and not torch.isfinite(value.to(expected[key].dtype)).all():
            hint = "the file is damaged or its training diverged; use an earlier checkpoint"
            raise WeightsError(f"{name}: {key!r} contains NaN or infinite values", hint=hint)


def _numpy_safe_globals() -> list[Any]:
    """Return the constructors of numpy arrays and scalars under their old and new names."""
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
