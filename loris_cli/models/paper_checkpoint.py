"""Checkpoints of the paper's model, in the released format or as loris safetensors files.

A released file is a state dict of DistributedDataParallel: every name begins with ``module.``.
It holds the U-Net twice, because the released code registers it twice.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from loris_cli.errors import WeightsError
from loris_cli.models.checkpoint_format import checkpoint_metadata, open_checkpoint, read_config
from loris_cli.models.empty_networks import empty_networks
from loris_cli.models.paper_config import PaperConfig, to_official_config
from loris_cli.models.paper_unet import PaperModel
from loris_cli.system import state_dict_files
from loris_cli.system.atomic_files import atomic_write

DDP_PREFIX = "module."
UNET_PREFIX, UNET_COPY_PREFIX = "cond_diffusion.unet.", "cond_diffusion.diffusion.net."
FORMAT_HINT = "pass a released .pt checkpoint or a .safetensors file"


def load_paper_model(path: Path, *, device: torch.device) -> PaperModel:
    """Load the paper's model from a checkpoint of either format.

    Sizes, lengths and genres of a released file are inferred from tensor shapes; all other
    settings are those of the released code.

    Args:
        path: loris ``.safetensors`` file or released ``.pt`` file.
        device: device of the model.

    Raises:
        WeightsError: the file is damaged or has another format. Pickled modules are refused
            because loading one can execute code.
    """
    if state_dict_files.has_torch_format(path):
        config, state = _read_released_format(path)
        with _released_format_errors(state, path):
            model = _build_without_memory(config)
    else:
        with open_checkpoint(path, "paper") as (file, metadata):
            model = _build_without_memory(read_config(PaperConfig, metadata["loris.paper"]))
            state = {key: file.get_tensor(key) for key in file.keys()}
    state_dict_files.check_state_dict(state, model.state_dict(), path)
    # Tensors of a memory-mapped file have arbitrary alignment, which changes the rounding of
    # sums. Copies are aligned, so the same seed produces the same audio.
    for key, value in model.state_dict().items():
        state[key] = state[key].to(value.dtype, copy=True).contiguous()
    model.load_state_dict(state, assign=True)
    return model.to(device).eval().requires_grad_(False)


def read_paper_config(path: Path) -> PaperConfig:
    """Read the configuration of a checkpoint, without loading the weights of safetensors files.

    Args:
        path: loris ``.safetensors`` file or released ``.pt`` file.

    Raises:
        WeightsError: the file is damaged or has another format.
    """
    if state_dict_files.has_torch_format(path):
        return _read_released_format(path)[0]
    with open_checkpoint(path, "paper") as (_, metadata):
        return read_config(PaperConfig, metadata["loris.paper"])


def save_paper_model(
    path: Path, model: PaperModel, *, source_sha256: str = "", overwrite: bool = True
) -> None:
    """Write a model as safetensors, with its configuration in the metadata.

    Args:
        path: output file.
        model: model to save.
        source_sha256: SHA-256 of the released file from which the model was converted.
        overwrite: replace an existing file.
    """
    state = {key: value.contiguous() for key, value in model.state_dict().items()}
    metadata = checkpoint_metadata("paper", paper=model.config)
    if source_sha256:
        metadata["loris.source"] = source_sha256
    with atomic_write(path, overwrite=overwrite) as temporary:
        save_file(state, temporary, metadata)


def list_unsupported_fields(config: PaperConfig) -> list[str]:
    """Return the names of the fields whose values the released format cannot represent."""
    default = PaperConfig()
    names = (
        "visual_projection", "motion_encoder", "rhythm_conditioning", "shared_rhythm_encoder",
        "aligned_rhythm", "positional_encoding",
        "head_features",  # shapes determine only heads * head_features
    )  # fmt: skip
    unsupported = [name for name in names if getattr(config, name) != getattr(default, name)]
    if config.hawkes_phase == "none":
        unsupported.append("hawkes_phase")
    return unsupported


def save_released_format(path: Path, model: PaperModel, *, overwrite: bool = True) -> None:
    """Write a model in the released format, which does not include its configuration."""
    state: dict[str, Tensor] = {}
    for key, value in model.state_dict().items():
        state[DDP_PREFIX + key] = value
        if key.startswith(UNET_PREFIX):  # shares storage, so it is written only once
            state[DDP_PREFIX + UNET_COPY_PREFIX + key.removeprefix(UNET_PREFIX)] = value
    with atomic_write(path, overwrite=overwrite) as temporary:
        torch.save(state, temporary)


def _build_without_memory(config: PaperConfig) -> PaperModel:
    with empty_networks():
        return PaperModel(config)


def _read_released_format(path: Path) -> tuple[PaperConfig, dict[str, Tensor]]:
    state = _normalize_keys(state_dict_files.read_state_dict(path, hint=FORMAT_HINT), path)
    return _config_from_shapes(state, path), state


def _normalize_keys(state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Remove the ``module.`` prefix and the second U-Net, which must equal the first."""
    plain = {key.removeprefix(DDP_PREFIX): value for key, value in state.items()}
    unique = {k: value for k, value in plain.items() if not k.startswith(UNET_COPY_PREFIX)}
    for key, value in plain.items():
        if key.startswith(UNET_COPY_PREFIX):
            first = unique.setdefault(UNET_PREFIX + key.removeprefix(UNET_COPY_PREFIX), value)
            is_equal = first.dtype == value.dtype and torch.equal(first, value)
            if first is not value and not is_equal:
                raise WeightsError(
                    f"{path.name} contains two different U-Nets: {key!r} and its copy differ",
                    hint="the file is not a checkpoint of the released code",
                )
    return unique


