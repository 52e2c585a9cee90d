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
from loris_cli.models.load_model import kind_of
from loris_cli.models.mel_autoencoder import LatentCoder
from loris_cli.models.mini_checkpoint import load_mini, save_mini
from loris_cli.models.mini_unet import DenoiserConfig, MiniDenoiser
from loris_cli.models.paper_checkpoint import foreign, load_paper, save_paper, save_released
from loris_cli.models.paper_config import PaperConfig, official
from loris_cli.system.atomic_files import check_outputs, printable
from loris_cli.system.file_fingerprints import sha256_of
from loris_cli.system.input_paths import check_suffix
from loris_cli.system.state_dict_files import SUFFIXES, is_torch_file
from loris_cli.training.checkpoints import RunFolder, read_weights, telling_of_disk
from loris_cli.training.latent_cache import read_codes
from loris_cli.training.mini_stages import read_coder

Form = Literal["loris", "official"]
Take = Literal["best", "last"]
CPU = torch.device("cpu")


def export(
    source: Path,
    out: Path,
    *,
    form: Form = "loris",
    take: Take = "best",
    overwrite: bool = False,
    note: Callable[[str], None] = lambda text: None,
) -> None:
    """Write a model into one file.

    Args:
        source: folder of a run, released checkpoint, or safetensors of ours.
        out: appears whole or not at all.
        form: ``loris`` is safetensors with the configuration inside; ``official`` the state
            dict of the authors' code, which the paper's network alone has.
        take: weights of a run: the best on held-out clips, or of the last save. A run that
            was never validated has only the last.
        overwrite: an existing file may be replaced.
        note: hears what is to be known of the result.

    Raises:
        UsageError: the names do not do, or the network is none that the form can hold.
        InputError: there is nothing of a model at the source.
        WeightsError: the checkpoint is none, or damaged.
        OutputError: the file cannot be written.
    """
    check_suffix(out, [".safetensors"] if form == "loris" else sorted(SUFFIXES))
    weights = _weights_of(source, take, note) if source.is_dir() else source
    if not weights.is_file():
        raise InputError(
            f"no run and no checkpoint {printable(source)}", hint="name the folder of a run"
        )
    check_outputs([out], [weights], overwrite=overwrite)
    if (source.is_dir() and _preset(source) == "mini") or kind_of(str(weights)) == "mini":
        if form == "official":
            raise UsageError(
                f"{printable(source)} is of our mini, which the authors' form cannot hold",
                hint="leave out --form",
            )
        networks = _mini(source, weights)
        with telling_of_disk(out):
            save_mini(out, *networks, overwrite=overwrite)
        return
    model = load_paper(weights, device=CPU)
    if form == "official":
        _check_official(model.config, source, note)
        with telling_of_disk(out):
            save_released(out, model, overwrite=overwrite)
        return
    came_from = sha256_of(weights) if is_torch_file(weights) else ""
    with telling_of_disk(out):
        save_paper(out, model, source=came_from, overwrite=overwrite)


def coder_of(folder: RunFolder) -> LatentCoder:
    """The latent that a run has learned.

    Raises:
        UsageError: it has none yet.
    """
    for name in ("best", "last"):
        path = folder.path / "latent" / f"{name}.safetensors"
        if path.exists():
            return read_coder(path)
    raise UsageError(
        f"{printable(folder.path)} has no latent yet", hint="train --stage latent first"
    )


def mini_of(folder: RunFolder, weights: Path) -> tuple[LatentCoder, MiniDenoiser]:
    """Both networks of a run, the coder with the statistics of its codes.

    Args:
        folder: of the run.
        weights: of its denoiser.

    Raises:
        InputError: the weights are of no denoiser, or damaged.
    """
    coder = coder_of(folder)
    read_codes(folder.codes, coder)
    tensors = read_weights(weights)
    try:
        with safe_open(weights, framework="pt") as file:
            told: dict[str, Any] = json.loads((file.metadata() or {})["loris.denoiser"])
        for key, value in told.items():
            told[key] = tuple(value) if isinstance(value, list) else value
        denoiser = MiniDenoiser(DenoiserConfig(**told))
        denoiser.load_state_dict(tensors)
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        raise InputError(
            f"{printable(weights)} holds no denoiser", hint="train --stage conditional first"
        ) from error
    return coder, denoiser


def _mini(source: Path, weights: Path) -> tuple[LatentCoder, MiniDenoiser]:
    if source.is_dir():
        return mini_of(RunFolder(source), weights)
    model = load_mini(str(weights), device=CPU)
    return model.coder, model.denoiser


def _preset(run: Path) -> str:
    try:
        return str(json.loads((run / "run.json").read_text(encoding="utf-8"))["preset"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{printable(run)} is no run", hint="name the --out of a run, or a checkpoint"
        ) from error


def _weights_of(run: Path, take: Take, note: Callable[[str], None]) -> Path:
    """The weights of a run's last stage."""
    _preset(run)
    place = run / "conditional"
    best, last = place / "best.safetensors", place / "last.safetensors"
    if take == "best" and best.exists():
        return best
    if not last.exists():
        raise InputError(
            f"{printable(run)} has no weights of its conditional stage yet",
            hint="train on; the first save comes with the end, SIGTERM or save_every_s",
        )
    if take == "best":
        note(f"{printable(run)} was not validated yet: these are its last weights")
    return last


def _check_official(config: PaperConfig, source: Path, note: Callable[[str], None]) -> None:
    """Refuse what the authors' network lacks; tell of a reading that will be lost."""
    odd = foreign(config)
    if odd:
        named = ", ".join(f"{name} {getattr(config, name)!r}" for name in odd)
        raise UsageError(
            f"{printable(source)} is of a network that the authors' form cannot hold: {named}",
            hint="leave out --form",
        )
    told, taken = asdict(config), asdict(official(config))
    lost = [f"{key} {told[key]!r}" for key in told if told[key] != taken[key]]
    if lost:
        note(
            "the authors' form does not tell the reading, and their code takes its own;"
            f" this network learned with {', '.join(lost)}"
        )
