"""Speed of the ``mini`` denoiser with fused kernels: ``python benchmarks/denoiser.py``.

Times one guided evaluation (a batch of the conditional and the null condition) on 24 s of
audio. Attention and layer norm run alternately as audio-diffusion-pytorch implements them and
as fused PyTorch kernels. Prints the shortest time of each, their ratio, and the relative
difference of the outputs.
"""

import argparse
import os
import time

import numpy as np
import torch
from torch import Tensor
from unfused import restore_unfused

from loris_cli.models.fused_attention import fuse_attention_and_norms
from loris_cli.models.generator_interface import ClipFeatures
from loris_cli.models.mini_checkpoint import load_mini_checkpoint
from loris_cli.soundtrack.conditioning import build_condition, collate_conditions


@torch.inference_mode()
def main() -> None:
    """Time both implementations alternately and print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--turns", type=int, default=10)
    args = parser.parse_args()
    network = load_mini_checkpoint(args.model, device=torch.device("cpu")).denoiser
    config = network.config
    rng = np.random.default_rng(0)
    clip = ClipFeatures(
        duration_s=24.0,
        peaks_s=np.sort(rng.uniform(0, 24, 40)),
        strengths=rng.uniform(0.5, 1, 40),
        energy=rng.uniform(0, 1, 384),
    )
    one = build_condition(
        clip, 0, config.window_frames, note_latent_channels=config.note_latent_channels
    )
    both = collate_conditions([one, one])
    torch.manual_seed(0)
    x = torch.randn(2, config.latent_channels, config.window_frames)
    level, dropped = torch.zeros(2), torch.tensor([False, True])
    outputs: dict[str, Tensor] = {}
    shortest_s = {"written out": np.inf, "fused": np.inf}
    for _ in range(args.turns + 1):
        for name, convert in (
            ("written out", restore_unfused),
            ("fused", fuse_attention_and_norms),
        ):
            convert(network.unet)
            network(x, level, both, dropped)
            started = time.perf_counter()
            outputs[name] = network(x, level, both, dropped)
            shortest_s[name] = min(shortest_s[name], time.perf_counter() - started)
    unfused_output, fused_output = outputs["written out"], outputs["fused"]
    difference = float((unfused_output - fused_output).norm() / unfused_output.norm())
    print(
        f"{os.cpu_count()} cores, torch {torch.__version__}, {torch.get_num_threads()} threads,"
        f" {args.turns} turns"
    )
    for name, seconds in shortest_s.items():
        print(f"{name:12} {1000 * seconds:6.0f} ms")
    print(
        f"ratio {shortest_s['written out'] / shortest_s['fused']:.2f};"
        f" relative difference {difference:.0e}"
    )


if __name__ == "__main__":
    main()
