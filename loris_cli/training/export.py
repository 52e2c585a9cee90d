"""Export of a run or a checkpoint to one file, as safetensors or in the released format.

RUN -> EMA weights of the conditional stage, and the autoencoder -> networks -> FILE
released checkpoint or loris safetensors file -> networks -> FILE
weights of a trained baseline -> weights in 8 bits -> FILE
"""

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Literal

import torch

from loris_cli.baselines.learned_checkpoint import convert_to_int8, detect_learned_method
from loris_cli.errors import InputError, UsageError
from loris_cli.models import mini_checkpoint, paper_checkpoint
from loris_cli.models.load_model import detect_preset
from loris_cli.models.paper_config import PaperConfig, to_official_config
from loris_cli.system.atomic_files import check_output_paths
from loris_cli.system.file_fingerprints import compute_sha256
from loris_cli.system.input_paths import check_suffix
from loris_cli.system.state_dict_files import TORCH_SUFFIXES, is_torch_file
from loris_cli.training.checkpoints import RunFolder, WeightsChoice, translate_disk_errors
from loris_cli.training.mini_weights import load_mini_networks

ExportFormat = Literal["loris", "official"]
CPU = torch.device("cpu")
FORMAT_HINT = "omit --format"


def export_model(
    source: Path,
    output: Path,
    *,
    export_format: ExportFormat = "loris",
    weights_choice: WeightsChoice = "best",
    overwrite: bool = False,
    warn: Callable[[str], None] = lambda text: None,
) -> None:
    """Export a model to one file.

    Args:
        source: run folder, released checkpoint, or loris safetensors file.
        output: output file, written atomically.
        export_format: ``loris`` is safetensors with the configuration in the metadata;
            ``official`` is the state dict of the released code, for the paper's network only.
        weights_choice: weights of a run to export: those with the best validation loss, or
            those of the last save. A run that was never validated has only the last.
        overwrite: overwrite an existing file.
        warn: called with warnings about the result.

    Raises:
        UsageError: a path is invalid, or the format cannot represent the network.
        InputError: the source has no model.
        WeightsError: the checkpoint is damaged or of another kind.
        OutputError: the file cannot be written.
    """
    is_official = export_format == "official"
    check_suffix(output, sorted(TORCH_SUFFIXES) if is_official else [".safetensors"])
    weights_path, preset = source, None
    if source.is_dir():
        preset = RunFolder(source).read_identity()["preset"]
        weights_path = _find_weights(RunFolder(source), weights_choice, warn)
    if not weights_path.is_file():
        raise InputError(f"no such run or checkpoint: {source}", hint="pass a run folder")
    check_output_paths([output], [weights_path], overwrite=overwrite)
    save: Callable[..., None]
    baseline = detect_learned_method(weights_path)
    preset = preset or baseline or detect_preset(str(weights_path))
    if preset != "paper" and is_official:
        raise UsageError(
            f"{source} is a {preset} model, which the official format does not support",
            hint=FORMAT_HINT,
        )
    if baseline is not None:
        save = partial(convert_to_int8, weights_path, output)
    elif preset == "mini":
        if source.is_dir():
            networks = load_mini_networks(RunFolder(source), weights_path)
        else:
            model = mini_checkpoint.load_mini_checkpoint(str(weights_path), device=CPU)
            networks = model.autoencoder, model.denoiser
        save = partial(mini_checkpoint.save_mini_checkpoint, output, *networks)
    else:
        network = paper_checkpoint.load_paper_model(weights_path, device=CPU)
        sha256 = compute_sha256(weights_path) if is_torch_file(weights_path) else ""
        save = partial(paper_checkpoint.save_paper_model, output, network, source_sha256=sha256)
        if is_official:
            _check_official(network.config, source, warn)
            save = partial(paper_checkpoint.save_released_format, output, network)
    with translate_disk_errors(output):
        save(overwrite=overwrite)


def _find_weights(run: RunFolder, choice: WeightsChoice, warn: Callable[[str], None]) -> Path:
    """Return the weights file of the conditional stage of a run."""
    folder = run.stage_folder("conditional")
    path = folder.find_weights(choice)
    if path is None:
        raise InputError(
            f"the conditional stage of {run.path} has no saved weights",
            hint="continue training: it saves every save_every_s seconds, on SIGTERM and at the"
            " end",
        )
    if choice == "best" and path != folder.best_weights:
        warn(f"{run.path} has no validated weights: exporting the last weights")
    return path


def _check_official(config: PaperConfig, path: Path, warn: Callable[[str], None]) -> None:
    """Raise if the released format cannot represent a network; warn of lost configuration."""
    unsupported = paper_checkpoint.list_unsupported_fields(config)
    if unsupported:
        text = ", ".join(f"{field} {getattr(config, field)!r}" for field in unsupported)
        raise UsageError(
            f"the official format does not support the network of {path}: {text}",
            hint=FORMAT_HINT,
        )
    values, stored = asdict(config), asdict(to_official_config(config))
    lost = [f"{key} {values[key]!r}" for key in values if values[key] != stored[key]]
    if lost:
        warn(
            "the official format does not store the full configuration; the released code uses"
            f" its own values, but this network was trained with {', '.join(lost)}"
        )
