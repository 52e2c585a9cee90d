"""Remove the outputs of BlazePose's landmark network that loris does not use.

    pip download --no-deps mediapipe==0.10.21, unzip
    python tools/prune_pose_network.py pose_landmark_full.tflite OUT.tflite

The segmentation mask and the 3-D landmarks go, with all operators that only they need; a third
of the time of a call. The other outputs are bit-identical, which this script checks.
"""

import sys
from pathlib import Path

import flatbuffers  # type: ignore[import-untyped]
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

REMAINING_OUTPUTS = (0, 1, 3)
"""Landmarks, presence of a person, heatmaps."""


def prune_outputs(model: schema.ModelT, remaining: tuple[int, ...]) -> None:
    """Remove all other outputs of the only graph, and what only they need.

    Args:
        model: model; changed in place.
        remaining: indices of the outputs that remain.
    """
    (graph,) = model.subgraphs
    outputs = [int(graph.outputs[k]) for k in remaining]
    producers = {int(x): k for k, op in enumerate(graph.operators) for x in op.outputs}
    needed: set[int] = set()
    pending = [producers[x] for x in outputs]
    while pending:
        k = pending.pop()
        if k not in needed:
            needed.add(k)
            inputs = graph.operators[k].inputs
            pending += [producers[int(x)] for x in inputs if int(x) in producers]
    graph.operators = [op for k, op in enumerate(graph.operators) if k in needed]
    graph.outputs = np.array(outputs, np.int32)
    used = {int(x) for op in graph.operators for x in (*op.inputs, *op.outputs)}
    for k, tensor in enumerate(graph.tensors):
        if k not in used | {int(x) for x in graph.inputs}:
            model.buffers[tensor.buffer].data = None


def run_network(content: bytes, image: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Return all outputs of a network for one image, ``(256, 256, 3)``."""
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image[None])
    interpreter.invoke()
    return [interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details()]


def main() -> None:
    """Prune the network and check its remaining outputs."""
    original = Path(sys.argv[1]).read_bytes()
    model = schema.ModelT.InitFromPackedBuf(original, 0)
    prune_outputs(model, REMAINING_OUTPUTS)
    builder = flatbuffers.Builder(len(original))
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    pruned = bytes(builder.Output())
    image = np.random.default_rng(0).random((256, 256, 3), np.float32)
    before, after = run_network(original, image), run_network(pruned, image)
    if not all(
        np.array_equal(before[k], x) for k, x in zip(REMAINING_OUTPUTS, after, strict=True)
    ):
        sys.exit("error: the pruned network has other outputs")
    Path(sys.argv[2]).write_bytes(pruned)


if __name__ == "__main__":
    main()
