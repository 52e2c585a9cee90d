"""Measure how far each condition of ``mini`` moves the latents of a take.

python experiments/condition_influence.py DATA --model mini.safetensors --clips 8

One condition is set to null, with the same noise and guidance 1. The table has the norm of the
difference of the latents by their norm, mean over clips. Another take is the scale.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from loris_cli.dataset.manifest import read_manifest
from loris_cli.dataset.read_clips import read_video_features
from loris_cli.models.condition_routes import ROUTES, ROUTES_OF_CONDITIONING, Conditioning
from loris_cli.models.generator_interface import VideoFeatures
from loris_cli.models.mini_checkpoint import load_mini_checkpoint
from loris_cli.models.mini_unet import EncodedMiniCondition, MiniCondition, MiniDenoiser
from loris_cli.soundtrack.latent_generator import LatentGenerator

ConditionChange = Callable[[MiniCondition], MiniCondition]


def set_null(*fields: str, route: str | None = None) -> ConditionChange:
    """Return a function that sets fields of a condition to zero, and a route to unknown."""

    def change(condition: MiniCondition) -> MiniCondition:
        zeros = {name: torch.zeros_like(getattr(condition, name)) for name in fields}
        known = condition.known_routes.clone()
        if route is not None:
            known[:, ROUTES.index(route)] = 0
        return condition._replace(**zeros, known_routes=known)

    return change


CHANGES: Mapping[str, ConditionChange] = {
    "rhythm tokens": set_null("peaks", "time_since_peak_s", route="rhythm_tokens"),
    "Hawkes offsets": set_null("time_since_peak_s"),
    "motion tokens": set_null("pose"),
    "aligned rhythm and energy": set_null("aligned_rhythm", route="aligned_rhythm"),
    "chords": set_null("aligned_harmony", route="harmony"),
    "note spectrogram": set_null("note_latent", route="notes"),
    "style": set_null("genre"),
}
"""Change of the conditions by the name of what it removes."""
ROUTE_OF_CHANGE = {
    "aligned rhythm and energy": "aligned_rhythm",
    "chords": "harmony",
    "note spectrogram": "notes",
}
"""Changes that have no effect in a conditioning without the route."""
OTHER_TAKE = "another take"


class ChangedDenoiser(nn.Module):
    """Denoiser that receives changed conditions."""

    def __init__(self, denoiser: MiniDenoiser, change: ConditionChange) -> None:
        """Wrap a denoiser."""
        super().__init__()
        self.denoiser, self.change, self.config = denoiser, change, denoiser.config

    def encode_condition(self, condition: MiniCondition) -> EncodedMiniCondition:
        """Encode the changed condition."""
        return self.denoiser.encode_condition(self.change(condition))

    def forward(
        self, x: Tensor, c_noise: Tensor, condition: EncodedMiniCondition, drop: Tensor
    ) -> Tensor:
        """Evaluate the denoiser."""
        output: Tensor = self.denoiser(x, c_noise, condition, drop)
        return output


def measure_influence(
    generator: LatentGenerator, clips: Sequence[VideoFeatures]
) -> dict[str, float]:
    """Return the relative change of the latents for each change of the conditions.

    Args:
        generator: generator with a guidance of 1.
        clips: features of clips.
    """

    def draw(changed: LatentGenerator, features: VideoFeatures, seed: int = 0) -> Tensor:
        return changed.draw_latents(features, seed=seed, progress=lambda done, total: None)

    model, routes = generator.model, ROUTES_OF_CONDITIONING[generator.conditioning]
    changes = {
        name: change
        for name, change in CHANGES.items()
        if ROUTE_OF_CHANGE.get(name, "rhythm_tokens") in routes
    }
    influence: dict[str, list[float]] = {name: [] for name in (*changes, OTHER_TAKE)}
    for features in clips:
        base = draw(generator, features)
        for name, change in changes.items():
            denoiser = cast(MiniDenoiser, ChangedDenoiser(model.denoiser, change))
            changed = replace(generator, model=replace(model, denoiser=denoiser))
            difference = draw(changed, features) - base
            influence[name].append(float(difference.norm() / base.norm()))
        difference = draw(generator, features, seed=1) - base
        influence[OTHER_TAKE].append(float(difference.norm() / base.norm()))
    return {name: float(np.mean(values)) for name, values in influence.items()}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--clips", type=int, default=8)
    args = parser.parse_args()
    cpu = torch.device("cpu")
    model = load_mini_checkpoint(args.model, device=cpu)
    clips = [clip for clip in read_manifest(args.data) if clip.poses]
    held_out = [clip for clip in clips if clip.partition == "test"][: args.clips]
    read = [read_video_features(args.data, clip) for clip in held_out]
    features = [clip for clip in read if clip is not None]
    columns: dict[Conditioning, dict[str, float]] = {}
    for conditioning in model.denoiser.config.conditionings:
        generator = LatentGenerator(
            model=model, device=cpu, guidance=1.0, conditioning=conditioning
        )
        columns[conditioning] = measure_influence(generator, features)
    table = Table("condition set to null", *columns, title=f"{len(features)} clips")
    for name in (*CHANGES, OTHER_TAKE):
        values = [columns[conditioning].get(name) for conditioning in columns]
        table.add_row(name, *("" if value is None else f"{value:.1%}" for value in values))
    Console().print(table)


if __name__ == "__main__":
    main()
