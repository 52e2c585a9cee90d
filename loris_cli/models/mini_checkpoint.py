"""Checkpoints of the ``mini`` preset: safetensors with configuration; one is bundled."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from loris_cli.array_types import Samples
from loris_cli.audio import mel
from loris_cli.audio.magnitudes import invert_log_magnitude
from loris_cli.composition.note_spectrogram import NOTE_MEL_CONFIG
from loris_cli.config import GENRES
from loris_cli.errors import WeightsError
from loris_cli.models.checkpoint_format import checkpoint_metadata, open_checkpoint, read_config
from loris_cli.models.condition_routes import CONDITIONINGS
from loris_cli.models.empty_networks import empty_networks
from loris_cli.models.int8_weights import dequantize_int8, quantize_int8
from loris_cli.models.mel_autoencoder import MelAutoencoder, MelAutoencoderConfig
from loris_cli.models.mini_config import BUILTIN_MODELS, MiniDenoiserConfig
from loris_cli.models.mini_unet import MiniDenoiser
from loris_cli.system.atomic_files import atomic_write
from loris_cli.system.file_fingerprints import compute_sha256
from loris_cli.system.state_dict_files import check_state_dict


@dataclass(frozen=True, kw_only=True)
class MiniCheckpoint:
    """The two networks of the ``mini`` preset, with the name and hash of their file."""

    autoencoder: MelAutoencoder
    denoiser: MiniDenoiser
    name: str
    sha256_prefix: str = ""
    """First 12 hex digits of the SHA-256 of the file; empty in training."""


def save_mini_checkpoint(
    path: Path, autoencoder: MelAutoencoder, denoiser: MiniDenoiser, *, overwrite: bool = True
) -> None:
    """Write both networks and their configurations, with parameters in 8 bits."""
    networks = nn.ModuleDict({"coder": autoencoder, "denoiser": denoiser})
    parameters = {name: value.detach() for name, value in networks.named_parameters()}
    tensors = {**networks.state_dict(), **quantize_int8(parameters)}
    tensors = {name: value.contiguous() for name, value in tensors.items()}
    configs = {"coder": autoencoder.config, "denoiser": denoiser.config}
    with atomic_write(path, overwrite=overwrite) as temporary:
        save_file(tensors, temporary, checkpoint_metadata("mini", **configs))


def load_mini_checkpoint(name_or_path: str, *, device: torch.device) -> MiniCheckpoint:
    """Load the bundled model or a checkpoint file.

    Args:
        name_or_path: ``mini``, or the path of a ``.safetensors`` file.
        device: device of the networks.

    Raises:
        WeightsError: the model does not exist, or the file is damaged, malicious, or not a
            loris checkpoint.
    """
    builtin = BUILTIN_MODELS.get(name_or_path)
    path = builtin or Path(name_or_path)
    if not path.is_file():
        if builtin:
            raise WeightsError(
                f"the weights of {name_or_path!r} are missing from this installation",
                hint="reinstall loris, or pass a .safetensors file with --model",
            )
        names = ", ".join(BUILTIN_MODELS)
        hint = f"pass one of {names}, a .safetensors file, or a released checkpoint"
        raise WeightsError(f"no such model: {name_or_path!r}", hint=hint)
    with open_checkpoint(path, "mini") as (file, metadata):
        with empty_networks():
            autoencoder = MelAutoencoder(
                read_config(MelAutoencoderConfig, metadata["loris.coder"])
            )
            denoiser = MiniDenoiser(read_config(MiniDenoiserConfig, metadata["loris.denoiser"]))
        n_channels, sizes = denoiser.config.note_latent_channels, autoencoder.config
        notes_fit = (n_channels, NOTE_MEL_CONFIG) == (sizes.latent_channels, sizes.bands)
        if n_channels and not notes_fit:
            raise ValueError("note_latent_channels or mel bands do not match the autoencoder")
        _check_denoiser(denoiser.config, sizes.latent_channels)
        state = dequantize_int8({key: file.get_tensor(key) for key in file.keys()})
    networks = nn.ModuleDict({"coder": autoencoder, "denoiser": denoiser})
    check_state_dict(state, networks.state_dict(), path)
    networks.load_state_dict({key: state[key].float() for key in state}, assign=True)
    networks.to(device).eval().requires_grad_(False)
    return MiniCheckpoint(
        autoencoder=autoencoder,
        denoiser=denoiser,
        name=name_or_path if builtin else path.name,
        sha256_prefix=compute_sha256(path)[:12],
    )


def _check_denoiser(config: MiniDenoiserConfig, latent_channels: int) -> None:
    """Raise ValueError if the sizes are not those of `MiniCondition` and the latents."""
    allowed = {
        "latent_channels": {latent_channels},
        "rhythm_channels": {20},
        "harmony_channels": {0, 32},
        "n_genres": {len(GENRES)},
    }
    for name, values in allowed.items():
        if getattr(config, name) not in values:
            raise ValueError(f"invalid {name}: {getattr(config, name)}")
    if config.rhythm_features % 2:
        raise ValueError("rhythm_features must be even")
    if config.rhythm_features % max(config.heads, 1):
        raise ValueError("rhythm_features must be a multiple of heads")
    if not set(CONDITIONINGS) >= set(config.conditionings):
        raise ValueError("unknown conditioning")
    if config.window_frames % config.stride or config.window_frames < 8 * config.stride:
        raise ValueError(f"invalid window_frames: {config.window_frames}")


def reconstruct_through_latent(autoencoder: MelAutoencoder, samples: Samples) -> Samples:
    """Return audio encoded and decoded by the autoencoder.

    It shows the loss in the autoencoder; a model may score above it.

    Args:
        autoencoder: network on any device.
        samples: mono audio at 22,050 Hz, ``(samples,)``.
    """
    log_mel = mel.compute_log_mel(samples, autoencoder.config.bands)
    log_mel = np.pad(log_mel, ((0, 0), (0, -log_mel.shape[1] % 4)), mode="edge")
    latents = encode_log_mel(autoencoder, torch.from_numpy(log_mel))
    return decode_latents(autoencoder, latents)[: len(samples)]


@torch.inference_mode()
def encode_log_mel(autoencoder: MelAutoencoder, log_mel: Tensor) -> Tensor:
    """Encode a log-mel spectrogram, ``(n_mels, frames)``, on the network's device.

    Args:
        autoencoder: network on any device.
        log_mel: spectrogram on any device; its length is a multiple of the stride.

    Returns:
        ``(channels, frames / 4)``
    """
    device = next(autoencoder.parameters()).device
    return autoencoder.encode(log_mel[None].to(device))[0]


@torch.inference_mode()
def decode_latents(autoencoder: MelAutoencoder, latents: Tensor) -> Samples:
    """Decode latents to audio.

    Args:
        autoencoder: network on any device.
        latents: normalized latents on any device, ``(channels, frames)``.

    Returns:
        mono audio at 22,050 Hz, ``((4 * frames - 1) * 256,)``.
    """
    device = next(autoencoder.parameters()).device
    frames = autoencoder.decode(latents[None].to(device)).cpu()
    return invert_log_magnitude(frames)[0].numpy()
