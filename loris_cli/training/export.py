"""A run or a checkpoint as one file: a model as `--model` takes it, or the authors' form.

RUN -> averaged weights of its last stage, and its latent -> networks -> FILE
released checkpoint, or a model's file -> networks -> FILE
"""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import safe_open

from loris_cli.errors import InputError, UsageError
from loris_cli.models.load_model import detect_preset
from loris_cli.models.mel_autoencoder import MelAutoencoder
from loris_cli.models.mini_checkpoint import load_mini_checkpoint, save_mini_checkpoint
from loris_cli.models.mini_unet import MiniDenoiser, MiniDenoiserConfig
from loris_cli.models.paper_checkpoint import (
    list_unsupported_fields,
    load_paper_model,
    save_paper_model,
    save_released_format,
)
from loris_cli.models.paper_config import PaperConfig, to_official_config
from loris_cli.system.atomic_files import check_output_paths, printable_path
from loris_cli.system.file_fingerprints import compute_sha256
from loris_cli.system.input_paths import check_suffix
from loris_cli.system.state_dict_files import TORCH_SUFFIXES, is_torch_file
from loris_cli.training.checkpoints import RunFolder, read_weights, translate_disk_errors
from loris_cli.training.latent_cache import read_latents
from loris_cli.training.mini_stages import read_latent_coder

ExportFormat = Literal["loris", "official"]
WeightsChoice = Literal["best", "last"]
CPU = torch.device("cpu")


def export_model(
    source: Path,
    out: Path,
    *,
    export_format: ExportFormat = "loris",
    weights_choice: WeightsChoice = "best",
    overwrite: bool = False,
    warn: Callable[[str], None] = lambda text: None,
) -> None:
    """Write a model into one file.

    Args:
        source: folder of a run, released checkpoint, or safetensors of ours.
        out: appears whole or not at all.
        export_format: ``loris`` is safetensors with the configuration inside; ``to_official_config`` the state
            dict of the authors' code, which the paper's network alone has.
        weights_choice: weights of a run: the best on held-out clips, or of the last save. A run that
            was never validated has only the last.
        overwrite: an existing file may be replaced.
        warn: hears what is to be known of the result.

    Raises:
        UsageError: the names do not do, or the network is none that the form can hold.
        InputError: there is nothing of a model at the source.
        WeightsError: the checkpoint is none, or damaged.
        OutputError: the file cannot be written.
    """
    check_suffix(out, [".safetensors"] if export_format == "loris" else sorted(TORCH_SUFFIXES))
    weights = _find_weights(source, weights_choice, warn) if source.is_dir() else source
    if not weights.is_file():
        raise InputError(
            f"no run and no checkpoint {printable_path(source)}",
            hint="name the folder of a run",
        )
    check_output_paths([out], [weights], overwrite=overwrite)
    if (source.is_dir() and _read_preset(source) == "mini") or detect_preset(
        str(weights)
    ) == "mini":
        if export_format == "official":
            raise UsageError(
                f"{printable_path(source)} is of our mini, which the authors' form cannot hold",
                hint="leave out --form",
            )
        networks = _load_mini_networks(source, weights)
        with translate_disk_errors(out):
            save_mini_checkpoint(out, *networks, overwrite=overwrite)
        return
    model = load_paper_model(weights, device=CPU)
    if export_format == "official":
        _check_official_format(model.config, source, warn)
        with translate_disk_errors(out):
            save_released_format(out, model, overwrite=overwrite)
        return
    came_from = compute_sha256(weights) if is_torch_file(weights) else ""
    with translate_disk_errors(out):
        save_paper_model(out, model, source_sha256=came_from, overwrite=overwrite)


def load_run_latent_coder(run_folder: RunFolder) -> MelAutoencoder:
    """The latent that a run has learned.

    Raises:
        UsageError: it has none yet.
    """
    for name in ("best", "last"):
        path = run_folder.path / "latent" / f"{name}.safetensors"
        if path.exists():
            return read_latent_coder(path)
    raise UsageError(
        f"{printable_path(run_folder.path)} has no latent yet",
        hint="train --stage latent first",
    )


def load_run_mini(
    run_folder: RunFolder, weights_path: Path
) -> tuple[MelAutoencoder, MiniDenoiser]:
    """Both networks of a run, the coder with the statistics of its codes.

    Args:
        run_folder: of the run.
        weights_path: of its denoiser.

    Raises:
        InputError: the weights are of no denoiser, or damaged.
    """
    coder = load_run_latent_coder(run_folder)
    read_latents(run_folder.latents_path, coder)
    tensors = read_weights(weights_path)
    try:
        with safe_open(weights_path, framework="pt") as file:
            told: dict[str, Any] = json.loads((file.metadata() or {})["loris.denoiser"])
        for key, value in told.items():
            told[key] = tuple(value) if isinstance(value, list) else value
        denoiser = MiniDenoiser(MiniDenoiserConfig(**told))
        denoiser.load_state_dict(tensors)
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        raise InputError(
            f"{printable_path(weights_path)} holds no denoiser",
            hint="train --stage conditional first",
        ) from error
    return coder, denoiser


def _load_mini_networks(
    source: Path, weights_path: Path
) -> tuple[MelAutoencoder, MiniDenoiser]:
    if source.is_dir():
        return load_run_mini(RunFolder(source), weights_path)
    model = load_mini_checkpoint(str(weights_path), device=CPU)
    return model.autoencoder, model.denoiser


def _read_preset(run_dir: Path) -> str:
    try:
        return str(json.loads((run_dir / "run.json").read_text(encoding="utf-8"))["preset"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{printable_path(run_dir)} is no run",
            hint="name the --out of a run, or a checkpoint",
        ) from error


def _find_weights(
    run_dir: Path, weights_choice: WeightsChoice, warn: Callable[[str], None]
) -> Path:
    """The weights of a run's last stage."""
    _read_preset(run_dir)
    place = run_dir / "conditional"
    best, last = place / "best.safetensors", place / "last.safetensors"
    if weights_choice == "best" and best.exists():
        return best
    if not last.exists():
        raise InputError(
            f"{printable_path(run_dir)} has no weights of its conditional stage yet",
            hint="train on; the first save comes with the end, SIGTERM or save_every_s",
        )
    if weights_choice == "best":
        warn(f"{printable_path(run_dir)} was not validated yet: these are its last weights")
    return last


def _check_official_format(
    config: PaperConfig, source: Path, warn: Callable[[str], None]
) -> None:
    """Refuse what the authors' network lacks; tell of a reading that will be lost."""
    odd = list_unsupported_fields(config)
    if odd:
        named = ", ".join(f"{name} {getattr(config, name)!r}" for name in odd)
        raise UsageError(
            f"{printable_path(source)} is of a network that the authors' form cannot hold: {named}",
            hint="leave out --form",
        )
    told, taken = asdict(config), asdict(to_official_config(config))
    lost = [f"{key} {told[key]!r}" for key in told if told[key] != taken[key]]
    if lost:
        warn(
            "the authors' form does not tell the reading, and their code takes its own;"
            f" this network learned with {', '.join(lost)}"
        )
