"""Weights files of trained baselines: safetensors in 8 bits, with their configuration.

    network, codec -> FILE -> LearnedModel

A file includes the codec whose codes its network generates, so the two always belong together.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from loris_cli.baselines.learned_method import LearnedMethod, MethodName
from loris_cli.baselines.learned_methods import get_learned_method
from loris_cli.errors import WeightsError
from loris_cli.models.checkpoint_format import checkpoint_metadata, open_checkpoint, read_config
from loris_cli.models.empty_networks import empty_networks
from loris_cli.models.int8_weights import dequantize_int8, quantize_int8
from loris_cli.system.atomic_files import atomic_write
from loris_cli.system.file_fingerprints import compute_sha256
from loris_cli.system.state_dict_files import check_state_dict

WEIGHTS_DIR = Path(__file__).parent / "weights"
"""Folder of the weights that are bundled with the package."""
STEP_KEY = "loris.step"
"""Metadata key: number of training steps."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LearnedModel:
    """Trained network of a method, and its codec."""

    method: LearnedMethod
    network: nn.Module
    codec: nn.Module | None
    name: str
    """Name of the method, or of the file if it is not the bundled one."""
    sha256_prefix: str = ""
    """First 12 hex digits of the SHA-256 of the file; empty in training."""


def find_bundled_weights(name: MethodName) -> Path | None:
    """Return the path of the bundled weights of a method; None if it has none."""
    path = WEIGHTS_DIR / f"{name}.safetensors"
    return path if path.is_file() else None


def detect_learned_method(path: Path) -> MethodName | None:
    """Return the method of a weights file; None if it is a file of another kind."""
    try:
        with safe_open(path, framework="pt") as file:
            kind = (file.metadata() or {}).get("loris.kind")
    except (SafetensorError, OSError, RuntimeError):
        return None
    return next((name for name in get_args(MethodName) if name == kind), None)


def export_learned_weights(
    method: LearnedMethod, network: nn.Module, codec: nn.Module | None
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors of a network and its codec, and metadata with their configurations."""
    modules = {"network": network, **({"codec": codec} if codec is not None else {})}
    tensors = {
        f"{prefix}.{key}": value.detach()
        for prefix, module in modules.items()
        for key, value in module.state_dict().items()
    }
    configs = {prefix: module.config for prefix, module in modules.items()}
    return tensors, checkpoint_metadata(method.name, **configs)


def convert_to_int8(source: Path, path: Path, *, overwrite: bool = True) -> None:
    """Write the weights of a training stage in 8 bits.

    Args:
        source: weights file of `loris train`, in any precision.
        path: output file, written atomically.
        overwrite: overwrite an existing file.
    """
    with safe_open(source, framework="pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}
        metadata = file.metadata()
    small = {k: v.contiguous() for k, v in quantize_int8(dequantize_int8(tensors)).items()}
    with atomic_write(path, overwrite=overwrite) as temporary:
        save_file(small, temporary, metadata)


def load_learned_model(
    name: MethodName, path: Path | None = None, *, device: torch.device
) -> LearnedModel:
    """Load a trained method.

    Args:
        name: name of the method.
        path: weights file of ``loris train --method``; None loads the bundled weights.
        device: device of the networks.

    Raises:
        WeightsError: there are no weights, or the file is damaged, malicious, untrained, or of
            another method.
    """
    source = path or find_bundled_weights(name)
    if source is None or not source.is_file():
        missing = "no weights are included" if source is None else f"{source} does not exist"
        raise WeightsError(
            f"the method {name} is not trained: {missing}",
            hint=f"train it: loris train --method {name} --out runs/{name}",
        )
    method = get_learned_method(name)
    with open_checkpoint(source, name) as (file, metadata):
        config_class = type(method.configs["compact"])
        with empty_networks():
            network = method.build_network(read_config(config_class, metadata["loris.network"]))
            codec = _build_codec(metadata["loris.codec"]) if method.uses_codec else None
        if int(metadata.get(STEP_KEY, "0")) < 1:
            raise WeightsError(
                f"{source.name} has untrained weights", hint="specify a trained checkpoint"
            )
        tensors = dequantize_int8({key: file.get_tensor(key) for key in file.keys()})
    modules = nn.ModuleDict({"network": network, **({"codec": codec} if codec else {})})
    check_state_dict(tensors, modules.state_dict(), source)
    expected = modules.state_dict()
    modules.load_state_dict(
        {key: value.to(expected[key].dtype) for key, value in tensors.items()}, assign=True
    )
    modules.to(device).eval().requires_grad_(False)
    return LearnedModel(
        method=method,
        network=network,
        codec=codec,
        name=name if path is None else source.name,
        sha256_prefix=compute_sha256(source)[:12],
    )


def _build_codec(config_text: str) -> nn.Module:
    method = get_learned_method("vqvae")
    return method.build_network(read_config(type(method.configs["compact"]), config_text))


def list_trained_methods() -> list[MethodName]:
    """Return the methods that generate music and have bundled weights."""
    return [
        name
        for name in get_args(MethodName)
        if name != "vqvae" and find_bundled_weights(name) is not None
    ]
