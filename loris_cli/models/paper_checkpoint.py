"""The paper's weights in and out: as the released checkpoints, and as safetensors of ours.

A released file is a state dict of DistributedDataParallel: every name begins with ``module.``,
and the U-Net is in it twice, as it is registered twice in their code.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from loris_cli.errors import WeightsError
from loris_cli.models.checkpoint_schema import CHECKPOINT_SCHEMA, check_checkpoint_schema
from loris_cli.models.paper_config import PaperConfig, to_official_config
from loris_cli.models.paper_unet import PaperModel
from loris_cli.system.atomic_files import atomic_write
from loris_cli.system.state_dict_files import (
    MAX_LISTED_KEYS,
    check_state_dict,
    looks_like_torch_file,
    read_state_dict,
)

DDP_PREFIX = "module."
UNET_PREFIX, UNET_COPY_PREFIX = "cond_diffusion.unet.", "cond_diffusion.diffusion.net."
PAPER_PRESET = "paper"
FORMAT_HINT = "give a released .pt file, or .safetensors"


def load_paper_model(path: Path, *, device: torch.device) -> PaperModel:
    """Load the paper's model, in either form.

    What a released file does not say, its reading, is the released one; sizes, lengths and
    genre are told by its shapes.

    Args:
        path: a ``.safetensors`` file of ours, or a released ``.pt``.
        device: where to put it.

    Raises:
        WeightsError: it is none of these, or damaged; or a pickled module, which could run
            code.
    """
    if looks_like_torch_file(path):
        state = _normalize_keys(read_state_dict(path, hint=FORMAT_HINT), path)
        config = _config_from_shapes(state, path)
    else:
        config, state = _read_safetensors(path)
    with torch.device("meta"):
        model = PaperModel(config)
    check_state_dict(state, model.state_dict(), path)
    # Copies lie where torch wants them. In a mapped file they lie anywhere, and sums of the
    # same numbers then round in another way, so that one seed would not give one sound.
    for key, value in state.items():
        state[key] = value.clone()
    model.load_state_dict(state, assign=True)
    return model.to(device).eval().requires_grad_(False)


def read_paper_config(path: Path) -> PaperConfig:
    """The configuration of a file, without its weights where it is one of ours.

    Args:
        path: a ``.safetensors`` file of ours, or a released ``.pt``.

    Raises:
        WeightsError: it is none of these, or damaged.
    """
    if looks_like_torch_file(path):
        return _config_from_shapes(
            _normalize_keys(read_state_dict(path, hint=FORMAT_HINT), path), path
        )
    try:
        with safe_open(path, framework="pt") as file:
            return _config_from_metadata(file.metadata() or {}, path)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path.name} is not a safetensors file of ours: {error}") from error


def save_paper_model(
    path: Path, model: PaperModel, *, source_sha256: str = "", overwrite: bool = True
) -> None:
    """Write a model as safetensors with its configuration inside.

    Args:
        path: where.
        model: what.
        source_sha256: SHA-256 of the released file it is a conversion of.
        overwrite: an existing file may be replaced.
    """
    state = {key: value.contiguous() for key, value in model.state_dict().items()}
    told = checkpoint_metadata(model.config) | (
        {"loris.source": source_sha256} if source_sha256 else {}
    )
    with atomic_write(path, overwrite=overwrite) as part:
        save_file(state, part, told)


def checkpoint_metadata(config: PaperConfig) -> dict[str, str]:
    """What a safetensors file of ours says of the network in it."""
    return {
        "loris.schema": CHECKPOINT_SCHEMA,
        "loris.kind": PAPER_PRESET,
        "loris.paper": json.dumps(asdict(config)),
    }


def list_unsupported_fields(config: PaperConfig) -> list[str]:
    """What a network has, or lacks, that the released form cannot hold: names of its fields."""
    plain = PaperConfig()
    names = (
        "visual_projection", "motion_encoder", "rhythm_conditioning", "shared_rhythm_encoder",
        "aligned_rhythm", "positional_encoding",
    )  # fmt: skip
    odd = [name for name in names if getattr(config, name) != getattr(plain, name)]
    if config.hawkes_phase == "none":
        odd.append("hawkes_phase")
    # Shapes tell heads only all together, so each must be as wide as the paper's.
    return odd + ["head_features"] * (config.head_features != plain.head_features)


def save_released_format(path: Path, model: PaperModel, *, overwrite: bool = True) -> None:
    """Write a model in the released form, which does not tell its reading."""
    state: dict[str, Tensor] = {}
    for key, value in model.state_dict().items():
        state[DDP_PREFIX + key] = value
        if key.startswith(UNET_PREFIX):  # the same storage: it takes no room twice
            state[DDP_PREFIX + UNET_COPY_PREFIX + key.removeprefix(UNET_PREFIX)] = value
    with atomic_write(path, overwrite=overwrite) as part:
        torch.save(state, part)


def _read_safetensors(path: Path) -> tuple[PaperConfig, dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            config = _config_from_metadata(file.metadata() or {}, path)
        return config, load_file(path)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path.name} is not a safetensors file of ours: {error}") from error


def _config_from_metadata(metadata: dict[str, str], path: Path) -> PaperConfig:
    """The configuration that a file of ours tells."""
    if metadata.get("loris.kind") != PAPER_PRESET:
        raise WeightsError(
            f"{path.name} is not the paper's model",
            hint="give a released checkpoint, or a file that `loris` wrote of one",
        )
    check_checkpoint_schema(metadata, path)
    try:
        return _parse_config(metadata["loris.paper"])
    except (KeyError, ValueError, TypeError) as error:
        raise WeightsError(f"{path.name} is not a safetensors file of ours: {error}") from error


def _parse_config(json_text: str) -> PaperConfig:
    values: dict[str, Any] = json.loads(json_text)
    known = {field.name for field in fields(PaperConfig)}
    if not isinstance(values, dict) or set(values) - known:
        raise ValueError("unknown sizes")
    for key, value in values.items():
        values[key] = tuple(value) if isinstance(value, list) else value
    return PaperConfig(**values)


def _normalize_keys(state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Names without ``module.``, and the U-Net once; both of its copies must be the same."""
    plain = {key.removeprefix(DDP_PREFIX): value for key, value in state.items()}
    once = {key: value for key, value in plain.items() if not key.startswith(UNET_COPY_PREFIX)}
    for key, value in plain.items():
        if key.startswith(UNET_COPY_PREFIX):
            first = once.setdefault(UNET_PREFIX + key.removeprefix(UNET_COPY_PREFIX), value)
            if first is not value and not torch.equal(first, value):
                raise WeightsError(
                    f"{path.name} holds two U-Nets that differ, in {key!r} for one",
                    hint="it is not a checkpoint of the released code",
                )
    return once


