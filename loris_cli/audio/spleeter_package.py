"""Vocal removal by the original package spleeter (TensorFlow), in a separate process.

audio -> subprocess: Spleeter's 2stems with Deezer's weights -> accompaniment

The weights are those of `separation`, written once as a checkpoint that Spleeter reads, so that
it downloads nothing. Spleeter processes a clip as a whole: memory grows with its length.
"""

import os
from collections.abc import Iterable, Iterator
from importlib.util import find_spec

import numpy as np

from loris_cli.array_types import Samples
from loris_cli.audio.separation import prepare_spleeter_weights
from loris_cli.config import cache_home
from loris_cli.errors import MissingDependencyError
from loris_cli.system.optional_packages import INSTALL_COMMANDS, find_package_folder
from loris_cli.system.python_subprocess import call_module

MODEL_FOLDER_NAME = "spleeter"
"""Folder of Spleeter's models in the cache, passed in the variable ``MODEL_PATH``."""
PURPOSE = "run the original Spleeter separator"


class SpleeterPackageSeparator:
    """Implementation of `separation.VocalSeparator` by the package spleeter."""

    def __init__(self, device: str = "cpu") -> None:
        """Check that the packages and the weights exist, without starting TensorFlow.

        Raises:
            MissingDependencyError: spleeter, TensorFlow or the weights are missing.
            WeightsError: the weights are damaged.
        """
        find_package_folder("spleeter", extra="", purpose=PURPOSE)
        if find_spec("tensorflow") is None:
            raise MissingDependencyError(
                f"TensorFlow is needed to {PURPOSE}", hint=INSTALL_COMMANDS["spleeter"]
            )
        self._weights_path = prepare_spleeter_weights()
        n_threads = os.environ.get("TF_NUM_INTRAOP_THREADS", "1")
        self._environment = {
            "MODEL_PATH": str(cache_home() / MODEL_FOLDER_NAME),
            "TF_CPP_MIN_LOG_LEVEL": "2",
            "TF_NUM_INTRAOP_THREADS": n_threads,
        }
        if device == "cpu":
            self._environment["CUDA_VISIBLE_DEVICES"] = "-1"

    def remove_vocals(self, blocks: Iterable[Samples]) -> Iterator[Samples]:
        """Yield the accompaniment of a mix in one block; nothing without input.

        Args:
            blocks: ``(2, samples)`` at 44,100 Hz, of any length.

        Yields:
            ``(2, samples)`` with the total length of the input.

        Raises:
            LorisError: Spleeter failed.
        """
        all_blocks = list(blocks)
        if not all_blocks:
            return
        inputs = {
            "samples": np.concatenate(all_blocks, axis=1),
            "weights_path": np.array(str(self._weights_path)),
        }
        module = "loris_cli.audio.spleeter_process"
        stems = call_module(module, inputs, task="Spleeter", **self._environment)
        yield stems["accompaniment"]
