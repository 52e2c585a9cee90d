"""CMT as a trained baseline: data of a clip, examples, network, loss, generator."""

from typing import Any

import numpy as np
import torch
from torch import nn

from loris_cli.baselines.bar_grid import TICKS_PER_BAR
from loris_cli.baselines.cmt.generator import CmtGenerator, build_initial_tokens
from loris_cli.baselines.cmt.grid_notes import quantize_arrangement
from loris_cli.baselines.cmt.network import FULL_CONFIG, CmtConfig, CmtLoss, CmtNetwork
from loris_cli.baselines.cmt.words import BAR, N_ATTRIBUTES, Column, encode_words
from loris_cli.baselines.learned_method import (
    Example,
    LearnedMethod,
    PreparedClip,
    TrainingClip,
)
from loris_cli.errors import InputError

MIN_BEATS = 8
"""Fewest beats of a clip to train on: two bars."""


def prepare_clip(
    clip: TrainingClip, config: CmtConfig, codec: nn.Module | None = None
) -> PreparedClip:
    """Encode the notes of a clip as words.

    Args:
        clip: clip with notes, and beats of a steady tempo.
        config: configuration; its mode determines the initial tokens.
        codec: not used.

    Returns:
        ``words``, ``(words, 9)``, and ``initial``, ``(7, 3)``.

    Raises:
        InputError: the clip has no notes or no steady tempo.
    """
    if clip.arrangement is None or clip.harmony is None:
        raise InputError(
            "it has no notes, and cmt is trained on notes",
            hint="train on synthetic music: loris dataset synthesize",
        )
    beats_s = clip.harmony.beats_s
    if len(beats_s) < MIN_BEATS:
        raise InputError(
            "it has no steady tempo, and the notes of cmt are on a grid",
            hint="use clips with annotated beats",
        )
    notes, n_ticks = quantize_arrangement(
        clip.arrangement, beats_s, duration_s=clip.features.duration_s
    )
    if not len(notes):
        raise InputError(
            "it has no notes of drums, bass, chords, keys or lead",
            hint="use clips with notes",
        )
    words = encode_words(notes, n_bars=-(-n_ticks // TICKS_PER_BAR), n_ticks=n_ticks)
    tracks = np.unique(notes[:, 1]).tolist()
    initial = build_initial_tokens(clip.features.genre, tracks, compat=config.compat)
    return {"words": words.astype(np.int32), "initial": initial.astype(np.int32)}


def draw_example(
    prepared: PreparedClip, config: CmtConfig, rng: np.random.Generator
) -> Example:
    """Draw the words from a random bar on.

    The released code has no augmentation; its examples are whole songs. Ticks count from the
    bar, as in generation (docs/differences.md, C13).

    Returns:
        ``initial``, ``(7, 3)``; ``words``, ``(context_words, 9)``; ``targets``, the attributes
        of the next words, ``(context_words, 7)``; ``mask``, 1 where there is a target.
    """
    words, n_words = prepared["words"].astype(np.int64), config.context_words
    bars = np.flatnonzero(words[:, Column.BEAT] == BAR)
    n_starts = int(np.searchsorted(bars, len(words) - n_words - 1)) + 1
    start = int(rng.choice(bars[:n_starts]))
    crop = words[start : start + n_words + 1].copy()
    crop[: len(crop) - (crop[-1, Column.TYPE] == 0), Column.TICK] -= words[start, Column.TICK]
    n_targets = len(crop) - 1
    padded = np.zeros((n_words + 1, crop.shape[1]), dtype=np.int64)
    padded[: len(crop)] = crop
    mask = np.zeros(n_words, dtype=np.float32)
    # The released mask includes the word after the end (docs/differences.md, C12).
    mask[: n_targets + (config.compat == "official")] = 1.0
    return {
        "initial": torch.from_numpy(prepared["initial"].astype(np.int64)),
        "words": torch.from_numpy(padded[:-1]),
        "targets": torch.from_numpy(padded[1:, :N_ATTRIBUTES]),
        "mask": torch.from_numpy(mask),
    }


def build_loss(network: nn.Module, codec: nn.Module | None = None) -> CmtLoss:
    """Return the loss of a network."""
    assert isinstance(network, CmtNetwork)
    return CmtLoss(network)


def build_generator(
    network: nn.Module, codec: nn.Module | None, device: torch.device
) -> CmtGenerator:
    """Return the generator of a trained network on a device."""
    assert isinstance(network, CmtNetwork)
    return CmtGenerator(network=network.to(device).eval())


TRAINING_DEFAULTS: dict[str, Any] = {
    "batch_size": 8,
    "learning_rate": 5e-4,
    "beta1": 0.9,
    "beta2": 0.999,
    "weight_decay": 0.0,
    "max_grad_norm": 3.0,
}
"""Adam, gradient norm 3, and 8 songs as in the released code. The learning rate suits
``compact`` (docs/differences.md, C18); that of the released code is 1e-4."""

CMT = LearnedMethod(
    name="cmt",
    citation="CMT (Di et al., 2021)",
    configs={"compact": CmtConfig(), "full": FULL_CONFIG},
    build_network=CmtNetwork,
    build_loss=build_loss,
    prepare_clip=prepare_clip,
    draw_example=draw_example,
    build_generator=build_generator,
    training_defaults=TRAINING_DEFAULTS,
)
