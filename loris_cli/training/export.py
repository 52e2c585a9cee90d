"""Export of a run or a checkpoint to one file: safetensors, or the released format.

RUN -> averaged weights of its conditional stage, and its autoencoder -> networks -> FILE
released checkpoint, or safetensors of a model -> networks -> FILE
"""

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Literal

import torch

from loris_cli.errors import InputError, UsageError
from loris_cli.models import mini_checkpoint, paper_checkpoint
from loris_cli.models.load_model import detect_preset
from loris_cli.models.paper_config import PaperConfig, to_official_config
from loris_cli.system.atomic_files import check_output_paths
from loris_cli.system.file_fingerprints import compute_sha256
from loris_cli.system.input_paths import check_suffix
from loris_cli.system.state_dict_files import TORCH_SUFFIXES, is_torch_file
from loris_cli.training.checkpoints import RunFolder, WeightsChoice, translate_disk_errors
from loris_cli.training.mini_stages import load_mini_networks

ExportFormat = Literal["loris", "official"]
CPU = torch.device("cpu")
FORMAT_HINT = "leave out --format"


def export_model(
    source: Path,
    output: Path,
    *,
    export_format: ExportFormat = "loris",
    weights_choice: WeightsChoice = "best",
    overwrite: bool = False,
    warn: Callable[[str], None] = lambda text: None,
) -> None:
    """Write a model into one file.

    Args:
        source: folder of a run, released checkpoint, or safetensors of loris.
        output: file to write, atomically.
        export_format: ``loris`` is safetensors with the configuration inside; ``official`` the
            state dict of the released code, which exists for the network of the paper alone.
        weights_choice: weights of a run: the best in validation, or of the last save. A run
            that was never validated has only the last.
        overwrite: an existing file may be replaced.
        warn: called with warnings about the result.

    Raises:
        UsageError: the names are not usable, or the format cannot hold the network.
        InputError: there is no model at the source.
        WeightsError: the checkpoint is of another kind, or damaged.
        OutputError: the file cannot be written.
    """
    is_official = export_format == "official"
    check_suffix(output, sorted(TORCH_SUFFIXES) if is_official else [".safetensors"])
    weights_path, preset = source, None
    if source.is_dir():
        preset = RunFolder(source).read_identity()["preset"]
        weights_path = _find_weights(RunFolder(source), weights_choice, warn)
    if not weights_path.is_file():
        raise InputError(f"no run and no checkpoint {source}", hint="name the folder of a run")
    check_output_paths([output], [weights_path], overwrite=overwrite)
    save: Callable[..., None]
    if (preset or detect_preset(str(weights_path))) == "mini":
        if is_official:
            raise UsageError(
                f"{source} is a mini model, which the released format cannot hold",
                hint=FORMAT_HINT,
            )
        if preset:
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
    """Return the weights of the conditional stage of a run."""
    folder = run.stage_folder("conditional")
    path = folder.find_weights(choice)
    if path is None:
        raise InputError(
            f"{run.path} has no weights of its conditional stage yet",
            hint="train on; the first save comes with the end, SIGTERM or save_every_s",
        )
    if choice == "best" and path != folder.best_weights:
        warn(f"{run.path} was not validated yet: these are its last weights")
    return path


def _check_official(config: PaperConfig, path: Path, warn: Callable[[str], None]) -> None:
    """Refuse a network that the released format cannot hold; warn of lost configuration."""
    unsupported = paper_checkpoint.list_unsupported_fields(config)
    if unsupported:
        text = ", ".join(f"{field} {getattr(config, field)!r}" for field in unsupported)
        raise UsageError(
            f"{path} is a network that the released format cannot hold: {text}",
            hint=FORMAT_HINT,
        )
    values, stored = asdict(config), asdict(to_official_config(config))
    lost = [f"{key} {values[key]!r}" for key in values if values[key] != stored[key]]
    if lost:
        warn(
            "the released format does not store all of the configuration, and the released code"
            f" takes its own values; this network was trained with {', '.join(lost)}"
        )