def _config_from_shapes(state: Mapping[str, Tensor], path: Path) -> PaperConfig:
    """Sizes, lengths and genres that the shapes tell, in the released reading."""
    try:
        return to_official_config(_infer_sizes(state))
    except (KeyError, IndexError, ZeroDivisionError) as error:
        odd = ", ".join(repr(key) for key in list(state)[:MAX_LISTED_KEYS]) or "nothing"
        lacks = f"lacks {error.args[0]!r}" if isinstance(error, KeyError) else "has odd shapes"
        raise WeightsError(
            f"{path.name} is not of LORIS: it {lacks} and has {odd}",
            hint="give one of the released checkpoints, not a backbone or another model",
        ) from error


def _infer_sizes(state: Mapping[str, Tensor]) -> PaperConfig:
    """Of heads the shapes tell only all together: each is as wide as the paper's."""

    def shape(key: str) -> torch.Size:
        return state[UNET_PREFIX + key].shape

    channels = 2 * shape("to_time.0.0.weights")[0]
    patched, in_channels, _ = shape("to_in.module_list.0.block.block1.project.weight")
    strided: list[torch.Size] = []
    while f"{UNET_PREFIX}downsamples.{len(strided)}.downsample.weight" in state:
        strided.append(shape(f"downsamples.{len(strided)}.downsample.weight"))
    levels = range(len(strided))
    blocks = {
        key.removeprefix(UNET_PREFIX).rpartition(".block1.groupnorm.weight")[0] for key in state
    }
    return PaperConfig(
        in_channels=in_channels,
        channels=channels,
        patch_factor=channels // patched,
        multipliers=(1, *(outside // channels for outside, _, _ in strided)),
        factors=tuple((kernel - 1) // 2 for _, _, kernel in strided),
        num_blocks=tuple(
            sum(name.startswith(f"downsamples.{i}.blocks.") for name in blocks) for i in levels
        ),
        attentions=tuple(
            f"{UNET_PREFIX}downsamples.{i}.transformer.attention.fn.to_q.weight" in state
            for i in levels
        ),
        heads=shape("bottleneck.attention.fn.to_q.weight")[0] // PaperConfig.head_features,
        context_features=shape("fixed_embedding.embedding.weight")[1],
        visual_features=state["vencoder.lstm.weight_ih_l0"].shape[1],
        n_visual_frames=shape("fixed_embedding.embedding.weight")[0],
        n_pose_frames=shape("fixed_rhythm.embedding.weight")[0],
        n_genres=len(state.get("gencoder.genre_embed.weight", ())),
    )
