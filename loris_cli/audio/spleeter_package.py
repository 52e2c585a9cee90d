"""Voices out by Spleeter's own `Separator`: TensorFlow, in a Python of its own.

sound -> another Python: Spleeter's 2stems on Deezer's weights -> accompaniment

The same weights as in `separation`, written once as the checkpoint that Spleeter reads, so that
nothing is fetched. It takes a sound whole: memory grows with its length.
"""

import os
from collections.abc import Iterable, Iterator
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from loris_cli.audio.spleeter_weights import prepare_spleeter_weights
from loris_cli.config import cache_home
from loris_cli.errors import MissingDependencyError
from loris_cli.system import device as devices
from loris_cli.system.optional_packages import INSTALL_COMMANDS, find_package_folder
from loris_cli.system.python_subprocess import call_module

Samples = NDArray[np.float32]

MODEL_FOLDER_NAME = "spleeter"
"""A folder of Spleeter's models, as its variable ``MODEL_PATH`` names one."""
PURPOSE = "take voices out with Spleeter's own code"


class SpleeterPackageSeparator:
    """A `separation.Separator` that asks Spleeter itself."""

    def __init__(self, device: str = "cpu") -> None:
        """See that all it takes is there; TensorFlow is not yet started.

        Raises:
            MissingDependencyError: spleeter, TensorFlow or the weights are absent.
            WeightsError: the weights are not what they ought to be.
        """
        find_package_folder("spleeter", extra="", purpose=PURPOSE)
        if find_spec("tensorflow") is None:
            raise MissingDependencyError(
                f"TensorFlow is needed to {PURPOSE}", hint=INSTALL_COMMANDS["spleeter"]
            )
        self._weights = prepare_spleeter_weights()
        self._environment = {
            "MODEL_PATH": str(cache_home() / MODEL_FOLDER_NAME),
            "TF_CPP_MIN_LOG_LEVEL": "2",
            "TF_NUM_INTRAOP_THREADS": os.environ.get(
                "TF_NUM_INTRAOP_THREADS", str(devices.CPU_THREADS)
            ),
        }
        if device == "cpu":
            self._environment["CUDA_VISIBLE_DEVICES"] = "-1"

    def remove_vocals(self, blocks: Iterable[Samples]) -> Iterator[Samples]:
        """The accompaniment, as `separation.Separator` says, in one block.

        Raises:
            LorisError: Spleeter failed.
        """
        held = list(blocks)
        if not held:
            return
        found = call_module(
            "loris_cli.audio.spleeter_process",
            {
                "sound": np.concatenate(held, axis=1),
                "weights": np.array(str(self._weights)),
            },
            task_label="Spleeter",
            **self._environment,
        )
        yield found["music"]
