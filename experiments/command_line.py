"""Command-line arguments shared by the experiments."""

import argparse
from functools import cache
from typing import Any

import torch

from loris_cli.models.mini_checkpoint import MiniCheckpoint, load_mini_checkpoint
from loris_cli.soundtrack.latent_generator import DEFAULT_GUIDANCE, LatentGenerator


def create_parser(description: str | None, *, n_clips: int) -> argparse.ArgumentParser:
    """Create a parser with the options ``--model`` and ``--clips``.

    Args:
        description: docstring of the script.
        n_clips: default number of clips.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--clips", type=int, default=n_clips)
    return parser


def add_sampling_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options ``--partition``, ``--steps`` and ``--guidance``."""
    parser.add_argument("--partition", default="test", help="Partition (use val for tuning).")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--guidance", type=float, default=DEFAULT_GUIDANCE)


@cache
def load_model(model_name: str) -> MiniCheckpoint:
    """Load a ``mini`` model on the CPU, once in each process."""
    return load_mini_checkpoint(model_name, device=torch.device("cpu"))


def load_generator(model_name: str, **options: Any) -> LatentGenerator:
    """Load a ``mini`` model on the CPU, with sampling options of `LatentGenerator`."""
    model, device = load_model(model_name), torch.device("cpu")
    return LatentGenerator(model=model, device=device, **options)
