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
from loris_cli.models.paper_checkpoint import load_paper, save_paper
from loris_cli.models.paper_unet import PaperModel
from loris_cli.system.atomic_files import printable
from loris_cli.system.file_fingerprints import Identity, identify, note, note_of, sha256_of
from loris_cli.system.state_dict_files import claims_torch, is_torch_file

Kind = Literal["mini", "paper"]


@dataclass(frozen=True, kw_only=True, eq=False)
class NamedPaper:
    """The paper's network, and who it is."""

    network: PaperModel
    name: str
    fingerprint: str
    """First 12 hex digits of the SHA-256 of the file that was given."""
    warnings: tuple[str, ...] = ()


def kind_of(model: str) -> Kind:
    """Whose weights a name stands for; what is no file is a name of `checkpoint`'s.

    Raises:
        WeightsError: the file cannot be read.
    """
    path = Path(model)
    if not path.is_file():
        return "mini"
    try:
        if claims_torch(path):
            return "paper"
        with safe_open(path, framework="pt") as weights:
            kind = (weights.metadata() or {}).get("loris.kind")
    except OSError as error:
        raise WeightsError(
            f"{printable(path)} cannot be read: {error.strerror}", hint="give another file"
        ) from error
    except SafetensorError:
        return "mini"  # whose loader tells what is wrong with it
    return "paper" if kind == "paper" else "mini"


def load_named_paper(path: Path, *, device: torch.device) -> NamedPaper:
    """Load the paper's network for use: it must have learned something.

    Args:
        path: a released checkpoint or a file of ours.
        device: where to put it.

    Raises:
        WeightsError: it is none, damaged, or as random as a new network.
    """
    if not is_torch_file(path):
        network = load_paper(path, device=device)
        _check_learned(network, path)
        return NamedPaper(network=network, name=path.name, fingerprint=sha256_of(path)[:12])
    seen = identify(path)
    converted = note_of(path).with_name(f"{seen.sha256}.safetensors")
    kept = _load_kept(converted, device)
    network = kept or load_paper(path, device=device)
    _check_learned(network, path)
    if kept is None or not seen.noted:
        _keep(converted, network, seen)
    return NamedPaper(
        network=network,
        name=path.name,
        fingerprint=seen.sha256[:12],
        warnings=seen.warnings,
    )


def _load_kept(converted: Path, device: torch.device) -> PaperModel | None:
    """What was converted before, or None; a damaged cache is made anew."""
    try:
        return load_paper(converted, device=device) if converted.is_file() else None
    except WeightsError:
        converted.unlink(missing_ok=True)
        return None


def _keep(converted: Path, network: PaperModel, seen: Identity) -> None:
    """Convert into the cache. It only saves time: where there is no room all goes on."""
    try:
        converted.parent.mkdir(parents=True, exist_ok=True)
        if not converted.is_file():
            save_paper(converted, network, source=seen.sha256)
    except (OSError, OutputError):
        return
    note(seen)


def _check_learned(network: PaperModel, path: Path) -> None:
    """Refuse a network nobody has trained: a new one's gains are all exactly one."""
    gains = [value for name, value in network.named_parameters() if name.endswith(".g")]
    if all(bool((gain == 1).all()) for gain in gains):
        raise WeightsError(
            f"{printable(path)} has learned nothing: its weights are as random as a new"
            " network's",
            hint="train it, or give a released checkpoint",
        )
