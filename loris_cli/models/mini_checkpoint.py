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
from loris_cli.composition.note_spectrogram import NOTE_MEL_CONFIG
from loris_cli.errors import WeightsError
from loris_cli.models.checkpoint_schema import CHECKPOINT_SCHEMA, check_checkpoint_schema
from loris_cli.models.mel_autoencoder import MelAutoencoder, MelAutoencoderConfig
from loris_cli.models.mini_unet import MiniDenoiser, MiniDenoiserConfig
from loris_cli.system.atomic_files import atomic_write

ConfigT = TypeVar("ConfigT", MelAutoencoderConfig, MiniDenoiserConfig)

BUILTIN_MODELS = {"mini": "mini.safetensors"}
"""Models that ship with the package, by name."""

MAX_CONFIG_VALUE = 4096
"""No size in a configuration is larger: it would only exhaust the memory."""


@dataclass(frozen=True, kw_only=True)
class MiniCheckpoint:
    """The two networks of the ``mini`` preset, and who they are."""

    autoencoder: MelAutoencoder
    denoiser: MiniDenoiser
    name: str
    sha256_prefix: str
    """First 12 hex digits of the SHA-256 of the file."""


def save_mini_checkpoint(
    path: Path, autoencoder: MelAutoencoder, denoiser: MiniDenoiser, *, overwrite: bool = True
) -> None:
    """Write both networks, parameters in half precision, with their configuration."""
    tensors = {}
    for name, module in (("coder", autoencoder), ("denoiser", denoiser)):
        learned = {key for key, _ in module.named_parameters()}
        for key, value in module.state_dict().items():
            value = value.detach().contiguous()
            tensors[f"{name}.{key}"] = value.half() if key in learned else value
    metadata = {
        "loris.schema": CHECKPOINT_SCHEMA,
        "loris.kind": "mini",
        "loris.coder": json.dumps(asdict(autoencoder.config)),
        "loris.denoiser": json.dumps(asdict(denoiser.config)),
    }
    with atomic_write(path, overwrite=overwrite) as part:
        save_file(tensors, part, metadata)


def load_mini_checkpoint(name_or_path: str, *, device: torch.device) -> MiniCheckpoint:
    """Load the embedded model by name, or a file.

    Args:
        name_or_path: ``mini``, or the path of a ``.safetensors`` file.
        device: where to put it.

    Raises:
        WeightsError: no such model, or the file is not one of ours, damaged or hostile.
    """
    if name_or_path in BUILTIN_MODELS:
        resource = files("loris_cli.models").joinpath(BUILTIN_MODELS[name_or_path])
        if not resource.is_file():
            raise WeightsError(
                f"the weights of {name_or_path!r} are missing from this installation",
                hint="install loris again, or name a .safetensors file with --model",
            )
        with as_file(resource) as path:
            return _read_checkpoint(path, name=name_or_path, device=device)
    path = Path(name_or_path)
    if not path.is_file():
        raise WeightsError(
            f"no model {name_or_path!r}",
            hint=f"name one of {', '.join(BUILTIN_MODELS)}, a .safetensors file, or a released"
            " checkpoint",
        )
    return _read_checkpoint(path, name=path.name, device=device)


def _read_checkpoint(path: Path, *, name: str, device: torch.device) -> MiniCheckpoint:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            coder, denoiser = _build_networks(metadata, path)
            expected = {
                f"{kind}.{key}": value
                for kind, module in (("coder", coder), ("denoiser", denoiser))
                for key, value in module.state_dict().items()
            }
            keys = set(file.keys())
            if keys != set(expected):
                odd = sorted(keys ^ set(expected))
                raise WeightsError(f"{path.name} lacks or adds tensors, such as {odd[0]!r}")
            tensors = {key: _read_tensor(file, key, expected[key], path) for key in expected}
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
    return MiniCheckpoint(
        autoencoder=coder, denoiser=denoiser, name=name, sha256_prefix=fingerprint
    )


def _read_tensor(weights_file: Any, key: str, expected: Tensor, path: Path) -> Tensor:
    shape = tuple(weights_file.get_slice(key).get_shape())
    if shape != tuple(expected.shape):
        raise WeightsError(
            f"{path.name}: {key!r} has shape {shape}, not {tuple(expected.shape)}"
        )
    value: Tensor = weights_file.get_tensor(key).float()
    if not torch.isfinite(value).all():
        raise WeightsError(f"{path.name}: {key!r} holds values that are not finite")
    return value


def _build_networks(
    metadata: dict[str, str], path: Path
) -> tuple[MelAutoencoder, MiniDenoiser]:
    """Networks of the sizes that the file names, without memory for their weights."""
    if metadata.get("loris.kind") != "mini":
        raise WeightsError(f"{path.name} is not a model of loris")
    check_checkpoint_schema(metadata, path)
    try:
        with torch.device("meta"):
            coder = MelAutoencoder(_parse_config(MelAutoencoderConfig, metadata["loris.coder"]))
            denoiser = MiniDenoiser(
                _parse_config(MiniDenoiserConfig, metadata["loris.denoiser"])
            )
        drawn = denoiser.config.note_latent_channels
        if drawn and (
            drawn != coder.config.latent_channels or coder.config.bands != NOTE_MEL_CONFIG
        ):
            raise ValueError("a sketch is a code as any other, of the bands it is drawn in")
    except (KeyError, ValueError, TypeError, AssertionError, RuntimeError) as error:
        raise WeightsError(f"{path.name} has a configuration that makes no network") from error
    return coder, denoiser


def _parse_config(config_class: type[ConfigT], json_text: str) -> ConfigT:
    values = json.loads(json_text)
    known = {field.name: field.default for field in fields(config_class)}
    if not isinstance(values, dict) or set(values) - set(known):
        raise ValueError("unknown sizes")
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    for name, value in values.items():
        least = 0 if known[name] == 0 else 1  # what a network can do without
        for number in value if isinstance(value, tuple) else (value,):
            is_size = isinstance(number, int) and least <= number <= MAX_CONFIG_VALUE
            if not (is_size or isinstance(number, bool)):
                raise ValueError("a size that is no size")
    return config_class(**values)


def reconstruct_through_latent(
    model: MiniCheckpoint, samples: NDArray[np.float32]
) -> NDArray[np.float32]:
    """A sound encoded and decoded again: the best the model could do."""
    bands = model.autoencoder.config.bands
    frames = mel.compute_log_mel(samples, bands)
    frames = np.pad(frames, ((0, 0), (0, -frames.shape[1] % 4)), mode="edge")
    with torch.inference_mode():
        again = model.autoencoder.decode(
            model.autoencoder.encode(torch.from_numpy(frames)[None])
        )[0]
    return mel.invert_log_mel(again.numpy(), bands)[: len(samples)]
