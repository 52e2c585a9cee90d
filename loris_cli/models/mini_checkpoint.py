"""Weights in and out: safetensors with their configuration, and the one embedded model."""

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from loris_cli.audio import mel
from loris_cli.composition.note_spectrogram import BANDS
from loris_cli.errors import WeightsError
from loris_cli.models.mel_autoencoder import LatentCoder, LatentConfig
from loris_cli.models.mini_unet import DenoiserConfig, MiniDenoiser
from loris_cli.system.atomic_files import replacing

Config = TypeVar("Config", LatentConfig, DenoiserConfig)

EMBEDDED = {"mini": "mini.safetensors"}
"""Models that ship with the package, by name."""

LARGEST = 4096
"""No size in a configuration is larger: it would only exhaust the memory."""


@dataclass(frozen=True, kw_only=True)
class MiniModel:
    """The two networks of the ``mini`` preset, and who they are."""

    coder: LatentCoder
    denoiser: MiniDenoiser
    name: str
    fingerprint: str
    """First 12 hex digits of the SHA-256 of the file."""


def save_mini(
    path: Path, coder: LatentCoder, denoiser: MiniDenoiser, *, overwrite: bool = True
) -> None:
    """Write both networks, parameters in half precision, with their configuration."""
    tensors = {}
    for name, module in (("coder", coder), ("denoiser", denoiser)):
        learned = {key for key, _ in module.named_parameters()}
        for key, value in module.state_dict().items():
            value = value.detach().contiguous()
            tensors[f"{name}.{key}"] = value.half() if key in learned else value
    metadata = {
        "loris.schema": "1",
        "loris.kind": "mini",
        "loris.coder": json.dumps(asdict(coder.config)),
        "loris.denoiser": json.dumps(asdict(denoiser.config)),
    }
    with replacing(path, overwrite=overwrite) as part:
        save_file(tensors, part, metadata)


def load_mini(model: str, *, device: torch.device) -> MiniModel:
    """Load the embedded model by name, or a file.

    Args:
        model: ``mini``, or the path of a ``.safetensors`` file.
        device: where to put it.

    Raises:
        WeightsError: no such model, or the file is not one of ours, damaged or hostile.
    """
    if model in EMBEDDED:
        resource = files("loris_cli.models").joinpath(EMBEDDED[model])
        if not resource.is_file():
            raise WeightsError(
                f"the weights of {model!r} are missing from this installation",
                hint="install loris again, or name a .safetensors file with --model",
            )
        with as_file(resource) as path:
            return _read(path, name=model, device=device)
    path = Path(model)
    if not path.is_file():
        raise WeightsError(
            f"no model {model!r}",
            hint=f"name one of {', '.join(EMBEDDED)}, a .safetensors file, or a released"
            " checkpoint",
        )
    return _read(path, name=path.name, device=device)


def _read(path: Path, *, name: str, device: torch.device) -> MiniModel:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            coder, denoiser = _build(metadata, path)
            expected = {
                f"{kind}.{key}": value
                for kind, module in (("coder", coder), ("denoiser", denoiser))
                for key, value in module.state_dict().items()
            }
            keys = set(file.keys())
            if keys != set(expected):
                odd = sorted(keys ^ set(expected))
                raise WeightsError(f"{path.name} lacks or adds tensors, such as {odd[0]!r}")
            tensors = {key: _tensor(file, key, expected[key], path) for key in expected}
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"{path.name} is not a safetensors file: {error}",
            hint="pickled checkpoints are refused: they can run code when opened",
        ) from error
    for kind, module in (("coder", coder), ("denoiser", denoiser)):
        start = len(kind) + 1
        state = {key[start:]: value for key, value in tensors.items() if key.startswith(kind)}
        module.load_state_dict(state, assign=True)
        module.to(device).eval().requires_grad_(False)
    with path.open("rb") as stream:
        fingerprint = hashlib.file_digest(stream, "sha256").hexdigest()[:12]
    return MiniModel(coder=coder, denoiser=denoiser, name=name, fingerprint=fingerprint)


def _tensor(file: Any, key: str, expected: Tensor, path: Path) -> Tensor:
    shape = tuple(file.get_slice(key).get_shape())
    if shape != tuple(expected.shape):
        raise WeightsError(
            f"{path.name}: {key!r} has shape {shape}, not {tuple(expected.shape)}"
        )
    value: Tensor = file.get_tensor(key).float()
    if not torch.isfinite(value).all():
        raise WeightsError(f"{path.name}: {key!r} holds values that are not finite")
    return value


def _build(metadata: dict[str, str], path: Path) -> tuple[LatentCoder, MiniDenoiser]:
    """Networks of the sizes that the file names, without memory for their weights."""
    if metadata.get("loris.schema") != "1" or metadata.get("loris.kind") != "mini":
        raise WeightsError(f"{path.name} is not a model of loris")
    try:
        with torch.device("meta"):
            coder = LatentCoder(_config(LatentConfig, metadata["loris.coder"]))
            denoiser = MiniDenoiser(_config(DenoiserConfig, metadata["loris.denoiser"]))
        drawn = denoiser.config.sketch_channels
        if drawn and (drawn != coder.config.channels or coder.config.bands != BANDS):
            raise ValueError("a sketch is a code as any other, of the bands it is drawn in")
    except (KeyError, ValueError, TypeError, AssertionError, RuntimeError) as error:
        raise WeightsError(f"{path.name} has a configuration that makes no network") from error
    return coder, denoiser


def _config(kind: type[Config], text: str) -> Config:
    values = json.loads(text)
    known = {field.name: field.default for field in fields(kind)}
    if not isinstance(values, dict) or set(values) - set(known):
        raise ValueError("unknown sizes")
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    for name, value in values.items():
        least = 0 if known[name] == 0 else 1  # what a network can do without
        for number in value if isinstance(value, tuple) else (value,):
            is_size = isinstance(number, int) and least <= number <= LARGEST
            if not (is_size or isinstance(number, bool)):
                raise ValueError("a size that is no size")
    return kind(**values)


def through_latent(model: MiniModel, samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """A sound encoded and decoded again: the best the model could do."""
    bands = model.coder.config.bands
    frames = mel.log_mel(samples, bands)
    frames = np.pad(frames, ((0, 0), (0, -frames.shape[1] % 4)), mode="edge")
    with torch.inference_mode():
        again = model.coder.decode(model.coder.encode(torch.from_numpy(frames)[None]))[0]
    return mel.invert(again.numpy(), bands)[: len(samples)]
