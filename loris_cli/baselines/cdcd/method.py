"""CDCD as a `LearnedMethod`."""

from typing import Any, cast

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


def _check_codec(config: CdcdConfig, codec: Any) -> nn.Module:
    """Return the codec if its codes are those of the network."""
    if codec is None:
        raise WeightsError(
            "CDCD needs the weights of the VQ-VAE", hint="train the method vqvae first"
        )
    expected = TOKEN_HOP_SAMPLES, config.n_codes
    if (codec.config.hop, codec.config.n_codes) != expected:
        raise WeightsError(
            f"the VQ-VAE has {codec.config.n_codes} codes and {codec.config.hop} samples per"
            f" code, CDCD needs {config.n_codes} and {TOKEN_HOP_SAMPLES}",
            hint="use the VQ-VAE that CDCD was trained with",
        )
    return cast(nn.Module, codec)


def _build_loss(network: nn.Module, codec: nn.Module | None) -> nn.Module:
    """Return the loss of a network."""
    assert isinstance(network, CdcdNetwork)
    return CdcdLoss(network)


def _prepare_clip(clip: TrainingClip, config: Any, codec: nn.Module | None) -> PreparedClip:
    """Return the codes and the condition of a clip."""
    return prepare_clip(clip, config, _check_codec(config, codec))


def _build_generator(
    network: nn.Module, codec: nn.Module | None, device: torch.device
) -> MusicGenerator:
    """Return the generator of a trained network."""
    assert isinstance(network, CdcdNetwork)
    codec = _check_codec(network.config, codec)
    return CdcdGenerator(
        network=network.to(device).eval(),
        codec=codec.to(device).eval(),
        device=device,
        n_steps=network.config.n_sampling_steps,
    )


CDCD = LearnedMethod(
    name="cdcd",
    citation="CDCD (Zhu et al., 2022)",
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
