"""What `spleeter_own` asks, in a Python of its own: Spleeter's `Separator`, on its weights.

our safetensors -> TensorFlow checkpoint, once -> Separator -> accompaniment
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

Array = NDArray[Any]

SPLEETER_MODEL = "spleeter:2stems"
MODEL_FOLDER_NAME = "2stems"
PROBE_NAME = ".probe"
"""Spleeter's own sign that nothing is to be fetched."""
STEMS = ("vocals", "accompaniment")
"""In the order in which Spleeter builds their networks."""
N_UNET_LEVELS = 6
PURPOSE = "take voices out with it"


def separate_vocals(inputs: NamedArrays) -> NamedArrays:
    """The music of ``sound``, ``(2, samples)`` at 44,100 Hz, by the weights in ``weights``."""
    folder = Path(os.environ["MODEL_PATH"]) / MODEL_FOLDER_NAME
    if not (folder / PROBE_NAME).is_file():
        install_checkpoint(load_file(str(inputs["weights"])), folder)
    tensorflow = import_optional("tensorflow", extra="separation", purpose=PURPOSE)
    if tensorflow.train.latest_checkpoint(str(folder)) is None:
        # Spleeter's estimator would go on with random weights, and only log it.
        raise WeightsError(f"{folder} holds no checkpoint", hint="remove it: it is made anew")
    separator = import_optional(
        "spleeter.separator", extra="separation", purpose=PURPOSE
    ).Separator(SPLEETER_MODEL, multiprocess=False)
    stems = separator.separate(np.ascontiguousarray(inputs["sound"].T))
    return {"music": np.ascontiguousarray(stems["accompaniment"].T)}


def install_checkpoint(tensors: Mapping[str, Array], folder: Path) -> None:
    """Make the folder of a model, whole or not at all; another may make it meanwhile."""
    part = folder.with_name(f".{folder.name}-{secrets.token_hex(4)}")
    part.mkdir(parents=True)
    try:
        write_checkpoint(tensors, part)
        (part / PROBE_NAME).write_text("OK")
        try:
            part.rename(folder)
        except OSError as error:
            if not (folder / PROBE_NAME).is_file():
                raise OutputError(
                    f"{folder} is in the way: {error.strerror}", hint="remove that folder"
                ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def write_checkpoint(tensors: Mapping[str, Array], folder: Path) -> None:
    """Write weights as Spleeter's own training would have.

    Args:
        tensors: of `separation.TwoStems`, by their names there.
        folder: where to.
    """
    tensorflow = import_optional("tensorflow.compat.v1", extra="separation", purpose=PURPOSE)
    model = import_optional("spleeter.model", extra="separation", purpose=PURPOSE)
    configuration = import_optional(
        "spleeter.utils.configuration", extra="separation", purpose=PURPOSE
    ).load_configuration(SPLEETER_MODEL)
    with tensorflow.Graph().as_default(), tensorflow.Session() as session:
        inputs = model.InputProviderFactory.get(configuration).get_input_dict_placeholders()
        _ = model.EstimatorSpecBuilder(inputs, configuration).outputs  # builds the graph
        tensorflow.train.get_or_create_global_step()
        session.run(tensorflow.global_variables_initializer())
        variables = {v.op.name: v for v in tensorflow.global_variables()}
        for name, value in convert_to_keras_variables(tensors).items():
            variables.pop(name).load(value, session)
        assert set(variables) == {"global_step"}
        # Relative: the folder is about to be renamed.
        saver = tensorflow.train.Saver(save_relative_paths=True)
        saver.save(session, str(folder / "model"))


def convert_to_keras_variables(tensors: Mapping[str, Array]) -> dict[str, Array]:
    """Weights by the names, and in the shapes, that Keras gives them in Spleeter's graph.

    Args:
        tensors: of `separation.TwoStems`; a kernel is ``(out, in, height, width)``, of the
            transposed ones ``(in, out, height, width)``.

    Returns:
        kernels ``(height, width, in, out)``, of the transposed ones
        ``(height, width, out, in)``, and all else as it was.
    """
    found: dict[str, Array] = {}
    for number, stem in enumerate(STEMS):
        downs = [f"down{level}_conv.1" for level in range(1, N_UNET_LEVELS + 1)]
        ups = [f"up{level}.0" for level in range(1, N_UNET_LEVELS + 1)]
        norms = [f"down{level}_act.0" for level in range(1, N_UNET_LEVELS + 1)]
        norms += [f"up{level}.3" for level in range(1, N_UNET_LEVELS + 1)]
        for kind, layers in (("conv2d", [*downs, "up7.0"]), ("conv2d_transpose", ups)):
            for k, layer in enumerate(layers, number * len(layers)):
                kernel = tensors[f"{stem}.{layer}.weight"]
                found[f"{_keras_layer_name(kind, k)}/kernel"] = kernel.transpose(2, 3, 1, 0)
                found[f"{_keras_layer_name(kind, k)}/bias"] = tensors[f"{stem}.{layer}.bias"]
        for k, layer in enumerate(norms, number * len(norms)):
            for theirs, ours in (
                ("gamma", "weight"),
                ("beta", "bias"),
                ("moving_mean", "running_mean"),
                ("moving_variance", "running_var"),
            ):
                name = f"{_keras_layer_name('batch_normalization', k)}/{theirs}"
                found[name] = tensors[f"{stem}.{layer}.{ours}"]
    return found


def _keras_layer_name(layer_type: str, number: int) -> str:
    """How Keras tells layers of one kind apart."""
    return f"{layer_type}_{number}" if number else layer_type


if __name__ == "__main__":
    serve_call(separate_vocals)
