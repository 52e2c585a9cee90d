"""Tensors that torch saved, and nothing else: what comes from elsewhere is not trusted.

file -> names and tensors -> the ones a network has, of its shapes, finite
"""

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from loris_cli.errors import WeightsError
from loris_cli.system.atomic_files import printable_path

ZIP_MAGIC = b"PK\x03\x04"
"""First bytes of what torch has written since 1.6."""
LEGACY_MAGIC = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."
"""First bytes of what it wrote before: a pickle of its magic number."""
MAX_LISTED_KEYS = 3
"""So many odd names are told of."""


TORCH_SUFFIXES = frozenset({".pt", ".pth", ".pyth", ".ckpt"})


def is_torch_file(path: Path) -> bool:
    """Whether a file begins as torch's do, old or new."""
    return _starts_with(path, ZIP_MAGIC) or _starts_with(path, LEGACY_MAGIC)


def _starts_with(path: Path, magic: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(magic)) == magic


def looks_like_torch_file(path: Path) -> bool:
    """Whether a file begins as torch's do, or has their name."""
    return path.suffix in TORCH_SUFFIXES or is_torch_file(path)


def read_state_dict(path: Path, *, hint: str, nested_key: str = "") -> dict[str, Tensor]:
    """Names and tensors of a state dict.

    Args:
        path: a file that torch saved.
        hint: what to give instead of a file that is none.
        nested_key: where the state dict is, in a file that may hold others beside it.

    Raises:
        WeightsError: it is no state dict, or holds more, which could run code.
    """
    try:
        old = _starts_with(path, LEGACY_MAGIC)  # which cannot be mapped
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=not old)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{printable_path(path.name)} holds more than tensors, and opening it could run code",
            hint="where you trust it, and beside its own code, save its state_dict() anew:"
            " torch.save(model.state_dict(), 'plain.pt')",
        ) from error
    except (OSError, RuntimeError, ValueError, EOFError) as error:
        if not is_torch_file(path):  # torch would tell how to save it for mmap
            raise WeightsError(
                f"{printable_path(path)} is not a checkpoint", hint=hint
            ) from error
        raise WeightsError(
            f"{printable_path(path)} is not a checkpoint: {str(error).splitlines()[0]}",
            hint=hint,
        ) from error
    if nested_key and isinstance(state, dict):
        state = state.get(nested_key, state)
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise WeightsError(
            f"{printable_path(path.name)} is not a state dict",
            hint="save model.state_dict() alone",
        )
    return state


def check_trained(state_dict: Mapping[str, Tensor], path: Path) -> None:
    """Refuse a network that has seen nothing yet: its batch norms know no means.

    Raises:
        WeightsError: it is as random as a new one.
    """
    means = [value for key, value in state_dict.items() if key.endswith("running_mean")]
    if not any(bool(mean.any()) for mean in means):
        raise WeightsError(
            f"{printable_path(path.name)} has learned nothing: its weights are as random as a new"
            " network's",
            hint="give weights that somebody trained",
        )


def check_state_dict(
    state_dict: Mapping[str, Tensor], expected_state_dict: Mapping[str, Tensor], path: Path
) -> None:
    """Refuse tensors that are not those of a network.

    Args:
        state_dict: what there is.
        expected_state_dict: what the network has, with or without values.
        path: where from, for the message.

    Raises:
        WeightsError: names, shapes or values are wrong.
    """
    name = printable_path(path.name)
    odd = sorted(state_dict.keys() ^ expected_state_dict.keys())
    if odd:
        named = ", ".join(repr(key) for key in odd[:MAX_LISTED_KEYS])
        raise WeightsError(
            f"{name} lacks or adds {len(odd)} tensors: {named}",
            hint="it is of another network, or of another size of it",
        )
    for key, value in state_dict.items():
        if value.shape != expected_state_dict[key].shape:
            raise WeightsError(
                f"{name}: {key!r} has shape {tuple(value.shape)},"
                f" not {tuple(expected_state_dict[key].shape)}",
                hint="it is of another size than this network",
            )
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise WeightsError(
                f"{name}: {key!r} holds values that are not finite",
                hint="it is damaged, or its training came apart: take an earlier one",
            )
