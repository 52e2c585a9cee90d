"""Weights of ``mini`` for training: networks of a run, and backbones to start from.

run folder, stage weights or complete model -> networks -> weights of a new denoiser
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from loris_cli.errors import InputError, UsageError, WeightsError
from loris_cli.models.checkpoint_format import read_config
from loris_cli.models.empty_networks import empty_networks
from loris_cli.models.mel_autoencoder import MelAutoencoder, MelAutoencoderConfig
from loris_cli.models.mini_checkpoint import MiniCheckpoint, load_mini_checkpoint
from loris_cli.models.mini_config import MiniDenoiserConfig
from loris_cli.models.mini_unet import MiniDenoiser
from loris_cli.system.atomic_files import output_errors
from loris_cli.system.state_dict_files import MALFORMED_FILE_ERRORS, check_state_dict
from loris_cli.training.checkpoints import (
    RunFolder,
    is_complete_model,
    is_conditional_stage,
    read_weights,
    write_weights,
)
from loris_cli.training.latent_cache import set_latent_statistics
from loris_cli.training.lr_schedule import is_conditioning
from loris_cli.training.settings import StageName

NetworkT = TypeVar("NetworkT", MelAutoencoder, MiniDenoiser)


def load_autoencoder(run: RunFolder) -> MelAutoencoder:
    """Load the autoencoder of a run.

    Raises:
        UsageError: the latent stage of the run has not been trained.
        InputError: the weights are damaged.
    """
    path = run.stage_folder("latent").find_weights()
    if path is None:
        raise UsageError(f"{run.path} has no latent stage", hint="run --stage latent first")
    return read_autoencoder(path)


def read_autoencoder(path: Path) -> MelAutoencoder:
    """Read the autoencoder of a latent stage or of a complete model, without gradients.

    Raises:
        InputError: the file is damaged, or has no autoencoder.
        WeightsError: the complete model is damaged.
    """
    if is_complete_model(path):
        return load_complete_model(path).autoencoder
    autoencoder = _read_network(path, "latent", MelAutoencoder, MelAutoencoderConfig)
    return autoencoder.eval().requires_grad_(False)


def load_complete_model(path: Path) -> MiniCheckpoint:
    """Load both networks of a complete model on the CPU, without gradients.

    Raises:
        WeightsError: the file is damaged.
    """
    return load_mini_checkpoint(str(path), device=torch.device("cpu"))


def load_mini_networks(run: RunFolder, path: Path) -> tuple[MelAutoencoder, MiniDenoiser]:
    """Load both networks of a run, including the statistics of the latents.

    Args:
        run: folder of the run.
        path: weights file of the denoiser.

    Raises:
        InputError: the weights are damaged or are those of another network.
    """
    autoencoder = load_autoencoder(run)
    set_latent_statistics(autoencoder, run.latents_path)
    return autoencoder, _read_network(path, "conditional", MiniDenoiser, MiniDenoiserConfig)


def _read_network(
    path: Path, stage: StageName, network_class: type[NetworkT], config_class: type[Any]
) -> NetworkT:
    tensors, metadata = read_weights(path)
    try:
        sizes = metadata["loris.coder" if stage == "latent" else "loris.denoiser"]
        with empty_networks():
            network = network_class(read_config(config_class, sizes))
        check_state_dict(tensors, network.state_dict(), path)
    except (*MALFORMED_FILE_ERRORS, WeightsError) as error:
        raise InputError(
            f"{path} has no weights of a {stage} stage: {error}",
            hint=f"train it with --stage {stage}",
        ) from error
    network.load_state_dict({key: tensors[key].float() for key in tensors}, assign=True)
    return network


def _list_unet_parameters(denoiser: MiniDenoiser) -> list[str]:
    return [name for name, _ in denoiser.named_parameters() if name.startswith("unet.")]


def read_mini_backbone(path: Path, denoiser: MiniDenoiser) -> dict[str, Tensor]:
    """Read the weights of a backbone, padded to the shapes of a denoiser.

    A backbone is from an unconditional stage, a conditional stage, perhaps with fewer
    conditions, or a complete model.

    Raises:
        InputError: the file cannot be read, or has the weights of another network.
    """
    state = _read_denoiser_weights(path)
    if not state.keys() >= set(_list_unet_parameters(denoiser)):
        raise InputError(
            f"{path.name} is not a backbone of this preset",
            hint="train one with --stage unconditional",
        )
    return pad_weights(state, denoiser.state_dict())


def list_backbone_parameters(path: Path, denoiser: MiniDenoiser) -> list[str]:
    """Return the names of the parameters that are trained in a backbone, see `is_conditioning`.

    Those with more input channels than in the backbone are not among them.

    Raises:
        InputError: the file cannot be read, or has the weights of another network.
    """
    read_mini_backbone(path, denoiser)
    state, new = _read_denoiser_weights(path), dict(denoiser.named_parameters())
    names = [
        key for key, value in new.items() if key in state and state[key].shape == value.shape
    ]
    if is_conditional_stage(path) or is_complete_model(path):
        return names
    return [key for key in names if key.startswith("unet.") and not is_conditioning(key)]


def _read_denoiser_weights(path: Path) -> dict[str, Tensor]:
    if is_complete_model(path):
        return load_complete_model(path).denoiser.state_dict()
    return read_weights(path)[0]


def copy_autoencoder(model_path: Path, run: RunFolder) -> None:
    """Use the autoencoder of a complete model as the latent stage of a run without one.

    Raises:
        WeightsError: the file is damaged.
    """
    folder = run.stage_folder("latent")
    if folder.find_weights() is not None:
        return
    autoencoder = read_autoencoder(model_path)
    with output_errors(folder.path):
        folder.path.mkdir(exist_ok=True)
    metadata = {"loris.stage": "latent", "loris.coder": json.dumps(asdict(autoencoder.config))}
    write_weights(folder.last_weights, autoencoder.state_dict(), metadata)


def pad_weights(old: Mapping[str, Tensor], new: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Pad the weights of a network for one with more condition channels.

    New channels come last in every input. Their matrix columns are zero, so they initially have
    no effect. New elements of norms, and parameters that the old network lacks, keep their
    initial values.

    Args:
        old: weights of the old network, by name.
        new: initial weights of the new network, by name.

    Raises:
        InputError: a tensor of the new network is smaller or has another rank.
    """
    state = dict(new)
    for name in sorted(old.keys() & new.keys()):
        source, target = old[name], new[name]
        pairs = zip(source.shape, target.shape, strict=False)
        if source.ndim != target.ndim or any(a > b for a, b in pairs):
            raise InputError(
                f"backbone {name} is {tuple(source.shape)}, expected {tuple(target.shape)}",
                hint="pass a backbone of the same preset",
            )
        padded = target.clone() if target.ndim == 1 else torch.zeros_like(target)
        padded[tuple(map(slice, source.shape))] = source
        state[name] = padded
    return state
