"""Subprocess of `spleeter_package` that runs Spleeter's `Separator`.

cached safetensors -> TensorFlow checkpoint, written once -> Separator -> accompaniment
"""

import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from loris_cli.errors import OutputError, WeightsError
from loris_cli.system.optional_packages import import_optional
from loris_cli.system.python_subprocess import NamedArrays, serve_call

Weights = Mapping[str, NDArray[Any]]

SPLEETER_MODEL = "spleeter:2stems"
MODEL_FOLDER_NAME = "2stems"
PROBE_NAME = ".probe"
"""File that marks a model folder as completely downloaded for Spleeter."""
STEMS = ("vocals", "accompaniment")
"""Stems in the order in which Spleeter builds their networks."""
N_UNET_LEVELS = 6
KERAS_NORM_NAMES = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
"""Names of the batch-norm variables: Keras to torch."""


def separate_vocals(inputs: NamedArrays) -> NamedArrays:
    """Separate ``samples``, ``(2, samples)`` at 44.1 kHz, with the weights ``weights_path``."""
    folder = Path(os.environ["MODEL_PATH"]) / MODEL_FOLDER_NAME
    if not (folder / PROBE_NAME).is_file():
        install_checkpoint(load_file(str(inputs["weights_path"])), folder)
    if _import("tensorflow").train.latest_checkpoint(str(folder)) is None:
        # Spleeter's estimator would continue with random weights and only log it.
        raise WeightsError(
            f"no checkpoint in {folder}",
            hint="delete the folder; the next run creates it again",
        )
    separator = _import("spleeter.separator").Separator(SPLEETER_MODEL, multiprocess=False)
    stems = separator.separate(np.ascontiguousarray(inputs["samples"].T))
    return {"accompaniment": np.ascontiguousarray(stems["accompaniment"].T)}


def _import(module: str) -> Any:
    return import_optional(
        module, extra="separation", purpose="run the original Spleeter separator"
    )


def install_checkpoint(weights: Weights, folder: Path) -> None:
    """Create a model folder atomically; another process may create it at the same time."""
    partial_folder = folder.with_name(f".{folder.name}-{secrets.token_hex(4)}")
    partial_folder.mkdir(parents=True)
    try:
        write_checkpoint(weights, partial_folder)
        (partial_folder / PROBE_NAME).write_text("OK")
        try:
            partial_folder.rename(folder)
        except OSError as error:
            if not (folder / PROBE_NAME).is_file():
                raise OutputError(
                    f"cannot create {folder}: {error.strerror}", hint="delete that folder"
                ) from error
    finally:
        shutil.rmtree(partial_folder, ignore_errors=True)


def write_checkpoint(weights: Weights, folder: Path) -> None:
    """Write weights as a checkpoint that Spleeter can load.

    Args:
        weights: tensors of `separation.TwoStemSeparator` by name.
        folder: existing folder to write to.
    """
    tensorflow, model = _import("tensorflow.compat.v1"), _import("spleeter.model")
    config = _import("spleeter.utils.configuration").load_configuration(SPLEETER_MODEL)
    with tensorflow.Graph().as_default(), tensorflow.Session() as session:
        inputs = model.InputProviderFactory.get(config).get_input_dict_placeholders()
        _ = model.EstimatorSpecBuilder(inputs, config).outputs  # builds the graph
        tensorflow.train.get_or_create_global_step()
        session.run(tensorflow.global_variables_initializer())
        variables = {v.op.name: v for v in tensorflow.global_variables()}
        for name, value in convert_to_keras_variables(weights).items():
            variables.pop(name).load(value, session)
        assert set(variables) == {"global_step"}
        # Relative paths, because the folder is renamed afterwards.
        saver = tensorflow.train.Saver(save_relative_paths=True)
        saver.save(session, str(folder / "model"))


def convert_to_keras_variables(weights: Weights) -> Weights:
    """Convert weights to the names and shapes of the variables in Spleeter's Keras graph.

    Args:
        weights: tensors of `separation.TwoStemSeparator` by name. A convolution kernel is
            ``(out, in, height, width)``, a transposed one ``(in, out, height, width)``.

    Returns:
        arrays by Keras name. A convolution kernel is ``(height, width, in, out)``, a transposed
        one ``(height, width, out, in)``; all other arrays keep their shape.
    """
    variables: dict[str, NDArray[Any]] = {}
    levels = range(1, N_UNET_LEVELS + 1)
    layers_by_type = {
        "conv2d": [*(f"down{level}_conv.1" for level in levels), "up7.0"],
        "conv2d_transpose": [f"up{level}.0" for level in levels],
        "batch_normalization": [
            *(f"down{level}_act.0" for level in levels),
            *(f"up{level}.3" for level in levels),
        ],
    }
    for stem_index, stem in enumerate(STEMS):
        for layer_type, layers in layers_by_type.items():
            for number, layer in enumerate(layers, stem_index * len(layers)):
                source = f"{stem}.{layer}"
                target = f"{layer_type}_{number}" if number else layer_type
                if layer_type == "batch_normalization":
                    for keras_name, name in KERAS_NORM_NAMES.items():
                        variables[f"{target}/{keras_name}"] = weights[f"{source}.{name}"]
                else:
                    kernel = weights[f"{source}.weight"].transpose(2, 3, 1, 0)
                    variables[f"{target}/kernel"] = kernel
                    variables[f"{target}/bias"] = weights[f"{source}.bias"]
    return variables


if __name__ == "__main__":
    serve_call(separate_vocals)