def _config_from_shapes(state: Mapping[str, Tensor], path: Path) -> PaperConfig:
    """Infer sizes, lengths and genres from shapes; other settings follow the released code."""
    with _released_format_errors(state, path):
        return to_official_config(_infer_sizes(state))


@contextmanager
def _released_format_errors(state: Mapping[str, Tensor], path: Path) -> Iterator[None]:
    """Raise `WeightsError` if the tensors of a file do not define a network."""
    try:
        yield
    except state_dict_files.MALFORMED_FILE_ERRORS as error:
        present = (
            ", ".join(repr(key) for key in list(state)[: state_dict_files.MAX_LISTED_KEYS])
            or "none"
        )
        lacks = f"no key {error.args[0]!r}" if isinstance(error, KeyError) else "invalid shapes"
        raise WeightsError(
            f"{path.name} is not a LORIS checkpoint: {lacks}; keys: {present}",
            hint="pass a released LORIS checkpoint, not a backbone or another model",
        ) from error


def _infer_sizes(state: Mapping[str, Tensor]) -> PaperConfig:
    """Infer sizes from shapes; attention heads are assumed to have the paper's width."""

    def shape(key: str) -> torch.Size:
        return state[UNET_PREFIX + key].shape

    channels = 2 * shape("to_time.0.0.weights")[0]
    patched, in_channels, _ = shape("to_in.module_list.0.block.block1.project.weight")
    names = [key.removeprefix(UNET_PREFIX) for key in state]
    n_levels = sum(name.endswith(".downsample.weight") for name in names)
    levels = [f"downsamples.{i}." for i in range(n_levels)]
    strided = [shape(f"{level}downsample.weight") for level in levels]
    blocks = [name for name in names if name.endswith(".block1.groupnorm.weight")]
    n_blocks = [sum(name.startswith(f"{level}blocks.") for name in blocks) for level in levels]
    attention = "transformer.attention.fn.to_q.weight"
    n_visual_frames, context_features = shape("fixed_embedding.embedding.weight")
    return PaperConfig(
        in_channels=in_channels,
        channels=channels,
        patch_factor=channels // patched,
        multipliers=(1, *(outside // channels for outside, _, _ in strided)),
        factors=tuple((kernel - 1) // 2 for _, _, kernel in strided),
        num_blocks=tuple(n_blocks),
        attentions=tuple(level + attention in names for level in levels),
        heads=shape("bottleneck.attention.fn.to_q.weight")[0] // PaperConfig.head_features,
        context_features=context_features,
        visual_features=state["vencoder.lstm.weight_ih_l0"].shape[1],
        n_visual_frames=n_visual_frames,
        n_pose_frames=shape("fixed_rhythm.embedding.weight")[0],
        n_genres=len(state.get("gencoder.genre_embed.weight", ())),
    )
