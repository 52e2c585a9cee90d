"""Trained baselines of the paper as systems of an evaluation."""

from functools import lru_cache, partial
from pathlib import Path
from typing import get_args

import torch

from loris_cli import __version__
from loris_cli.baselines.clip_codes import reconstruct_clip
from loris_cli.baselines.learned_checkpoint import (
    LearnedModel,
    list_trained_methods,
    load_learned_model,
)
from loris_cli.baselines.learned_method import MethodName
from loris_cli.config import BaselineName
from loris_cli.evaluation.runner.systems import (
    METHOD_DESCRIPTIONS,
    METHOD_SCHEMA,
    ReferenceCodec,
    System,
)
from loris_cli.models.generator_interface import MusicGenerator
from loris_cli.models.vqvae import VqVae
from loris_cli.soundtrack.generators import build_learned_generator
from loris_cli.system.progress import Reporter

ALL_METHODS = "all"
"""Value of ``--method``: all methods, without baselines that are not trained."""
BASELINE_NAMES: tuple[BaselineName, ...] = get_args(BaselineName)
"""Baselines of the paper, in the order of its tables."""


@lru_cache(maxsize=4)
def _load(name: MethodName, path: Path | None, device: torch.device) -> LearnedModel:
    return load_learned_model(name, path, device=device)


def build_learned_system(
    name: MethodName, path: Path | None = None, *, device: torch.device
) -> System:
    """Build the system of a trained baseline. It is loaded once here to report errors early.

    Args:
        name: name of the method.
        path: weights file; None for the included weights.
        device: device of the network.

    Raises:
        WeightsError: the method is not trained, or its file is damaged.
        UsageError: the file is that of the codec, which generates no music.
    """
    model = _load(name, path, device)
    generator = build_learned_generator(model, device)
    compat = getattr(model.network.config, "compat", "paper")
    n_parameters = sum(parameter.numel() for parameter in model.network.parameters())

    def get_generator(groups: frozenset[str]) -> MusicGenerator:
        return build_learned_generator(_load(name, path, device), device)

    def load_codec() -> ReferenceCodec:
        codec = _load(name, path, device).codec
        assert isinstance(codec, VqVae)
        return ReferenceCodec(
            name="vqvae",
            sha256_prefix=model.sha256_prefix,
            reconstruct=partial(reconstruct_clip, codec),
        )

    return System(
        category="method",
        description=f"{model.method.citation}, {n_parameters / 1e6:.1f} M parameters, compat"
        f" {compat}, weights {model.sha256_prefix}",
        generation_settings={
            "method": name,
            "schema": METHOD_SCHEMA,
            "weights": model.sha256_prefix,
            "device": device.type,
            "version": __version__,
        },
        get_generator=get_generator,
        rebuild=partial(build_learned_system, name, path, device=device),
        runs_in_parallel=device.type == "cpu",
        codec_name="vqvae" if model.codec is not None else None,
        load_codec=load_codec if model.codec is not None else None,
        uses_visual_features=generator.traits.visual_width is not None,
    )


def expand_methods(names: list[str], reporter: Reporter) -> list[str]:
    """Replace ``all`` by all methods; warn about baselines that are not trained.

    Args:
        names: values of ``--method``.
        reporter: receives the warnings.
    """
    if ALL_METHODS not in names:
        return list(dict.fromkeys(names))
    trained = list_trained_methods()
    for name in BASELINE_NAMES:
        if name not in trained and name not in names:
            reporter.warn(
                f"{name} is not trained and is left out: loris train --method {name} --out"
                f" runs/{name}, then --model runs/{name}/{name}.safetensors"
            )
    explicit = [name for name in names if name != ALL_METHODS]
    return list(dict.fromkeys([*explicit, *METHOD_DESCRIPTIONS, *trained]))
