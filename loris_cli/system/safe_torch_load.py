"""What torch saved, read with nothing allowed but tensors, plain values and numpy's numbers."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch

from loris_cli.errors import WeightsError

NUMPY_SCALAR_TYPES = (np.float32, np.float64, np.int64, np.int32, np.uint8, np.bool_)


def load_torch_arrays(path: Path, *, display_name: str) -> object:
    """The content of a file that torch saved; no code in it is run.

    Args:
        path: the file.
        display_name: of it, fit to be shown.

    Raises:
        WeightsError: it holds more than numbers and their names, or is no such file.
    """
    try:
        with torch.serialization.safe_globals(_numpy_safe_globals()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{display_name} holds more than arrays", hint="do not use it"
        ) from error
    except (OSError, RuntimeError, ValueError, EOFError, KeyError) as error:
        raise WeightsError(
            f"{display_name} is not a file that torch saved", hint="get it again"
        ) from error


def _numpy_safe_globals() -> list[Any]:
    """What numpy's arrays and scalars are made with, under old and new names."""
    array = np.zeros(0).__reduce__()[0]
    scalar = np.float64(0).__reduce__()[0]
    return [
        *(
            (function, f"numpy.{core}.multiarray.{name}")
            for core in ("core", "_core")
            for function, name in ((array, "_reconstruct"), (scalar, "scalar"))
        ),
        np.ndarray,
        np.dtype,
        *(type(np.dtype(number)) for number in NUMPY_SCALAR_TYPES),
    ]
