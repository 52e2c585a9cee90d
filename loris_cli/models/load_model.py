"""Loading of models of either preset, with cached conversion of released checkpoints.

    file -> first bytes -> preset -> mini model or the paper's model
    released checkpoint -> SHA-256 -> safetensors in the cache -> the paper's model

The hashes of the released files are not known in advance. The hash of a file is recorded when
it is first loaded, and a file that has changed since then causes a warning.
"""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from loris_cli.errors import OutputError, WeightsError
from loris_cli.models.checkpoint_format import ModelPreset
from loris_cli.models.mini_checkpoint import MiniCheckpoint, load_mini_checkpoint
from loris_cli.models.paper_checkpoint import load_paper_model, save_paper_model
from loris_cli.models.paper_unet import PaperModel
from loris_cli.system import file_fingerprints
from loris_cli.system.state_dict_files import has_torch_format, is_torch_file


@dataclass(frozen=True, kw_only=True, eq=False)
class PaperCheckpoint:
    """The paper's model, with the name and hash of its file."""

    network: PaperModel
    name: str
    sha256_prefix: str = ""
    """First 12 hex digits of the SHA-256 of the user's file; empty in training."""
    warnings: tuple[str, ...] = ()


LoadedModel = MiniCheckpoint | PaperCheckpoint


def load_model(name_or_path: str, *, device: torch.device) -> LoadedModel:
    """Load a model of either preset.

    Args:
        name_or_path: name of a bundled model, or path of a checkpoint.
        device: device of the model.

    Raises:
        WeightsError: the model does not exist, or the file is damaged or untrained.
    """
    if detect_preset(name_or_path) == "paper":
        return load_paper_checkpoint(Path(name_or_path), device=device)
    return load_mini_checkpoint(name_or_path, device=device)


def detect_preset(name_or_path: str) -> ModelPreset:
    """Return the preset of a checkpoint file; names that are not files are ``mini``.

    Raises:
        WeightsError: the file cannot be read.
    """
    path = Path(name_or_path)
    if not path.is_file():
        return "mini"
    try:
        if has_torch_format(path):
            return "paper"
        with safe_open(path, framework="pt") as weights:
            kind = (weights.metadata() or {}).get("loris.kind")
    except OSError as error:
        raise WeightsError(f"{path}: {error.strerror}", hint="pass another file") from error
    except (SafetensorError, RuntimeError):
        return "mini"  # its loader reports what is wrong with the file
    return "paper" if kind == "paper" else "mini"


def load_paper_checkpoint(path: Path, *, device: torch.device) -> PaperCheckpoint:
    """Load the paper's model and check that it is trained.

    Args:
        path: released checkpoint or loris safetensors file.
        device: device of the model.

    Raises:
        WeightsError: the file has another format, is damaged, or has untrained weights.
    """
    if is_torch_file(path):
        return _load_released(path, device)
    network = load_paper_model(path, device=device)
    _check_trained(network, path)
    sha256 = file_fingerprints.compute_sha256(path)
    return PaperCheckpoint(network=network, name=path.name, sha256_prefix=sha256[:12])


def _load_released(path: Path, device: torch.device) -> PaperCheckpoint:
    """Load a released checkpoint or its cached conversion; write the conversion if absent."""
    fingerprint = file_fingerprints.fingerprint_file(path)
    record_path = file_fingerprints.fingerprint_record_path(path)
    converted = record_path.with_name(f"{fingerprint.sha256}.safetensors")
    network = None
    if converted.is_file():
        try:
            network = load_paper_model(converted, device=device)
        except WeightsError:
            converted.unlink(missing_ok=True)
    network = network or load_paper_model(path, device=device)
    _check_trained(network, path)
    if not converted.is_file():
        with suppress(OSError, OutputError):  # a cache: a full disk is not an error
            converted.parent.mkdir(parents=True, exist_ok=True)
            save_paper_model(converted, network, source_sha256=fingerprint.sha256)
    if not fingerprint.is_recorded:
        file_fingerprints.record_fingerprint(fingerprint)
    return PaperCheckpoint(
        network=network,
        name=path.name,
        sha256_prefix=fingerprint.sha256[:12],
        warnings=fingerprint.warnings,
    )


def _check_trained(network: PaperModel, path: Path) -> None:
    """Raise if the network is untrained: all gains of a new network are exactly one."""
    gains = [value for name, value in network.named_parameters() if name.endswith(".g")]
    if all(bool((gain == 1).all()) for gain in gains):
        raise WeightsError(
            f"{path} has untrained weights", hint="train it, or pass a released checkpoint"
        )
