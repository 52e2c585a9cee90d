"""Which network a file holds, and released checkpoints, converted once.

    file -> its first bytes -> mini, or the paper's
    released checkpoint -> SHA-256 -> safetensors in the cache -> the paper's network

Nobody here has seen the released files, so no hash of theirs is known beforehand: that of a
file is noted when it is first loaded, and a file that is another one later is told of.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError, safe_open

from loris_cli.errors import OutputError, WeightsError
from loris_cli.models.mini_checkpoint import MiniCheckpoint, load_mini_checkpoint
from loris_cli.models.paper_checkpoint import load_paper_model, save_paper_model
from loris_cli.models.paper_unet import PaperModel
from loris_cli.system.atomic_files import printable_path
from loris_cli.system.file_fingerprints import (
    FileFingerprint,
    compute_sha256,
    fingerprint_file,
    fingerprint_record_path,
    record_fingerprint,
)
from loris_cli.system.state_dict_files import is_torch_file, looks_like_torch_file

ModelPreset = Literal["mini", "paper"]


@dataclass(frozen=True, kw_only=True, eq=False)
class PaperCheckpoint:
    """The paper's network, and who it is."""

    network: PaperModel
    name: str
    sha256_prefix: str
    """First 12 hex digits of the SHA-256 of the file that was given."""
    warnings: tuple[str, ...] = ()


LoadedModel = MiniCheckpoint | PaperCheckpoint


def load_model(name_or_path: str, *, device: torch.device) -> LoadedModel:
    """Load a model of either preset.

    Args:
        name_or_path: a built-in model, or the path of a checkpoint.
        device: where to put it.

    Raises:
        WeightsError: there is no such model, or the file is damaged or untrained.
    """
    if detect_preset(name_or_path) == "paper":
        return load_paper_checkpoint(Path(name_or_path), device=device)
    return load_mini_checkpoint(name_or_path, device=device)


def detect_preset(name_or_path: str) -> ModelPreset:
    """Whose weights a name stands for; what is no file is a name of `checkpoint`'s.

    Raises:
        WeightsError: the file cannot be read.
    """
    path = Path(name_or_path)
    if not path.is_file():
        return "mini"
    try:
        if looks_like_torch_file(path):
            return "paper"
        with safe_open(path, framework="pt") as weights:
            kind = (weights.metadata() or {}).get("loris.kind")
    except OSError as error:
        raise WeightsError(
            f"{printable_path(path)} cannot be read: {error.strerror}", hint="give another file"
        ) from error
    except SafetensorError:
        return "mini"  # whose loader tells what is wrong with it
    return "paper" if kind == "paper" else "mini"


def load_paper_checkpoint(path: Path, *, device: torch.device) -> PaperCheckpoint:
    """Load the paper's network for use: it must have learned something.

    Args:
        path: a released checkpoint or a file of ours.
        device: where to put it.

    Raises:
        WeightsError: it is none, damaged, or as random as a new network.
    """
    if not is_torch_file(path):
        network = load_paper_model(path, device=device)
        _check_trained(network, path)
        return PaperCheckpoint(
            network=network, name=path.name, sha256_prefix=compute_sha256(path)[:12]
        )
    seen = fingerprint_file(path)
    converted = fingerprint_record_path(path).with_name(f"{seen.sha256}.safetensors")
    kept = _load_converted(converted, device)
    network = kept or load_paper_model(path, device=device)
    _check_trained(network, path)
    if kept is None or not seen.is_recorded:
        _cache_converted(converted, network, seen)
    return PaperCheckpoint(
        network=network,
        name=path.name,
        sha256_prefix=seen.sha256[:12],
        warnings=seen.warnings,
    )


def _load_converted(converted: Path, device: torch.device) -> PaperModel | None:
    """What was converted before, or None; a damaged cache is made anew."""
    try:
        return load_paper_model(converted, device=device) if converted.is_file() else None
    except WeightsError:
        converted.unlink(missing_ok=True)
        return None


def _cache_converted(converted: Path, network: PaperModel, identity: FileFingerprint) -> None:
    """Convert into the cache. It only saves time: where there is no room all goes on."""
    try:
        converted.parent.mkdir(parents=True, exist_ok=True)
        if not converted.is_file():
            save_paper_model(converted, network, source_sha256=identity.sha256)
    except (OSError, OutputError):
        return
    record_fingerprint(identity)


def _check_trained(network: PaperModel, path: Path) -> None:
    """Refuse a network nobody has trained: a new one's gains are all exactly one."""
    gains = [value for name, value in network.named_parameters() if name.endswith(".g")]
    if all(bool((gain == 1).all()) for gain in gains):
        raise WeightsError(
            f"{printable_path(path)} has learned nothing: its weights are as random as a new"
            " network's",
            hint="train it, or give a released checkpoint",
        )
