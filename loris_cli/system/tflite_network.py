"""Networks in .tflite files of the package, run by LiteRT on the CPU."""

import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from loris_cli.array_types import Float32Array
from loris_cli.errors import WeightsError


class TfliteNetwork:
    """Network with one input; its outputs are in file order."""

    def __init__(
        self, package: str, name: str, sha256: str, *, purpose: str, n_threads: int = 1
    ) -> None:
        """Load a network.

        Args:
            package: package with the folder ``models`` that contains the file.
            name: name of the file.
            sha256: SHA-256 of the file.
            purpose: purpose of the network for error messages, such as ``pose``.
            n_threads: maximum number of threads.

        Raises:
            WeightsError: the file is missing or damaged.
        """
        from ai_edge_litert.interpreter import Interpreter

        hint = "reinstall loris: the package contains the weights"
        try:
            content = resources.files(package).joinpath("models", name).read_bytes()
        except OSError as error:
            raise WeightsError(f"{purpose} network {name} is missing", hint=hint) from error
        if hashlib.sha256(content).hexdigest() != sha256:
            raise WeightsError(f"{purpose} network {name} is damaged: wrong SHA-256", hint=hint)
        with _suppress_stderr():
            self._interpreter = Interpreter(model_content=content, num_threads=n_threads)
            self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._outputs = [d["index"] for d in self._interpreter.get_output_details()]

    def __call__(self, values: NDArray[np.generic]) -> list[Float32Array]:
        """Return the outputs for one input without its batch axis."""
        self._interpreter.set_tensor(self._input, values[None].astype(np.float32))
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(index) for index in self._outputs]


@contextmanager
def _suppress_stderr() -> Iterator[None]:
    """Suppress LiteRT's start-up messages on stderr, which no log level disables."""
    sys.stderr.flush()
    saved = os.dup(2)
    devnull = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(devnull, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(devnull)
