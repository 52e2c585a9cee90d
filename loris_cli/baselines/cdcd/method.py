"""CDCD as a `LearnedMethod`."""

from typing import Any

import torch
from torch import nn

from loris_cli.baselines.cdcd.config import CONFIGS, TOKEN_HOP_SAMPLES, CdcdConfig
from loris_cli.baselines.cdcd.examples import draw_example, prepare_clip
from loris_cli.baselines.cdcd.generator import CdcdGenerator
from loris_cli.baselines.cdcd.loss import CdcdLoss
from loris_cli.baselines.cdcd.network import CdcdNetwork
from loris_cli.baselines.learned_method import LearnedMethod, PreparedClip, TrainingClip
from loris_cli.errors import WeightsError
from loris_cli.models.generator_interface import MusicGenerator
from loris_cli.models.vqvae import VqVae


def _require_codec(config: CdcdConfig, codec: nn.Module | None) -> VqVae:
    """Return the codec, if its codes are those of a network.

    Raises:
        WeightsError: they are not.
    """
    assert isinstance(codec, VqVae)
    found = codec.config.hop, codec.config.n_codes
    expected = TOKEN_HOP_SAMPLES, config.n_codes
    if found != expected:
        raise WeightsError(
            f"the VQ-VAE has hop and number of codes {found}, CDCD expects {expected}",
            hint="use the VQ-VAE with which CDCD was trained",
        )
    return codec


def _build_loss(network: nn.Module, codec: nn.Module | None) -> nn.Module:
    """Return the loss of a network."""
    assert isinstance(network, CdcdNetwork)
    if network.config.compat == "paper":
        vqvae = _require_codec(network.config, codec)
        network.initialize_embeddings(vqvae.quantizer.codebook)
    return CdcdLoss(network)


def _prepare_clip(clip: TrainingClip, config: Any, codec: nn.Module | None) -> PreparedClip:
    """Return the codes and the condition of a clip."""
    return prepare_clip(clip, config, _require_codec(config, codec))


def _build_generator(
    network: nn.Module, codec: nn.Module | None, device: torch.device
) -> MusicGenerator:
    """Return the generator of a trained network."""
    assert isinstance(network, CdcdNetwork)
    vqvae = _require_codec(network.config, codec).to(device).eval()
    return CdcdGenerator(
        network=network.to(device).eval(),
        codec=vqvae,
        device=device,
        n_steps=network.config.n_sampling_steps,
    )


CDCD = LearnedMethod(
    name="cdcd",
    citation="CDCD (Zhu et al., 2022b)",
    configs=CONFIGS,
    build_network=CdcdNetwork,
    build_loss=_build_loss,
    prepare_clip=_prepare_clip,
    draw_example=draw_example,
    build_generator=_build_generator,
    uses_codec=True,
    # configs/aist.yaml of the release, but for the schedule (docs/differences.md, X9).
    training_defaults={
        "batch_size": 4,
        "learning_rate": 5e-4,
        "warmup_steps": 300,
        "beta1": 0.9,
        "beta2": 0.96,
        "weight_decay": 4.5e-2,
        "max_grad_norm": 0.5,
        "ema_decay": 0.999,
    },
)
