"""Foley Music as a trained baseline: data of a clip, examples, loss, registration.

poses, notes of a clip -> random window, moving camera -> pose, symbols -> cross-entropy
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from loris_cli.array_types import Array
from loris_cli.audio.transcription import transcribe_notes
from loris_cli.baselines.foley.config import (
    COMPACT_CONFIG,
    FULL_CONFIG,
    WINDOW_S,
    FoleyConfig,
)
from loris_cli.baselines.foley.events import (
    END,
    OFFICIAL_MARGIN_S,
    PADDING,
    START,
    crop_notes,
    encode_notes,
    merge_instruments,
)
from loris_cli.baselines.foley.generator import FoleyGenerator
from loris_cli.baselines.foley.network import FoleyNetwork
from loris_cli.baselines.foley.poses import interpolate_pose, move_camera
from loris_cli.baselines.learned_method import (
    Example,
    LearnedMethod,
    PreparedClip,
    TrainingClip,
)
from loris_cli.composition.arrangement import DRUM_CHANNEL
from loris_cli.errors import InputError
from loris_cli.models.generator_interface import MusicGenerator
from loris_cli.pose.normalization import normalize_keypoints

TRAINING_DEFAULTS: Mapping[str, Any] = {
    "batch_size": 16, "epochs": 100.0, "learning_rate": 7e-4, "warmup_steps": 400,
    "beta1": 0.9, "beta2": 0.98, "weight_decay": 0.0, "max_grad_norm": 1.0,
}  # fmt: skip
"""Released: Adam with these betas, batches of 16, 100 epochs. The rate is the peak of the Noam
schedule, whose decay the schedule of the trainer replaces (docs/differences.md, F14)."""


class FoleyLoss(nn.Module):
    """Cross-entropy of the next symbol; padding is ignored."""

    def __init__(self, network: FoleyNetwork) -> None:
        """Store the network."""
        super().__init__()
        self.network = network

    def forward(self, batch: Example) -> Tensor:
        """Return the mean loss of a batch of examples (`draw_example`)."""
        symbols = batch["symbols"]
        n_symbols = int((symbols != PADDING).sum(dim=1).max())
        inputs, targets = symbols[:, : n_symbols - 1], symbols[:, 1:n_symbols]
        logits = self.network(batch["pose"], inputs)
        return functional.cross_entropy(
            logits.flatten(0, 1), targets.flatten(), ignore_index=PADDING
        )


def prepare_clip(
    clip: TrainingClip, config: FoleyConfig, codec: nn.Module | None
) -> PreparedClip:
    """Return the normalized poses and the notes of a clip.

    Args:
        clip: video and music; without notes the audio is transcribed.
        config: unused; the arrays are the same for all configurations.
        codec: unused.

    Returns:
        ``pose``, ``(frames, 17, 3)`` at 16 Hz; ``notes``, ``(notes, 4)``: onset, duration,
        pitch, velocity; ``duration_s``, ``()``.

    Raises:
        InputError: no person or no note was found.
    """
    pose = normalize_keypoints(clip.features.keypoints)
    if pose is None:
        raise InputError("it has no poses", hint="extract poses: loris prep")
    notes = _read_notes(clip)
    if not len(notes):
        raise InputError("its music has no pitched notes")
    return {
        "pose": pose.astype(np.float32),
        "notes": notes,
        "duration_s": np.array(clip.features.duration_s),
    }


def draw_example(
    prepared: PreparedClip, config: FoleyConfig, rng: np.random.Generator
) -> Example:
    """Return a random window of a clip with augmented poses.

    Args:
        prepared: arrays of the clip.
        config: network configuration.
        rng: random generator.

    Returns:
        ``pose``, ``(132, 17, 3)`` float32 at 22 Hz; ``symbols``, ``(max_events + 1,)`` int64:
        from `START` to `END`, then `PADDING`.
    """
    start_s = rng.uniform(0, max(float(prepared["duration_s"]) - WINDOW_S, 0.0))
    pose = move_camera(interpolate_pose(prepared["pose"], start_s), rng)
    symbols = encode_window(prepared["notes"], start_s, config)
    return {"pose": torch.from_numpy(pose), "symbols": torch.tensor(symbols)}


def encode_window(notes: Array, start_s: float, config: FoleyConfig) -> list[int]:
    """Return the symbols of a window, ``max_events + 1`` with padding.

    If there are more events, the last ones are omitted. Released: `END` replaces the last
    symbol, although the music continues (docs/differences.md, F11).
    """
    is_official = config.compat == "official"
    duration_s = WINDOW_S + (OFFICIAL_MARGIN_S if is_official else 0.0)
    window = crop_notes(notes, start_s, duration_s, compat=config.compat)
    events = encode_notes(window, duration_s=duration_s, compat=config.compat)
    symbols = [START, *events, END]
    n_symbols = config.max_events + 1
    if is_official and len(symbols) > n_symbols:
        symbols[n_symbols - 1] = END
    return symbols[:n_symbols] + [PADDING] * (n_symbols - len(symbols))


def build_generator(
    network: nn.Module, codec: nn.Module | None, device: torch.device
) -> MusicGenerator:
    """Return the generator of a trained network, which is moved to the device."""
    assert isinstance(network, FoleyNetwork)
    return FoleyGenerator(network=network.to(device).eval(), device=device)


def _build_loss(network: nn.Module, codec: nn.Module | None) -> FoleyLoss:
    assert isinstance(network, FoleyNetwork)
    return FoleyLoss(network)


def _read_notes(clip: TrainingClip) -> Array:
    """Return the notes of the arrangement, or of the audio if there is none."""
    if clip.arrangement is not None:
        return merge_instruments(clip.arrangement.note_array, drum_channel=DRUM_CHANNEL)
    return transcribe_notes(clip.read_samples())


FOLEY = LearnedMethod(
    name="foley",
    citation="Foley Music (Gan et al., 2020)",
    configs={"compact": COMPACT_CONFIG, "full": FULL_CONFIG},
    build_network=FoleyNetwork,
    build_loss=_build_loss,
    prepare_clip=prepare_clip,
    draw_example=draw_example,
    build_generator=build_generator,
    training_defaults=TRAINING_DEFAULTS,
)
